# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that tells the runner what it saw: which test failed with what, and which code was under test.

A mutant that cannot be imported fails every test and proves nothing, so only failures that say "this answer is wrong"
count: an assertion, a law, an answer where a refusal was due or the other way round.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from privcmd import PrivcmdError
from privcmdd.model.errors import LawBroken, ModelError

if TYPE_CHECKING:
    from collections.abc import Generator

VERDICTS = (AssertionError, LawBroken, ModelError, PrivcmdError, pytest.fail.Exception)
NO_VERDICTS = (ImportError, SyntaxError, NameError, AttributeError, TypeError)
TESTS = Path(__file__).resolve().parent.parent
REPORT = "PRIVCMDD_MUTANT_REPORT"
MODULES = "PRIVCMDD_MUTANT_MODULES"

seen: dict[str, Any] = {"failed": [], "n_passed": 0, "broken": [], "origins": {}}


def leaf(problem: BaseException) -> BaseException:
    """The first of a group of exceptions."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


def is_verdict(problem: BaseException) -> bool:
    """Whether an exception says that an answer is wrong: by its type, or because the test itself stumbled over one."""
    if isinstance(problem, VERDICTS):
        return True
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    by_test = trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(TESTS)
    return by_test and not isinstance(problem, NO_VERDICTS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Note how a test ended."""
    report = yield
    if report.failed and call.excinfo is not None:
        problem = leaf(call.excinfo.value)
        seen["failed"].append(
            {
                "test": item.nodeid,
                "what": type(problem).__name__,
                "verdict": is_verdict(problem),
                "law": problem.law if isinstance(problem, LawBroken) else None,
                "text": (str(problem).strip().splitlines() or [""])[0],
            }
        )
    elif report.passed and report.when == "call":
        seen["n_passed"] += 1
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A test file that cannot be imported."""
    if report.failed:
        seen["broken"].append(f"{report.nodeid}: {report.longreprtext.strip().splitlines()[-1]}")


def pytest_sessionfinish() -> None:
    """Tell the runner, and where the mutated modules come from, here and in every process started with this path."""
    for name in os.environ[MODULES].split():
        found = importlib.util.find_spec(name)
        seen["origins"][name] = found and found.origin
    Path(os.environ[REPORT]).write_text(json.dumps(seen), encoding="utf-8")
