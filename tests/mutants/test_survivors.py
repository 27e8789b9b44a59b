# SPDX-License-Identifier: Apache-2.0
"""Random mutants: what can be planted in a text, which tests are run for one, and that the ends are told apart."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from mutants import in_c, in_python
from mutants.change import Change
from mutants.patches import ROOT
from mutants.survivors import KILLED, LIVED, PACES, ROOMS, Reach, Trees, all_changes, equivalents, key

if TYPE_CHECKING:
    from pathlib import Path

PMAP = "broker/privcmdd/model/mm/pmap.py"
TESTED_BY = "tests/model/mm/test_pmap.py::test_tables_of_every_level_go_with_their_last_entry"
PYTHON = '''
def count(xs: list[int] | None = None) -> int:
    """Not 1."""
    assert xs is not None, f"{1 + 2}"
    if not xs:
        raise ValueError("a" + "b")
    self.n += 1
    return min(len(xs), 7)
'''
IN_PYTHON = """
if xs:
if False:
if True:
pass
pass
self.n -= 1
self.n += 2
return max(len(xs), 7)
return min(len(xs), 8)
"""
C = """
static const int most = 9;
static int count(const int *xs, int n)
{
    /* 1 < 2 */
    if (n < 0 || !xs)
        return -1;
    tell("1", n);
    return *xs + n;
}
"""
IN_C = """
if (0)
if (1)
if (n <= 0 || !xs)
if (n < 1 || !xs)
if (n < 0 && !xs)
if (n < 0 || xs)
return -2;
;
return *xs - n;
"""


def rows(changes: list[Change], text: str) -> list[str]:
    """The changed lines."""
    return [change.rows(text)[1] for change in changes]


def test_what_is_planted_in_python() -> None:
    """Guards, bounds, counts and effects; not types, docstrings, assertions or the texts of errors."""
    assert rows(in_python.changes("f.py", PYTHON), PYTHON) == IN_PYTHON.strip().splitlines()


def test_what_is_planted_in_c() -> None:
    """The same, by tokens, within functions; not in comments and texts."""
    assert rows(in_c.changes("f.c", C), C) == IN_C.strip().splitlines()


def test_every_change_can_be_undone_and_does_something() -> None:
    """A mutant is another text of one file of a room whose tests are known."""
    for room in ROOMS:
        for change in all_changes(ROOT / room)[::97]:
            text = (ROOT / change.file).read_text(encoding="utf-8")
            before, after = change.rows(text)

            assert before != after
            assert change.file.startswith(room)
            assert change.line(text) in change.lines
            if change.file.endswith(".py"):
                compile(change.applied(text), change.file, "exec")


def test_the_quickest_file_that_runs_a_line_is_tried_first() -> None:
    """Tests of one file stay together: what its fixtures build is built once."""
    reach = Reach({"a::1": 3.0, "b::1": 1.0, "b::2": 0.5, "c::1": 0.1})
    reach.lines["f.py", 2] = {"a::1", "b::1"}
    reach.lines["f.py", 3] = {"b::2", "b::1"}

    assert reach.tests(Change("f.py", 0, 1, "", range(2, 4))) == ["b::2", "b::1", "a::1"]
    assert reach.tests(Change("f.py", 0, 1, "", range(5, 6))) == []


def test_mutants_written_down_as_equivalent_are_still_possible() -> None:
    """A line of the list that no change makes any more is out of date."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in {each.split()[0] for each in equivalents()}}
    possible = {key(change, text) for name, text in texts.items() for change in PACES[(ROOT / name).suffix](name, text)}

    assert [each for each in equivalents() if each not in possible] == []


@pytest.mark.parametrize(("new", "end"), [("tables.pop(number)", LIVED), ("tables[number] = 0", KILLED)])
def test_the_ends_are_told_apart(new: str, end: str, tmp_path: Path) -> None:
    """A mutant that changes nothing lives, one that changes an answer is killed."""
    text = (ROOT / PMAP).read_text(encoding="utf-8")
    at = text.index("del tables[number]")
    reach = Reach({TESTED_BY: 1.0})
    reach.lines[PMAP, 1] = {TESTED_BY}

    with Trees(tmp_path, 1) as trees:
        change = Change(PMAP, at, at + len("del tables[number]"), new, range(1, 2))
        assert trees.judge(change, reach)[0] == end


@pytest.mark.parametrize(("new", "end"), [("0x090", LIVED), ("0x80", KILLED)])
@pytest.mark.skipif(shutil.which("cc") is None, reason="NOT TESTED: mutants of the C client; missing: gcc")
def test_the_ends_are_told_apart_in_c(new: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where tests run programs under sanitizers, which take more addresses than memory."""
    file, old = "clients/c/msgpack.c", "0x90"
    monkeypatch.setitem(ROOMS, "clients/c", ("tests/clients/c/test_codec.py",))
    at = (ROOT / file).read_text(encoding="utf-8").index(old)

    with Trees(tmp_path, 1) as trees:
        assert trees.judge(Change(file, at, at + len(old), new, range(1, 2)), Reach())[0] == end
