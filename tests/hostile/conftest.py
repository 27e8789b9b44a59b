# SPDX-License-Identifier: Apache-2.0
"""One live broker for a whole file of attacks, and two honest clients who must not notice."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from privcmd import PrivateBroker
from support.rawclient import RawClient

CONFIG = """
paranoid = true

[machine]
memory_mib = 64  # the invariants recount every frame there is, after every request

[limits]
frames = 4096
entries = 64
objects = 64
frames_per_batch = 8192

[[access]]
uids = [0, {uid}]
rights = "admin"
domains = [7, 8]
"""


class Target:
    """The broker under attack: its socket, and what the kernel says of its process."""

    def __init__(self, broker: PrivateBroker) -> None:
        self.path = broker.path
        self._proc = Path(f"/proc/{broker.pid}")

    def connect(self) -> RawClient:
        """Open a new connection."""
        return RawClient(self.path)

    @property
    def rss_bytes(self) -> int:
        """Resident memory."""
        found = re.search(r"^VmRSS:\s+(\d+) kB$", (self._proc / "status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    @property
    def n_fds(self) -> int:
        """Open descriptors."""
        return len(list((self._proc / "fd").iterdir()))


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """Start a broker with small quotas, rights on domains 7 and 8 only, and its invariants checked throughout."""
    with PrivateBroker(CONFIG.format(uid=os.getuid() or 1)) as broker:
        yield Target(broker)
        assert "LawBroken" not in broker.output
