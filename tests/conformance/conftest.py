# SPDX-License-Identifier: Apache-2.0
"""One live broker for all clients of other people."""

from collections.abc import Iterator

import pytest

from privcmd import PrivateBroker


@pytest.fixture(scope="module")
def path() -> Iterator[str]:
    """Start a broker with all laws checked, of the release whose answers are the golden ones; its socket."""
    with PrivateBroker('[host]\nxen = "4.17"\n', ("--paranoid", "--set", "machine.memory_mib=128")) as broker:
        yield broker.path
