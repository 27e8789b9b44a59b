# SPDX-License-Identifier: Apache-2.0
"""Hold the answers of one host against those that were recorded on another, step by step.

Both files are what ``tests/oracle/probe.c`` writes: a JSON object a line, one for each step of a case. A recording may
hold several runs; a run is told from others by the kind of its dom0 and of its target domain. Compared is what a
program can see of a call: its result, its errors, and what its memory shows afterwards. Not compared is what depends
on the machine: addresses, times, frame numbers, log lines.

From the repository's root:

    .venv/bin/python tests/oracle/compare.py RECORDED OURS --dom0 PV --target hvm-hap

Each field that differs is a line, then each case with a step that differs, then the sum. The exit status is 0 when all
steps agree, else 1.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

DOM0S: Final = ("PV", "PVH")
TARGETS: Final = ("pv", "hvm-hap", "hvm-shadow", "pvh-hap")

RUN: Final = {"config", "dom0", "linux", "target", "case", "step"}
"""Fields that say which run and which step a line belongs to."""

MACHINE: Final = {
    *("domid", "arr", "arr_raw_after", "new_frame", "old_frame"),  # numbers that the machine gives out
    "addr",
    *("ms", "took_ms", "call_ms", "handler_ran_at_ms", "timer_ms"),
    *("maps", "smaps", "VmFlags"),  # what /proc says of a mapping
}
"""Fields that depend on the machine."""

NOT_COMPARED: Final = {
    *("host", "setup", "teardown"),  # not cases, but what is around them
    *("time", "big", "manyvma"),  # speed and sizes of the machine
    "self",  # frames of the program's own, found by their physical addresses
    "compat",  # calls of a 32-bit program
}
"""Cases that are left out."""

LOGS: Final = "logs"
"""The step, in each case, that holds what kernel and hypervisor have logged meanwhile."""


class Step(NamedTuple):
    """A step of a run."""

    case: str
    name: str
    nth: int
    """How many steps of this case and name came before it."""

    def __str__(self) -> str:
        """Return its name on the page of differences, where steps of one name have one line."""
        return f"{self.case} | {self.name}"


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    Attributes:
        n_steps: How many steps were recorded.
        differences: For each step that differs a line for each field that does.
    """

    n_steps: int
    differences: dict[Step, list[str]]

    @property
    def n_agree(self) -> int:
        """How many steps agree."""
        return self.n_steps - len(self.differences)

    def report(self) -> str:
        """Every difference, the number of them for each case, and the sum."""
        cases = Counter(step.case for step in self.differences)
        return "\n".join(
            [
                *(f"{step} | {line}" for step, lines in self.differences.items() for line in lines),
                *(f"{case}: {n} differ" for case, n in cases.items()),
                f"{self.n_agree} of {self.n_steps} steps agree",
            ]
        )


def steps_of(recording: Path, dom0: str, target: str, without: Collection[str] = ()) -> dict[Step, dict[str, object]]:
    """Read the steps of one run, each with the fields that are compared, in the order in which they were made.

    Args:
        recording: A file of JSON lines.
        dom0: The kind of dom0, one of ``DOM0S``.
        target: The kind of the target domain, one of ``TARGETS``.
        without: Cases that are left out, beyond ``NOT_COMPARED``.

    Raises:
        ValueError: A line is no JSON object; the message names the line.
    """
    steps: dict[Step, dict[str, object]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for number, line in enumerate(recording.read_text(encoding="ascii").splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{recording}, line {number}: {error}") from error
        if (row.get("dom0"), row.get("target")) != (dom0, target) or row["case"] in NOT_COMPARED.union(without):
            continue
        name = row.get("step", "")
        if name == LOGS:
            continue
        step = Step(row["case"], name, seen[row["case"], name])
        seen[row["case"], name] += 1
        steps[step] = {field: value for field, value in row.items() if field not in RUN | MACHINE}
    return steps


def compare(recorded: Path, ours: Path, dom0: str, target: str, without: Collection[str] = ()) -> Comparison:
    """Hold the steps of one run against the same ones of a recording, but for cases that are left out.

    Steps that only ``ours`` has are not looked at: a newer probe may make more of them.

    Raises:
        ValueError: A line is no JSON object, or nothing is recorded for this dom0 and target.
    """
    real, got = (steps_of(file, dom0, target, without) for file in (recorded, ours))
    if not real:
        raise ValueError(f"{recorded} has no step of a {dom0} dom0 with a target that is {target}")
    return Comparison(
        len(real),
        {step: lines for step, fields in real.items() if (lines := _differences(fields, got.get(step)))},
    )


def _differences(real: dict[str, object], ours: dict[str, object] | None) -> list[str]:
    """A line for each field that differs."""
    if ours is None:
        return ["ours has no such step"]
    return [
        f"{field}: recorded {real.get(field)}, ours {ours.get(field)}"
        for field in sorted(real.keys() | ours.keys())
        if real.get(field) != ours.get(field)
    ]


def main() -> int:
    """Compare two files; what is printed, and the exit status, is said at the top."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recorded", type=Path)
    parser.add_argument("ours", type=Path)
    parser.add_argument("--dom0", choices=DOM0S, default="PV")
    parser.add_argument("--target", choices=TARGETS, default="hvm-hap")
    parser.add_argument("--without", metavar="CASE", action="append", default=[], help="a case to leave out")
    args = parser.parse_args()
    try:
        found = compare(args.recorded, args.ours, args.dom0, args.target, args.without)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(found.report())
    return bool(found.differences)


if __name__ == "__main__":
    raise SystemExit(main())
