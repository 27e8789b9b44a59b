# SPDX-License-Identifier: Apache-2.0
"""Rules of injection as values, and their forms in the protocol."""

from __future__ import annotations

import errno as errnos
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PPM = 1_000_000


@dataclass(slots=True)
class InjectedFault:
    """A rule of injection, and how often it has fired.

    Attributes:
        id: The rule's number.
        seen: Matches so far: good frames that were looked up, or requests.
        fired: How many of the matches it made fail.
        connection: The connection with which the rule ends; None when it is kept.
        rule: The rule in its form in the protocol.
        job: The job whose clients it is about, and with which it ends at the latest; empty for none.
    """

    id: int
    seen: int = 0
    fired: int = 0
    connection: int | None = None
    rule: Mapping[str, Any] | None = None
    job: str = ""

    def __str__(self) -> str:
        """The rule in the words of ``privcmdctl fault add`` and ``run --fault``."""
        return ",".join(word for key, value in (self.rule or {}).items() for word in words(key, value))


def errno_name(errno: str | int) -> str:
    """The name of an errno, as the protocol has it."""
    return errnos.errorcode.get(errno, str(errno)) if isinstance(errno, int) else errno


def runs(frames: Iterable[int | range]) -> list[dict[str, int]]:
    """Frames as ranges; consecutive frames become one range."""
    found: list[dict[str, int]] = []
    for part in [frames] if isinstance(frames, range) and frames.step == 1 else frames:
        frame, n_frames = (part.start, len(part)) if isinstance(part, range) else (part, 1)
        if found and frame == found[-1]["gfn"] + found[-1]["npages"]:
            found[-1]["npages"] += n_frames
        else:
            found.append({"gfn": frame, "npages": n_frames})
    return found


def words(key: str, value: Any) -> list[str]:
    """A part of a rule as options without dashes."""
    if key == "gfns":
        return [f"gfns={run['gfn']:#x}+{run['npages']:#x}" for run in value]
    if key == "probability_ppm":
        return [f"probability={value / PPM:g}"]
    if key in ("when", "drop"):
        return ["after" if key == "when" else key]
    return [f"{'delay' if key == 'delay_ms' else key.replace('_', '-')}={value}"]


def settle(rule: InjectedFault, rules: list[InjectedFault]) -> None:
    """Copy the last ``seen`` and ``fired`` of a rule into ``rule``, if ``rules`` still has it."""
    for one in rules:
        if one.id == rule.id:
            rule.seen, rule.fired, rule.connection, rule.rule = one.seen, one.fired, one.connection, one.rule
