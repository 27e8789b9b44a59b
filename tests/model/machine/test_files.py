# SPDX-License-Identifier: Apache-2.0
"""Pages of a domain's file, parts of its tables, channels: what is asked when state is kept or taken back."""

from __future__ import annotations

from typing import Never

import numpy as np
import pytest

from privcmdd.model.files import FilePages
from privcmdd.model.machine import changes
from privcmdd.model.machine.frames import NO_FRAME
from privcmdd.model.mm.pmap import Pmap
from support.small_machine import World


def test_kept_pages_lie_inside_their_file() -> None:
    """The last page of the file is one of it; the next is refused, and nothing is occupied."""
    file = FilePages(64, 16)
    file.occupy(np.array([0, file.n_pages - 1], dtype=np.uint32))
    with pytest.raises(ValueError, match=f"page {file.n_pages} of a memory file of {file.n_pages}"):
        file.occupy(np.array([1, file.n_pages], dtype=np.uint32))

    asked = np.array([0, 1, file.n_pages - 1], dtype=np.uint32)
    assert file.unheld(asked).tolist() == [1]


def test_parts_are_the_same_without_memory_to_count_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of guest frames at both ends of some parts: at least those parts, and the first and the last are no others."""

    def none(*_: object) -> Never:
        raise MemoryError

    noted = changes.Changes()
    monkeypatch.setattr(np, "bincount", none)
    noted.note(1, np.array([changes.PART_GFNS, 4 * changes.PART_GFNS - 1]))

    assert noted.parts == {1: {1, 2, 3}}


def test_a_channel_is_there_as_long_as_one_port_has_it() -> None:
    """Of several ports of several domains; when both ends are closed it is gone."""
    world = World()
    events = world.machine.events
    first = events.alloc_unbound(world.hvm.domid, 0)
    events.alloc_unbound(world.pv.domid, 0)
    channel = events.port(world.hvm.domid, first).channel
    own = events.bind_interdomain(0, world.hvm.domid, first)

    assert (events.port(world.hvm.domid, first).remote_port, events.has_channel(channel)) == (own, True)
    events.close(0, own)
    assert (events.port(world.hvm.domid, first).remote_port, events.has_channel(channel)) == (0, True)
    events.close(world.hvm.domid, first)
    assert not events.has_channel(channel)


def test_an_unbound_port_has_no_other_end() -> None:
    """Neither when it is made, nor when its other end was closed."""
    world = World()
    port = world.machine.events.port(world.hvm.domid, world.machine.events.alloc_unbound(world.hvm.domid, 0))

    assert (port.remote, port.remote_port) == (0, 0)


def test_barred_entries_are_entries_and_no_frames() -> None:
    """In a range of one leaf, of several, and of part of one; ``count`` is what the entries refer to."""
    for first, n in ((0, 5), (500, 24), (0, 1 << 10), ((1 << 18) - 8, 16)):
        pmap = Pmap()
        pmap.swap(first, np.concatenate([[NO_FRAME] * 3, np.arange(300, 300 + n - 3)]).astype(np.uint32), n)
        pmap.bar(first, 3)

        assert (pmap.count(first, n), pmap.count_entries(first, n)) == (n - 3, n)
        assert (pmap.count(first, 2), pmap.count_entries(first, 2)) == (0, 2)
