# SPDX-License-Identifier: Apache-2.0
"""Two recordings held against each other: what counts as a difference, and what does not."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from oracle import compare
from oracle.compare import Step

if TYPE_CHECKING:
    from pathlib import Path

ROW = {"config": "c", "dom0": "PV", "linux": "6.1", "target": "pv", "case": "v2", "step": "good", "ret": 0}


def recording(directory: Path, name: str, *rows: dict[str, object]) -> Path:
    """A file of these steps, each with the fields of ``ROW`` that it does not name."""
    path = directory / name
    path.write_text("".join(f"{json.dumps({**ROW, **row})}\n" for row in rows))
    return path


def test_steps_agree_whatever_depends_on_the_machine(tmp_path: Path) -> None:
    """Another host has other times, addresses and frame numbers, and calls itself otherwise."""
    one = recording(tmp_path, "one", {"config": "real", "took_ms": 7, "addr": "0x1000", "arr": ["0x5"]})
    other = recording(tmp_path, "other", {"config": "ours", "took_ms": 9, "addr": "0x2000", "arr": ["0x6"]})

    found = compare.compare(one, other, "PV", "pv")

    assert (found.n_steps, found.n_agree, found.differences) == (1, 1, {})


def test_a_field_that_differs_is_named_with_both_values(tmp_path: Path) -> None:
    """Also one that only one of the two has."""
    one = recording(tmp_path, "one", {"ret": 0}, {"step": "more", "err": [0]})
    other = recording(tmp_path, "other", {"ret": -1}, {"step": "more"})

    found = compare.compare(one, other, "PV", "pv")

    assert found.differences == {
        Step("v2", "good", 0): ["ret: recorded 0, ours -1"],
        Step("v2", "more", 0): ["err: recorded [0], ours None"],
    }
    assert found.report().splitlines() == [
        "v2 | good | ret: recorded 0, ours -1",
        "v2 | more | err: recorded [0], ours None",
        "v2: 2 differ",
        "0 of 2 steps agree",
    ]


def test_steps_of_one_name_are_told_apart_by_their_order(tmp_path: Path) -> None:
    """The second of them that is missing is missed."""
    one = recording(tmp_path, "one", {"ret": 0}, {"ret": 1})
    other = recording(tmp_path, "other", {"ret": 0})

    found = compare.compare(one, other, "PV", "pv")

    assert found.differences == {Step("v2", "good", 1): ["ours has no such step"]}


def test_other_runs_logs_and_the_machines_own_cases_are_left_out(tmp_path: Path) -> None:
    """A file may hold runs of several kinds."""
    rows: list[dict[str, object]] = [
        {},
        {"dom0": "PVH"},
        {"target": "hvm-hap"},
        {"step": "logs"},
        {"case": "time"},
        {"case": "setup"},
    ]

    assert list(compare.steps_of(recording(tmp_path, "one", *rows), "PV", "pv")) == [Step("v2", "good", 0)]


def test_a_case_can_be_left_out(tmp_path: Path) -> None:
    """Whoever could not run it is not told that it differs."""
    one = recording(tmp_path, "one", {}, {"case": "priv"})
    other = recording(tmp_path, "other", {})

    found = compare.compare(one, other, "PV", "pv", ["priv"])

    assert (found.n_steps, found.n_agree) == (1, 1)


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    """Nobody takes it for agreement that no step was recorded."""
    one = recording(tmp_path, "one", {})

    with pytest.raises(ValueError, match="no step of a PVH dom0"):
        compare.compare(one, one, "PVH", "pv")


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    """A recording that was cut short is not compared as far as it goes."""
    one = recording(tmp_path, "one", {})
    one.write_text(one.read_text() + '{"config": "c", "do')

    with pytest.raises(ValueError, match=f"{one}, line 2: "):
        compare.compare(one, one, "PV", "pv")


@pytest.mark.parametrize(("ret", "status"), [(0, 0), (-1, 1)])
def test_the_exit_status_says_whether_all_agree(tmp_path: Path, ret: int, status: int) -> None:
    """As a command it prints the report."""
    files = [recording(tmp_path, "one", {}), recording(tmp_path, "other", {"ret": ret})]
    command = [sys.executable, compare.__file__, *map(str, files), "--target", "pv"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == status
    assert done.stdout.endswith(f"{1 - status} of 1 steps agree\n")
