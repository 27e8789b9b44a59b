# SPDX-License-Identifier: Apache-2.0
"""Findings for people: a paragraph each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from privcmd.run.explain import hint

if TYPE_CHECKING:
    from privcmd.client import Client
    from privcmd.results import Finding

LEAKED: Final = "mapping-leaked"
"""The kind that the report of leaks tells more about."""


def of_programs(client: Client, token: str) -> list[Finding]:
    """What was found of clients that name a token in their ``hello``; findings of other programs are left out."""
    return [finding for finding in client.findings() if token in finding.client]


def paragraph(finding: Finding) -> str:
    """One finding: what, who, and where to read on."""
    times = f" ({finding.count} times)" if finding.count > 1 else ""
    who = f"process {finding.pid} ({finding.client})" if finding.client else f"process {finding.pid}"
    return (
        f"{finding.kind}{times}: {finding.text}\n"
        f"    {who}, {finding.method} (request {finding.request} of its connection); see {hint(finding.kind)}"
    )
