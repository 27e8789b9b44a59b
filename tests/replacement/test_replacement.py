# SPDX-License-Identifier: Apache-2.0
"""The protocol of replacement, searched by Spin: no law can be broken, and each of the planted bugs breaks one.

``make model-check`` searches more of it, and so does ``PROFILE=long``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from replacement.check import (
    LIVENESS,
    SCOPES,
    STARVING,
    Bug,
    Checker,
    Outcome,
    Program,
    Scope,
    bug_row,
    bugs,
    missing,
    scope_row,
)
from support.profiles import PROFILE

PAGE = Path(__file__).resolve().parents[2] / "docs/explanation/replacement-model.md"
SEARCHED = [scope for scope in SCOPES if PROFILE.name == "long" or not scope.thorough]
BUGS = bugs()
LIVE = Program(liveness=True)
STARVING_BUGS = [bug for bug in BUGS if bug.name in STARVING]
Found = dict[tuple[str, Program], Outcome]


def name_of(case: Scope | Bug) -> str:
    return case.name


@pytest.fixture(scope="module")
def found() -> Found:
    """What all searches find, made two at a time."""
    if tools := missing():
        pytest.skip(f"NOT TESTED: the model of replacement; missing: {', '.join(tools)} (apt-get install spin gcc)")
    with Checker() as checker, ThreadPoolExecutor(2) as pool:
        list(pool.map(checker.build, dict.fromkeys(scope.program for scope in SEARCHED)))
        searches = {(scope.name, scope.program): pool.submit(checker.scope, scope) for scope in SEARCHED}
        searches |= {(bug.name, Program()): pool.submit(checker.bug, bug) for bug in BUGS}
        searches |= {(bug.name, LIVE): pool.submit(checker.starve, bug) for bug in STARVING_BUGS}
        return {which: search.result() for which, search in searches.items()}


@pytest.mark.parametrize("scope", SEARCHED, ids=name_of)
def test_no_law_is_broken(scope: Scope, found: Found) -> None:
    """Whatever clients and the domain do, in whatever order, whoever dies."""
    outcome = found[scope.name, scope.program]

    assert outcome.law is None
    assert outcome.n_states > 100_000, "next to nothing was searched"


@pytest.mark.parametrize("bug", BUGS, ids=name_of)
def test_a_planted_bug_breaks_its_law(bug: Bug, found: Found) -> None:
    """The checker can fail: each law is the one that notices some bug."""
    assert found[bug.name, Program()].law == bug.law


@pytest.mark.parametrize("bug", STARVING_BUGS, ids=name_of)
def test_a_lost_turn_starves_somebody(bug: Bug, found: Found) -> None:
    """That everybody is answered some day is a property that can be false."""
    assert found[bug.name, LIVE].law == LIVENESS


def test_every_law_of_the_model_is_broken_by_some_bug() -> None:
    """A law that no bug can break would say nothing."""
    assert {bug.law for bug in BUGS} == {"2", "3", "4", "5", "7", "8", "9", "10", "11"}


@pytest.mark.parametrize("scope", SEARCHED, ids=name_of)
def test_figures_on_the_page_are_those_of_the_search(scope: Scope, found: Found) -> None:
    """The row to paste is in the message."""
    row = scope_row(scope, found[scope.name, scope.program])

    assert row in PAGE.read_text(encoding="utf-8"), row


def test_every_bug_is_on_the_page() -> None:
    """The rows to paste are in the message."""
    page = PAGE.read_text(encoding="utf-8")
    absent = [row for row in map(bug_row, BUGS) if row not in page]

    assert not absent, "\n".join(absent)
