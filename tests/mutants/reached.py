# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that notes which test runs which line, and how long each takes: so few tests are run for a mutant."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import coverage
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

OUTPUT = "PRIVCMDD_REACHED"
ROOTS = "PRIVCMDD_REACHED_ROOTS"

seconds: dict[str, float] = defaultdict(float)
measured = coverage.Coverage(data_file=None, branch=False, source=os.environ.get(ROOTS, "").split(), config_file=False)


def pytest_configure() -> None:
    """Begin before anything of ours is imported."""
    measured.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What runs from here is run by this test."""
    measured.switch_context(item.nodeid)
    done = yield
    measured.switch_context("")
    return done


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Its time, with what it sets up."""
    seconds[report.nodeid] += report.duration


def pytest_sessionfinish() -> None:
    """Write it down: tests by their places in a list."""
    measured.stop()
    tests = sorted(seconds)
    place = {test: n for n, test in enumerate(tests)}
    data = measured.get_data()
    lines = {
        os.path.relpath(file): {
            str(line): sorted(place[test] for test in by if test) for line, by in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    Path(os.environ[OUTPUT]).write_text(
        json.dumps({"seconds": [[test, seconds[test]] for test in tests], "lines": lines})
    )
