# SPDX-License-Identifier: Apache-2.0
"""What is true while a request is prepared, between two of its slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from privcmdd.model import invariants
from privcmdd.model.errors import ModelError
from privcmdd.model.ledger import Account, Slot
from privcmdd.model.machine import lifecycle
from privcmdd.model.machine.domain import DomainKind
from privcmdd.model.machine.machine import Machine
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.access import touch
from privcmdd.model.mm.space import AddressSpace
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.requests import MmapEntry, Stopped
from privcmdd.model.privcmd.uvm import Uvm
from support.side_by_side.pair import ROOMY, drain
from support.small_machine import privcmd

if TYPE_CHECKING:
    from privcmdd.model.privcmd.personality import Personality

START = 0x10_0000_0000
PERSONALITIES = [Uvm("load"), Uvm("scratch"), Uvm("load", merge=True), Linux()]


class World:
    """A machine with one HVM domain of 64 frames and one address space with 64 pages to map over."""

    def __init__(self, personality: Personality) -> None:
        self.machine = Machine(1024)
        self.domid = lifecycle.create(self.machine, DomainKind.HVM, 64).domid
        self.account = Account("someone", ROOMY)
        self.space = AddressSpace(1, self.machine, self.account, personality, slice_frames=4)
        syscalls.mmap(self.space, START, 64 * 4096, 3, fixed=True)

    def check(self) -> None:
        invariants.check(self.machine, [self.space], {self.account: ()})

    def references(self) -> list[int]:
        return self.machine.frames.refs.tolist()


@pytest.mark.parametrize("personality", PERSONALITIES)
def test_the_laws_hold_while_another_client_prepares(personality: Personality) -> None:
    """References that a half-prepared batch holds break no law for the request that runs in between."""
    world = World(personality)
    steps = personality.mmapbatch(world.space, world.domid, START, np.arange(64, dtype=np.uint64))
    n_pauses = 0
    for _ in steps:
        n_pauses += 1
        world.check()
        assert world.space.pmap.n_present == 0, "law 5: nothing is seen of it yet"

    assert n_pauses == 15
    assert world.space.pmap.n_present == 64
    world.check()


@pytest.mark.parametrize("personality", PERSONALITIES)
@pytest.mark.parametrize("n_pauses", [1, 2, 15])
def test_a_batch_left_half_prepared_gives_all_back(personality: Personality, n_pauses: int) -> None:
    """A client that dies at any checkpoint leaves everything as it was before it asked."""
    world = World(personality)
    before = (world.references(), list(map(str, world.space.map)), dict(world.account.used))
    steps = personality.mmapbatch(world.space, world.domid, START, np.arange(64, dtype=np.uint64))
    for _ in range(n_pauses):
        next(steps)
    steps.close()

    assert (world.references(), list(map(str, world.space.map)), dict(world.account.used)) == before
    world.check()


@pytest.mark.parametrize("personality", PERSONALITIES)
def test_an_mmap_left_half_prepared_keeps_whole_entries_only(personality: Personality) -> None:
    """MMAP abandoned at any of its checkpoints: the entries before stay whole or are gone whole, none is cut."""
    entries = [MmapEntry(START + first * 4096, first, 10) for first in (0, 10, 20)]
    n_pauses = sum(1 for _ in personality.mmap(World(personality).space, 1, entries))
    assert n_pauses >= 6
    for stop in range(1, n_pauses + 1):
        world = World(personality)
        steps = personality.mmap(world.space, world.domid, entries)
        for _ in range(stop):
            next(steps)
        steps.close()

        world.check()
        there = world.space.pmap.n_present
        assert there % 10 == 0
        assert sum(world.references()) == 64 + there


@pytest.mark.parametrize("merge", [False, True])
def test_mmap_stops_at_the_first_bad_entry_and_keeps_the_earlier(merge: bool) -> None:
    """uvm: one object an entry, or one for the run when merging; the answer is the same."""
    world = World(Uvm("load", merge=merge))
    entries = [MmapEntry(START + first * 4096, first, 10) for first in (0, 10, 60, 20)]
    with pytest.raises(Stopped) as stopped:
        drain(privcmd(world.space).mmap(world.space, world.domid, entries))

    assert stopped.value.details["entry"] == 2
    assert stopped.value.name == "EINVAL"
    assert world.space.pmap.n_present == 20
    assert world.space.objects.alive == (1 if merge else 2)
    world.check()


def test_a_domain_that_dies_while_its_frames_are_prepared() -> None:
    """The frames looked up before stay good, the later ones fail, and the domain dies when they go."""
    world = World(Uvm())
    steps = privcmd(world.space).mmapbatch(world.space, world.domid, START, np.arange(8, dtype=np.uint64))
    next(steps)
    lifecycle.destroy(world.machine, world.domid)
    world.check()
    batch = drain(steps)

    assert [int(error) for error in batch.errors] == [0] * 4 + [-22] * 4
    world.check()
    syscalls.munmap(world.space, START, 64 * 4096)
    with pytest.raises(ModelError, match="ESRCH"):
        world.machine.domain(world.domid)
    world.check()


def test_a_fault_pays_for_its_page_or_enters_nothing() -> None:
    """A page that comes back is charged like any other; over quota nothing has changed, and no reference is kept."""
    world = World(Uvm())
    account = Account("poor", {**ROOMY, Slot.FRAMES: 4})
    space = AddressSpace(2, world.machine, account, Uvm(), slice_frames=4)
    spaces = [world.space, space]
    accounts: dict[Account, tuple[Account, ...]] = {world.account: (), account: ()}
    syscalls.mmap(space, START, 8 * 4096, 3, fixed=True)
    for first in (0, 4):
        drain(privcmd(space).mmapbatch(space, world.domid, START + first * 4096, [0, 1, 2, 3]))
        if not first:
            for prot in (0, 3):
                syscalls.mprotect(space, START, 4 * 4096, prot)
    assert account.used[Slot.FRAMES] == 4
    before = world.references()
    with pytest.raises(ModelError, match="EDQUOT"):
        touch(space, START, 1)
    assert world.references() == before
    invariants.check(world.machine, spaces, accounts)

    syscalls.munmap(space, START + 4 * 4096, 4096)
    assert touch(space, START, 1).entered
    assert account.used[Slot.FRAMES] == 4
    invariants.check(world.machine, spaces, accounts)
