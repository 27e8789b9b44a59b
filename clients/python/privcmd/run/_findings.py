# SPDX-License-Identifier: Apache-2.0
"""Findings for people: a paragraph each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privcmd.run._explain import hint

if TYPE_CHECKING:
    from privcmd.results import Finding


def not_kept(n: int) -> str:
    """A sentence about findings that the broker had no room for."""
    return f"{n} finding{'s' * (n != 1)} more than are kept: only the first ones are listed"


def paragraph(finding: Finding) -> str:
    """One finding: what, who, and where to read on."""
    times = f" ({finding.count} times)" if finding.count > 1 else ""
    who = f"process {finding.pid} ({finding.client})" if finding.client else f"process {finding.pid}"
    return (
        f"{finding.kind}{times}: {finding.text}\n"
        f"    {who}, {finding.method} (request {finding.request} of its connection); see {hint(finding.kind)}"
    )
