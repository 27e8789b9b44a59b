# SPDX-License-Identifier: Apache-2.0
"""Paging: frames are paged out and in again, and count in the reservation while they are in."""

from __future__ import annotations

import errno

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import lifecycle, memory, paging
from privcmdd.model.machine.domain import DomainState
from support.small_machine import BASE, HOLE, World, batch


def test_paging() -> None:
    """Out: EBUSY while mapped, EINVAL when not there or out already. In: EINVAL unless it is out. PV: ENODEV."""
    world = World()
    space = world.space(n_pages=1)
    batch(space, 1, BASE, [3])

    assert paging.page_out(world.machine, 1, [1, 2, 3, HOLE, 2**63, 2]).tolist() == [
        0,
        0,
        -errno.EBUSY,
        *[-errno.EINVAL] * 3,
    ]
    assert (world.hvm.tot_pages, world.hvm.n_paged) == (78, 2)
    assert paging.page_out(world.machine, 1, [1]).tolist() == [-errno.EINVAL]
    assert world.hvm.gmfns(1, 2).tolist() == [1, 2]
    world.check()
    assert paging.page_in(world.machine, 1, [1, 3, HOLE, 1]).tolist() == [
        0,
        -errno.EINVAL,
        -errno.EINVAL,
        -errno.EINVAL,
    ]
    world.check()
    with pytest.raises(ModelError, match="ENODEV"):
        paging.page_out(world.machine, 2, world.mfns(0, 1))
    space.close()
    assert lifecycle.destroy(world.machine, 1) is DomainState.GONE
    world.spaces.clear()
    world.check()


def test_what_is_paged_out_leaves_room_in_the_reservation() -> None:
    """By the source (p2m_mem_paging_evict, _prep): it counts no longer, and comes back only where there is room."""
    world = World()
    room = world.hvm.max_pages - world.hvm.tot_pages
    paging.page_out(world.machine, 1, [0, 1, 2])

    assert memory.populate(world.machine, 1, list(range(200, 200 + room + 3))).n_done == room + 3
    assert paging.page_in(world.machine, 1, [0, 1]).tolist() == [-errno.ENOMEM] * 2
    assert memory.decrease_reservation(world.machine, 1, [200]).n_done == 1
    assert paging.page_in(world.machine, 1, [0, 1]).tolist() == [0, -errno.ENOMEM]
    assert (world.hvm.tot_pages, world.hvm.n_paged) == (world.hvm.max_pages, 2)
    assert lifecycle.destroy(world.machine, 1) == "gone"
    world.check()
