# SPDX-License-Identifier: Apache-2.0
"""One broker for all tests of the client library or of the command line, checked for leftovers after each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from privcmd import Client
from privcmd.broker import PrivateBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """\
[machine]
memory_mib = 1024
gfns_per_domain = 1048576
"""


@pytest.fixture(scope="session")
def house() -> Iterator[PrivateBroker]:
    """A broker with a small machine, all laws checked after each request."""
    with PrivateBroker(CONFIG, ("--paranoid",)) as private:
        yield private
        assert private.terminate() == 0, private.output


@pytest.fixture
def broker(house: PrivateBroker) -> Iterator[PrivateBroker]:
    """The same; after the test no domain, mapping, object or connection may be left in it."""
    yield house
    with Client(house.path) as check:
        for domain in check.domains.list():
            check.domains.destroy(domain.dom)
        stats = check.stats()
        while stats["broker"]["connections"] > 1:  # it may still be reading that they have ended
            stats = check.stats()
        left = (stats["objects"]["alive"], stats["mappings"]["frames"], stats["machine"]["domains"])
        assert left == (0, 0, 0), stats
        assert stats["broker"]["faults"] == 0, house.output


@pytest.fixture
def client(broker: PrivateBroker) -> Iterator[Client]:
    """A connection to it."""
    with Client(broker.path, timeout_s=60) as connected:
        yield connected


@pytest.fixture
def guest(client: Client) -> int:
    """An HVM domain of 64 pages, with a hole at 16 to 19."""
    return client.domains.create("hvm", 64, ranges=[(0, 16), (20, 48)])
