# SPDX-License-Identifier: Apache-2.0
"""Replacing part of a mapping: one step at the broker, nothing at all when it fails."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from privcmd import PAGE_SIZE, Client, ForeignMemory, FrameError, PrivcmdError

if TYPE_CHECKING:
    from privcmd.broker import PrivateBroker

ABSENT = 17


def tagged(foreign: ForeignMemory, guest: int) -> None:
    """Fill gfns 0 to 15 and 20 to 63 with their own numbers."""
    gfns = [*range(16), *range(20, 64)]
    with foreign.map(guest, gfns) as whole:
        for page, gfn in enumerate(gfns):
            whole[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] = bytes([gfn]) * PAGE_SIZE


def test_a_part_is_replaced_in_place(client: Client, guest: int) -> None:
    """Law: the same mapping comes back, with other frames in that part and its book-keeping to match."""
    with ForeignMemory(client) as foreign:
        tagged(foreign, guest)
        with foreign.map(guest, [1, 2, 3, 4]) as mapping:
            same = foreign.map(guest, [9, 8], addr=mapping.address + PAGE_SIZE)

            assert same is mapping
            assert list(mapping.gfns) == [1, 9, 8, 4]
            assert [mapping[page * PAGE_SIZE] for page in range(4)] == [1, 9, 8, 4]
            assert client.read(mapping.address, 4 * PAGE_SIZE) == mapping[:]


def test_linux_replaces_whole_mappings(client: Client, guest: int) -> None:
    """Law: in a linux space the whole mapping can be replaced; a part of it is refused, and stays."""
    client.attach(personality="linux")
    with ForeignMemory(client) as foreign:
        tagged(foreign, guest)
        with foreign.map(guest, [1, 2]) as mapping:
            foreign.map(guest, [5, 6], addr=mapping.address)
            assert (mapping[0], mapping[PAGE_SIZE]) == (5, 6)
            with pytest.raises(PrivcmdError, match="cannot be split"):
                foreign.map(guest, [7], addr=mapping.address)
            assert client.read(mapping.address, 2 * PAGE_SIZE) == mapping[:]
            assert (mapping[0], mapping[PAGE_SIZE]) == (5, 6)


def test_a_failed_replacement_leaves_the_old(client: Client, guest: int) -> None:
    """Law: one absent frame, and neither this process nor the broker has changed anything."""
    with ForeignMemory(client) as foreign:
        tagged(foreign, guest)
        with foreign.map(guest, range(1, 5)) as mapping:
            before, entries = mapping[:], client.stats()["mappings"]

            with pytest.raises(FrameError) as caught:
                foreign.map(guest, [7, ABSENT], addr=mapping.address)

            assert caught.value.index == 1
            assert mapping[:] == before == client.read(mapping.address, 4 * PAGE_SIZE)
            assert client.stats()["mappings"] == entries
            assert list(mapping.gfns) == [1, 2, 3, 4]


def test_keeping_errors_replaces_with_holes(client: Client, guest: int) -> None:
    """Law: errors="keep" replaces as the ioctl does: failed frames become failed pages."""
    with ForeignMemory(client) as foreign:
        tagged(foreign, guest)
        with foreign.map(guest, range(1, 5)) as mapping:
            foreign.map(guest, [7, ABSENT], addr=mapping.address, errors="keep")

            assert mapping[0] == 7
            with pytest.raises(FrameError, match="EINVAL"):
                mapping.page(1)
            with pytest.raises(PrivcmdError, match="EFAULT"):
                client.read(mapping.address, 2 * PAGE_SIZE)
            foreign.map(guest, [8], addr=mapping.address + PAGE_SIZE)
            assert mapping.page(1)[0] == 8


def test_a_dying_domains_pages_outlive_a_failed_replacement(client: Client, guest: int) -> None:
    """Law: what cannot be mapped again is not given up for a replacement that fails."""
    with ForeignMemory(client) as foreign:
        tagged(foreign, guest)
        with foreign.map(guest, [3]) as mapping:
            assert client.domains.destroy(guest) == "dying"
            with pytest.raises(PrivcmdError):
                foreign.map(guest, [4], addr=mapping.address)
            assert mapping[:1] == client.read(mapping.address, 1) == b"\3"


def test_nobody_sees_half_a_replacement(broker: PrivateBroker, client: Client, guest: int) -> None:
    """Law: whoever reads the range sees all of one mapping; broker and kernel see replacements in one order."""
    n_pages, n_each = 8, 12
    space = client.attach().space
    with ForeignMemory(client) as foreign:
        tagged(foreign, guest)
        with foreign.map(guest, range(20, 28)) as whole:
            for span in ((20, 21), (30, 31), (40, 41)):
                with foreign.map(guest, range(span[0], span[0] + n_pages)) as pages:
                    pages[:] = bytes([span[0]]) * len(pages)
            stop = threading.Event()
            mixed: list[bytes] = []
            looked = threading.Event()

            def look() -> None:
                with Client(broker.path) as watcher:
                    watcher.attach(space)
                    while not stop.is_set():
                        data = watcher.read(whole.address, len(whole))
                        if data != data[:1] * len(data) or data[0] not in (20, 30, 40):
                            mixed.append(data)
                        looked.set()

            def replace(first: int) -> None:
                for _ in range(n_each):
                    foreign.map(guest, range(first, first + n_pages), addr=whole.address)

            watcher = threading.Thread(target=look)
            watcher.start()
            assert looked.wait(60)
            replacers = [threading.Thread(target=replace, args=(first,)) for first in (20, 30, 40)]
            for thread in replacers:
                thread.start()
            for thread in replacers:
                thread.join()
            stop.set()
            watcher.join()

            assert not mixed
            assert client.read(whole.address, len(whole)) == whole[:] == bytes([whole.gfns[0]]) * len(whole)
