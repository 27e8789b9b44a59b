# SPDX-License-Identifier: Apache-2.0
"""What an operation had taken when it ran into a refusal is given back, on every path."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.files import RESOURCE_PAGES
from privcmdd.model.machine import ioreq, lifecycle, memory
from privcmdd.model.machine.domain import DomainKind, DomainState
from privcmdd.model.machine.effects import BuffersGone
from privcmdd.model.machine.frames import FIRST_RAM
from privcmdd.model.machine.machine import Machine
from privcmdd.model.machine.resources import IOREQ_FRAMES, ResourceType
from privcmdd.model.mm import syscalls
from privcmdd.model.privcmd.requests import Part
from privcmdd.model.units import PAGE_SIZE
from support.small_machine import BASE, World, privcmd


def test_an_extent_without_frames_in_a_row_keeps_no_page_of_the_file() -> None:
    """Frames are free, none of them in a row: nothing is made, and the guest frames get their own file pages later."""
    machine = Machine(FIRST_RAM + 8)
    keeper = lifecycle.create(machine, DomainKind.PV, 8)
    memory.decrease_reservation(machine, keeper.domid, keeper.gmfns(0, 8)[::2])
    domain = lifecycle.create(machine, DomainKind.PV, 4, ())

    assert len(memory.populate_runs(machine, domain.domid, np.array([0], dtype=np.uint64), 1)) == 0
    mfns = memory.populate(machine, domain.domid, [0, 1]).mfns
    assert machine.frames.page[mfns].tolist() == [0, 1]


def test_a_resource_without_room_in_the_file_makes_no_frames() -> None:
    """Pages of ioreq servers that somebody keeps mapped fill the file; then ENOMEM, and the totals are as before."""
    world = World()
    space = world.space(n_pages=512)

    def one_more(at: int) -> None:
        number = ioreq.create(world.machine, 1, 1)
        part = Part(1, ResourceType.IOREQ_SERVER, number, 0, IOREQ_FRAMES)
        privcmd(space).mmap_resource(space, part, BASE + at * IOREQ_FRAMES * PAGE_SIZE)
        ioreq.destroy(world.machine, 1, number)

    for at in range(RESOURCE_PAGES // IOREQ_FRAMES):
        one_more(at)
    with pytest.raises(ModelError) as refused:
        one_more(RESOURCE_PAGES // IOREQ_FRAMES)

    assert refused.value.errno == errno.ENOMEM
    world.check()
    assert lifecycle.destroy(world.machine, 1) is DomainState.DYING
    space.close()
    world.spaces.clear()
    assert 1 not in world.machine.domains


def test_a_space_that_is_closed_again_gives_nothing_back_again() -> None:
    """Its child still uses the buffer file that both had, whatever the parent's end does."""
    world = World()
    parent = world.space()
    syscalls.mmap(parent, BASE, PAGE_SIZE, 3, fixed=True, file="hypercall")
    child = syscalls.fork(parent, 2)
    world.spaces.append(child)
    world.machine.take_effects()

    parent.close()
    parent.close()

    assert [effect for effect in world.machine.take_effects() if isinstance(effect, BuffersGone)] == []
    world.check()
    child.close()
    assert [effect for effect in world.machine.take_effects() if isinstance(effect, BuffersGone)] == [BuffersGone(1)]
    child.close()
    assert world.machine.take_effects() == []
    assert world.account.idle
