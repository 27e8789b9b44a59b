# SPDX-License-Identifier: Apache-2.0
"""What every test lives under: no descriptor is left behind; and brokers to talk to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privcmd import Client
from privcmd.broker import PrivateBroker
from support import descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator


HERE = Path(__file__).resolve().parent
THOROUGH = (
    "cli/test_messages.py",
    "clients/c/test_aarch64.py",
    "clients/c/test_builds.py",
    "clients/c/test_checkers.py",
    "clients/c/test_findings.py",
    "clients/python/test_demo.py",
    "history",
    "model/test_laws_alone.py",
    "model/test_side_by_side.py",
    "mutants",
    "oracle",
    "packaging",
    "programs",
    "replacement",
    "server/test_crashes.py",
    "server/test_failing_calls.py",
    "sim/test_allocation.py",
    "sim/test_history.py",
    "sim/test_seeds.py",
    "test_examples.py",
    "test_site.py",
)
"""Folders and files whose tests are ``thorough``: two thirds of the time of the whole suite."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what ``make check`` leaves to ``make test``."""
    thorough = {HERE / path for path in THOROUGH}
    assert all(path.exists() for path in thorough), "a path of THOROUGH is gone: name the tests as they are called now"
    for item in items:
        if thorough & {item.path, *item.path.parents}:
            item.add_marker(pytest.mark.thorough)


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    """Fail a test that leaves a descriptor open."""
    before = descriptors.open_now()
    yield
    left = descriptors.left_since(before)
    assert not left, f"descriptors left open: {left}"


@pytest.fixture
def broker() -> Iterator[PrivateBroker]:
    """A broker of this test's own on a small machine, all laws checked after each request."""
    with PrivateBroker("[machine]\nmemory_mib = 512\n", args=("--paranoid",)) as private:
        yield private


@pytest.fixture
def client(broker: PrivateBroker) -> Iterator[Client]:
    """A connection to it."""
    with Client(broker.path) as connected:
        yield connected
