# SPDX-License-Identifier: Apache-2.0
"""Findings as ``privcmdctl findings`` shows them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from privcmd.run._findings import paragraph

if TYPE_CHECKING:
    from privcmd import Client

ABOUT: Final = """\
List what clients did that a real host lets pass in silence and that does harm there: one paragraph each, with the
client, the request and the section of the documentation that explains it. Findings change no answer.

A user sees the findings of the own uid; a user with the right to administer all domains sees all. The broker keeps
them until it ends, or until --clear.
"""


def listed(client: Client, *, clear: bool) -> tuple[Any, str]:
    """List the findings, and clear them if asked. Returns what to print, as a document and as text."""
    findings = client.findings()
    if clear:
        client.clear_findings()
    text = "\n".join(map(paragraph, findings))
    return {"findings": [asdict(finding) for finding in findings]}, text or "no findings"
