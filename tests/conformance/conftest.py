# SPDX-License-Identifier: Apache-2.0
"""One live broker for all clients of other people."""

from collections.abc import Iterator

import pytest

from privcmd import PrivateBroker


@pytest.fixture(scope="module")
def path() -> Iterator[str]:
    """Start a broker with the default configuration and all laws checked; its socket."""
    with PrivateBroker(args=("--paranoid", "--set", "machine.memory_mib=128")) as broker:
        yield broker.path
