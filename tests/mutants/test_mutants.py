# SPDX-License-Identifier: Apache-2.0
"""The mutants are in order: each applies, is complete, and stands on its page; and their runner tells ends apart.

That the tests kill them is what ``make mutants`` shows; it takes minutes.
"""

from __future__ import annotations

import difflib
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from mutants.page import PAGE, law_names, render
from mutants.patches import ROOT, Mutant, all_mutants, ambiguous, apply, read
from mutants.run import BROKEN, KILLED, SURVIVED, judge

if TYPE_CHECKING:
    from pathlib import Path

MUTANTS = all_mutants()
PMAP = "broker/privcmdd/model/mm/pmap.py"
TESTED_BY = "tests/model/mm/test_pmap.py::test_tables_of_every_level_go_with_their_last_entry"
CHANGES = {
    "equivalent": ("    del tables[number]\n", "    tables.pop(number)\n", SURVIVED),
    "wrong": ("    tables[number] -= 1\n", "    tables[number] -= 2\n", KILLED),
    "no Python": ("    del tables[number]\n", "    del tables[number\n", BROKEN),
    "no import": ("import numpy as np\n", "import numpy as np\nimport no_such_module\n", BROKEN),
    "no name": ("    del tables[number]\n", "    del no_such_name[number]\n", BROKEN),
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
@pytest.mark.skipif(shutil.which("git") is None, reason="NOT TESTED: the mutants' patches; missing: git")
def test_a_mutant_applies_at_one_place(mutant: Mutant) -> None:
    """Whoever changes the code under a mutant makes the mutant anew."""
    assert apply(mutant, ROOT, check_only=True) is None
    assert ambiguous(mutant, ROOT) == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_that_a_mutant_names_are_there(mutant: Mutant) -> None:
    """And in no folder that may be skipped."""
    for test in mutant.killers:
        file, _, name = test.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")

        assert re.search(rf"^(async )?def {re.escape(name.partition('[')[0]) or 'test_'}", text, re.MULTILINE)
        assert not file.startswith(("tests/container", "tests/programs", "tests/oracle"))


def test_every_law_has_its_mutant() -> None:
    """A law that no mutant breaks is no law."""
    assert len(law_names()) >= 9
    assert {mutant.law for mutant in MUTANTS} - {None} == law_names().keys()


def test_the_page_is_what_the_headers_say() -> None:
    """Made anew by ``python tests/mutants/run.py --page``."""
    assert PAGE.read_text(encoding="utf-8") == render(MUTANTS)


def test_a_header_with_a_line_missing_is_named(tmp_path: Path) -> None:
    """A patch that does not say what it is for is none of ours."""
    path = tmp_path / "some.patch"
    path.write_text("Class: x\nSource: y\nKilled-by: z\n\ndiff --git a/f b/f\n+++ b/f\n")

    with pytest.raises(ValueError, match=r"some\.patch: the header has no Bug"):
        read(path)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.skipif(shutil.which("git") is None, reason="NOT TESTED: the mutants' patches; missing: git")
def test_the_runner_tells_the_ends_apart(change: str, tmp_path: Path) -> None:
    """A patch that changes nothing survives; one that breaks the program instead of an answer is not called killed."""
    old, new, end = CHANGES[change]
    before = (ROOT / PMAP).read_text(encoding="utf-8")
    assert before.count(old) == 1
    rows = difflib.unified_diff(
        before.splitlines(keepends=True),
        before.replace(old, new).splitlines(keepends=True),
        f"a/{PMAP}",
        f"b/{PMAP}",
        n=1,
    )
    header = f"Class: x\nSource: y\nBug: z\nKilled-by: {TESTED_BY}\n\ndiff --git a/{PMAP} b/{PMAP}\n"
    path = tmp_path / "some.patch"
    path.write_text(header + "".join(rows))

    assert judge(read(path), suite=False).end == end
