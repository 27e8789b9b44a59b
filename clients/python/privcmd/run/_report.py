# SPDX-License-Identifier: Apache-2.0
"""How a program ended, and what is said of it.

Nothing is imported for a program of which there is nothing to say.
"""

from __future__ import annotations

import contextlib
import os
import sys

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from privcmd._answers import Finding
    from privcmd.faults import InjectedFault
    from privcmd.run._background import Left
    from privcmd.run._leaks import Leak

LEAKED = "mapping-leaked"
"""The kind of finding that the report of leaks tells more about."""


REACH = "reach-a-program"
"""The page about programs that preloading does not reach."""


class End:
    """How a program ended.

    Attributes:
        status: Its exit status, or minus the signal that ended it.
        running: Processes that it left running, and that had to be ended.
        leaks: Mappings that it left behind.
        findings: What it did that a real host lets pass in silence, as ``findings.list`` answers it.
        faults: The rules by which its requests failed.
        unanswered: What of Xen's the programs on the host asked for meanwhile and did not get, and how often.
        n_leaks_dropped: How many mappings, or notices of them, the broker has not told of.
        n_findings_dropped: How many more findings there were than the broker keeps.
        asked: Whether anybody asked anything of the host; True also when that is not known.
        unknown: Why all the rest is not known; empty when it is.
    """

    def __init__(self, status: int, running: list[Left]) -> None:
        self.status = status
        self.running = running
        self.leaks: list[Leak] = []
        self.findings: list[dict[str, Any]] = []
        self.faults: list[InjectedFault] = []
        self.unanswered: dict[str, int] = {}
        self.n_leaks_dropped = 0
        self.n_findings_dropped = 0
        self.asked = False
        self.unknown = ""

    def say(self, *, as_json: bool) -> None:
        """Say it on standard error, as lines for people, or as one line of JSON."""
        # What the program wrote there last need not have ended with its line.
        text = "\n" + self._json() if as_json else "".join(f"privcmdctl: {one}\n" for one in self._sentences())
        if self.unknown:
            text = f"privcmdctl: what the program left mapped is not known: {self.unknown}\n{text}"
        if text:
            with contextlib.suppress(OSError):  # nobody reads it, and the program's end is what counts
                sys.stderr.write(text)
                sys.stderr.flush()

    def _sentences(self) -> Iterator[str]:
        """What is to be said, one by one. Leaks are findings told better.

        Xen's own tools ask for what they can do without, so what was not answered is said of a program that failed.
        """
        for leak in self.leaks:
            yield f"still mapped: {leak}"
        if self.n_leaks_dropped:
            yield f"still mapped: perhaps {self.n_leaks_dropped} more, which the broker has not told of"
        for one in self.running:
            yield f"did not end, and was ended: {one}"
        if self.findings:
            from privcmd.run._findings import paragraph  # noqa: PLC0415 - slow to import

            yield from (paragraph(finding) for finding in self._typed() if finding.kind != LEAKED)
        if self.n_findings_dropped:
            from privcmd.run._findings import not_kept  # noqa: PLC0415 - slow to import

            yield not_kept(self.n_findings_dropped)
        if self.unanswered and (self.status or "errors" in os.environ.get("PRIVCMDD_SAY", "")):
            from privcmd.run._unanswered import most_often, sentence  # noqa: PLC0415 - slow to import

            yield sentence(most_often(self.unanswered))
        if self.status > 0 and not self.asked and not self.unknown:
            from privcmd.run._explain import hint  # noqa: PLC0415 - slow to import

            yield (
                "no Xen device was opened: the program failed before that, or the shim does not reach it (system calls "
                "without libc, a static or setuid program below it, an environment that was emptied); see "
                f"{hint(REACH)}"
            )
        for rule in self.faults:
            yield f"fault {rule}: seen {rule.seen}, fired {rule.fired}{_never(rule)}"

    def _typed(self) -> list[Finding]:
        """The findings as values."""
        from privcmd._answers import Finding  # noqa: PLC0415 - slow to import
        from privcmd._forms import pick  # noqa: PLC0415

        return [pick(Finding, row) for row in self.findings]

    def _json(self) -> str:
        """The same as one line of JSON."""
        import json  # noqa: PLC0415 - slow to import
        from dataclasses import asdict  # noqa: PLC0415

        from privcmd.run._unanswered import most_often  # noqa: PLC0415

        status = self.status
        said = {"status": None, "signal": -status} if status < 0 else {"status": status, "signal": None}
        parts = {
            "leaks": [one.as_map() for one in self.leaks],
            "findings": [asdict(one) for one in self._typed()],
            "dropped": {"leaks": self.n_leaks_dropped, "findings": self.n_findings_dropped},
            "faults": [asdict(one) for one in self.faults],
            "unanswered": most_often(self.unanswered),
            "asked": self.asked,
            "running": [{"pid": one.pid, "command": one.command} for one in self.running],
        }
        return json.dumps(said | parts) + "\n"


def _never(rule: InjectedFault) -> str:
    """Why a rule may never have made anything fail; empty for one that has."""
    if rule.fired:
        return ""
    why = "too few of what it is about came" if rule.seen else "nothing came that it is about: is the spelling right?"
    return f"; it never made anything fail: {why}"
