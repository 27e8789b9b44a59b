# SPDX-License-Identifier: Apache-2.0
"""Debts: what a change leaves to be given back in slices. All laws hold at each of them."""

from __future__ import annotations

import numpy as np
import pytest

from privcmdd.model.machine import lifecycle
from privcmdd.model.machine.domain import DomainState
from privcmdd.model.mm import syscalls
from privcmdd.model.units import PAGE_SIZE
from support.small_machine import BASE, PERSONALITIES, World, privcmd, run

BULK = 16
N = 60


@pytest.fixture(params=["uvm-load", "linux"])
def world(request: pytest.FixtureRequest) -> World:
    """A machine that puts 16 references in a step, and a space that maps 60 frames."""
    made = World()
    made.machine.pace.bulk = BULK
    space = made.space(PERSONALITIES[request.param], n_pages=N)
    run(privcmd(space).mmapbatch(space, made.hvm.domid, BASE, np.arange(N, dtype=np.uint64)))
    assert not made.machine.debts.owed
    return made


def references(world: World) -> int:
    """How many references there are to the frames of the HVM domain."""
    frames = world.machine.frames
    return int(frames.refs[frames.owner == world.hvm.domid].sum())


def test_a_range_is_unmapped_in_one_step_and_its_references_are_put_in_slices(world: World) -> None:
    """XSA-290: no step puts more than its share, and nothing is mapped from the first step on."""
    (space,) = world.spaces
    before = references(world)

    syscalls.munmap(space, BASE, N * PAGE_SIZE)

    assert space.pmap.n_entries == 0
    assert len(space.map) == 0
    assert references(world) == before
    (debt,) = world.machine.debts.take()
    steps = []
    more = True
    while more:
        world.check()
        there = references(world)
        more = world.machine.debts.pay(debt)
        steps.append(there - references(world))
    world.check()
    assert steps == [16, 16, 16, 12]
    assert not world.machine.debts.owed


def test_a_share_or_less_is_put_at_once() -> None:
    """What one step can do makes no debt."""
    world = World()
    world.machine.pace.bulk = BULK
    space = world.space(n_pages=BULK)
    before = references(world)
    run(privcmd(space).mmapbatch(space, world.hvm.domid, BASE, np.arange(BULK, dtype=np.uint64)))

    syscalls.munmap(space, BASE, BULK * PAGE_SIZE)

    assert references(world) == before
    assert not world.machine.debts.owed
    world.check()


def test_a_domain_lives_until_the_last_of_its_frames_is_paid(world: World) -> None:
    """Law 8: a destroyed domain whose mappings are gone is dying as long as references to it are owed."""
    (space,) = world.spaces
    syscalls.munmap(space, BASE, N * PAGE_SIZE)
    (debt,) = world.machine.debts.take()
    lifecycle.destroy(world.machine, world.hvm.domid)
    for one in world.machine.debts.take():
        while world.machine.debts.pay(one):
            world.check()
    states = []
    while world.machine.debts.pay(debt):
        states.append(world.hvm.state)
        world.check()

    assert set(states) == {DomainState.DYING}
    assert world.hvm.state is DomainState.GONE
    world.check()


def test_a_space_that_is_closed_owes_its_references(world: World) -> None:
    """Law 7: nothing is left in it, and its frames are held until they are paid."""
    (space,) = world.spaces
    before = references(world)

    space.close()

    assert references(world) == before
    for debt in world.machine.debts.take():
        while world.machine.debts.pay(debt):
            world.check()
    assert references(world) == before - N
    assert not any(world.account.used.values())
