# SPDX-License-Identifier: Apache-2.0
"""Grants in use, counted: whatever is mapped over, cut, protected or given up, the counts are the mappings."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.grants.entry import GTF_PERMIT_ACCESS, V1
from privcmdd.model.machine import resources
from privcmdd.model.machine.gntalloc import Holder
from privcmdd.model.machine.resources import ResourceType
from privcmdd.model.mm import syscalls
from privcmdd.model.privcmd import gntdev
from privcmdd.model.privcmd.gntdev import map_grants
from privcmdd.model.units import PAGE_SIZE
from support.small_machine import PERSONALITIES, RW, World, page

if TYPE_CHECKING:
    from privcmdd.model.mm.space import AddressSpace

N_PAGES = 24
CONNECTION = Holder("connection", 1)


class Walk:
    """Two processes and a guest that grants frame g by its grant g."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World()
        self.domid = self.world.hvm.domid
        resources.mfns_of(self.world.machine, self.domid, ResourceType.GRANT_TABLE, 0, 0, 1)
        self.spaces = [self.world.space(PERSONALITIES["linux"]) for _ in range(2)]

        maps = (self.map, self.map, self.again, self.share, self.map_share)
        self.steps = (*maps, self.put, self.munmap, self.mprotect, self.replace)

    def entry(self, at: int, _size: int) -> bytes:
        """The guest's table."""
        return V1.pack(GTF_PERMIT_ACCESS, 0, at % PAGE_SIZE // V1.size)

    def range(self) -> tuple[int, int]:
        """Some pages: the address of the first, and the bytes."""
        first = self.random.randrange(N_PAGES)
        return page(first), self.random.randint(1, N_PAGES - first) * PAGE_SIZE

    def map(self, space: AddressSpace) -> None:
        """Map grants over whatever is there."""
        start, size = self.range()
        syscalls.mmap(space, start, size, self.random.choice([1, RW]), fixed=True, file="gntdev")
        refs = [self.random.randrange(64) for _ in range(size // PAGE_SIZE)]
        map_grants(space, self.domid, start, refs, self.entry, may_write=True)

    def munmap(self, space: AddressSpace) -> None:
        """Unmap, whole or in parts."""
        syscalls.munmap(space, *self.range())

    def mprotect(self, space: AddressSpace) -> None:
        """Take access away, or give it."""
        syscalls.mprotect(space, *self.range(), self.random.choice([0, 1, RW]))

    def again(self, space: AddressSpace) -> None:
        """Map into what has grants already."""
        start, size = self.range()
        map_grants(space, self.domid, start, [1] * (size // PAGE_SIZE), self.entry, may_write=True)

    def fresh(self, space: AddressSpace) -> int:
        """A page of the device with no grant yet."""
        return syscalls.mmap(space, self.range()[0], PAGE_SIZE, RW, fixed=True, file="gntdev")

    def share(self, space: AddressSpace) -> None:
        """Make a page of domain 0's own, and hold it twice."""
        shares = self.world.machine.shares
        (ref,) = shares.allocate(shares.next_file(), 1, 0, 1000, CONNECTION, writable=True)
        gntdev.share(space, self.fresh(space), [ref], RW, owned=True)

    def map_share(self, space: AddressSpace) -> None:
        """Be the other side."""
        gntdev.share(space, self.fresh(space), [self.random.randrange(8, 12)], RW, owned=False)

    def put(self, _space: AddressSpace) -> None:
        """Its maker frees a page that may still be mapped."""
        self.world.machine.shares.put(self.random.randrange(8, 12), CONNECTION)

    def replace(self, _space: AddressSpace) -> None:
        """A process ends, another begins."""
        which = self.random.randrange(2)
        self.spaces[which].close()
        self.spaces[which] = self.world.space(PERSONALITIES["linux"])


@pytest.mark.parametrize("seed", range(3))
def test_nothing_breaks_the_law_of_grants(seed: int) -> None:
    """Laws 11 and 12, and all others, after every step."""
    walk = Walk(seed)
    for _ in range(80):
        step = walk.random.choice(walk.steps)
        with contextlib.suppress(ModelError):
            step(walk.random.choice(walk.spaces))
        walk.world.check()
    for space in walk.spaces:
        space.close()
        walk.world.check()
    walk.world.machine.shares.put_all(CONNECTION)
    assert not walk.world.hvm.grants.pins
    assert not walk.world.machine.shares.refs
