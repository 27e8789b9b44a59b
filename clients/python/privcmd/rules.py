# SPDX-License-Identifier: Apache-2.0
"""Rules by which requests and frames fail, as values, and the forms in which they travel."""

from __future__ import annotations

import errno as errnos
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PPM = 1_000_000


@dataclass(slots=True)
class InjectedFault:
    """A rule, and what it has done.

    Attributes:
        id: Its number.
        seen: Matches so far: good frames that were looked up, or requests.
        fired: How many of them it took.
        connection: The connection that it ends with; None when it is kept.
        rule: What it was made of, as it travels.
    """

    id: int
    seen: int = 0
    fired: int = 0
    connection: int | None = None
    rule: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        """The rule in the words of ``privcmdctl fault add`` and ``run --fault``."""
        return ",".join(word for key, value in (self.rule or {}).items() for word in words(key, value))


def errno_name(errno: str | int) -> str:
    """An errno by its name, as it travels."""
    return errnos.errorcode.get(errno, str(errno)) if isinstance(errno, int) else errno


def runs(frames: Iterable[int | range]) -> list[dict[str, int]]:
    """Frames as ranges; those that follow each other become one."""
    found: list[dict[str, int]] = []
    for part in [frames] if isinstance(frames, range) and frames.step == 1 else frames:
        frame, n_frames = (part.start, len(part)) if isinstance(part, range) else (part, 1)
        if found and frame == found[-1]["gfn"] + found[-1]["npages"]:
            found[-1]["npages"] += n_frames
        else:
            found.append({"gfn": frame, "npages": n_frames})
    return found


def words(key: str, value: Any) -> list[str]:
    """A part of a rule, as an option without its dashes."""
    if key == "gfns":
        return [f"gfns={run['gfn']:#x}+{run['npages']:#x}" for run in value]
    if key == "probability_ppm":
        return [f"probability={value / PPM:g}"]
    if key in ("when", "drop"):
        return ["after" if key == "when" else key]
    return [f"{'delay' if key == 'delay_ms' else key.replace('_', '-')}={value}"]


def settle(rule: InjectedFault, rules: list[InjectedFault]) -> None:
    """Take over what a rule has done in the end."""
    for one in rules:
        if one.id == rule.id:
            rule.seen, rule.fired, rule.connection, rule.rule = one.seen, one.fired, one.connection, one.rule
