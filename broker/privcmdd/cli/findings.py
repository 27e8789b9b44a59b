# SPDX-License-Identifier: Apache-2.0
"""Findings as ``privcmdctl findings`` shows them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from privcmd import Finding
from privcmd._forms import pick
from privcmd.run._findings import not_kept, paragraph

if TYPE_CHECKING:
    from privcmd import Client

ABOUT: Final = """\
List what clients did that a real host lets pass in silence and that does harm there: one paragraph each, with the
client, the request and the section of the documentation that explains it. Findings change no answer.

A user sees the findings of the own uid, or in a job (`privcmdctl jobs --help`) those of the job; outside, a user with
the right to administer all domains sees all. The broker keeps them until it ends, until their job ends, or until
--clear.
"""


def listed(client: Client, *, clear: bool) -> tuple[Any, str]:
    """List the findings, and clear them if asked. Returns what to print, as a document and as text."""
    answer = client.call("findings.list")
    findings = [pick(Finding, row) for row in answer["findings"]]
    dropped: int = answer["dropped"]
    if clear:
        client.clear_findings()
    text = "\n".join([*map(paragraph, findings), *([not_kept(dropped)] if dropped else [])])
    return {"findings": [asdict(finding) for finding in findings], "dropped": dropped}, text or "no findings"
