# SPDX-License-Identifier: Apache-2.0
"""What every test lives under: no descriptor is left behind; and brokers to talk to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from privcmd import Client
from privcmd.broker import PrivateBroker
from support import descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator


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
