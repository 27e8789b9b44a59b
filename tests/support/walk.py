# SPDX-License-Identifier: Apache-2.0
"""Random steps in a small machine."""

from __future__ import annotations

import contextlib
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from privcmdd.model import invariants
from privcmdd.model.errors import ModelError
from privcmdd.model.ledger import Slot
from privcmdd.model.machine import lifecycle, memory, paging
from privcmdd.model.machine.domain import DomainKind
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.access import touch
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.requests import MmapEntry, Part
from privcmdd.model.units import PAGE_SIZE
from support.small_machine import ROOMY, World, privcmd

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.model.privcmd.personality import Personality

N_ARENA = 24
ARENA = (0x5A << 39) - N_ARENA // 2 * PAGE_SIZE  # half of it on either side of where page tables of every level meet
SLICE_FRAMES = 4
TIGHT = {**ROOMY, Slot.FRAMES: 80, Slot.ENTRIES: 60, Slot.OBJECTS: 30}


class Walk:
    """Random steps in one machine; refusals are fine, and so is every answer that keeps the laws."""

    def __init__(self, personality: Personality, seed: int) -> None:
        self.random = Random(seed)
        self.personality = personality
        self.world = World(TIGHT if seed % 2 else ROOMY, n_frames=1024)
        self.under_way: dict[AddressSpace, tuple[Generator[None, None, Any], int]] = {}
        self.steps: list[Callable[[], object]] = [
            *[self.batch] * 10,
            *[self.mmap, self.touch, self.touch, self.go_on, self.go_on, self.resource] * 2,
            *[self.map, self.map, self.unmap, self.protect, self.give_up, self.fork, self.close],
            *[self.populate, self.balloon, self.page_out, self.page_in, self.create, self.destroy],
            *[self.listen, self.bind, self.bind, self.hang_up],
        ]

    def step(self) -> None:
        """Do something, and hold the laws against what is there now."""
        with contextlib.suppress(ModelError):  # a refusal: the laws say that it has changed nothing
            self.random.choice(self.steps)()
        self.world.check()

    # Choosing

    def space(self, *, idle: bool = True) -> AddressSpace:
        """One in which nothing is under way, or any; a new one when there are few."""
        there = [s for s in self.world.spaces if not s.closed and not (idle and s in self.under_way)]
        if len(there) < 2:
            made = self.world.space(self.personality, slice_frames=SLICE_FRAMES)
            syscalls.mmap(made, ARENA, N_ARENA * PAGE_SIZE, 3, fixed=True)
            return made
        return self.random.choice(there)

    def domid(self) -> int:
        return self.random.choice([*self.world.machine.domains, 77])

    def range(self) -> tuple[int, int]:
        """An address in the arena, and a number of pages."""
        first = self.random.randrange(N_ARENA)
        return ARENA + first * PAGE_SIZE, self.random.randint(1, min(14, N_ARENA - first))

    def gmfns(self, domid: int, n: int) -> list[int]:
        """Mostly frames that the domain has, some of them in a row."""
        domain = self.world.machine.domains.get(domid)
        first = self.random.randrange(50)
        if domain is None or domain.kind.translated:
            return [first + i if self.random.random() < 0.8 else self.random.randrange(130) for i in range(n)]
        own = domain.gmfns(first, n).tolist()
        return [name if self.random.random() < 0.8 else self.random.randrange(1 << 10) for name in own]

    def in_form(self, gmfns: list[int]) -> Any:
        """A short list is prepared at once, an array in slices."""
        return gmfns if self.random.random() < 0.3 else np.array(gmfns, dtype=np.uint64)

    # Address spaces

    def map(self) -> None:
        addr, n = self.range()
        syscalls.mmap(self.space(), addr, n * PAGE_SIZE, self.random.choice([1, 3, 3, 3]), fixed=True)

    def unmap(self) -> None:
        addr, n = self.range()
        syscalls.munmap(self.space(), addr, n * PAGE_SIZE)

    def protect(self) -> None:
        addr, n = self.range()
        syscalls.mprotect(self.space(), addr, n * PAGE_SIZE, self.random.choice([0, 1, 3]))

    def touch(self) -> None:
        """Faults take no turns: also where a request is under way."""
        touch(self.space(idle=False), self.range()[0], 1)

    def fork(self) -> None:
        if sum(not space.closed for space in self.world.spaces) < 5:
            self.world.spaces.append(syscalls.fork(self.space(), len(self.world.spaces) + 1))

    def close(self) -> None:
        space = self.space()
        space.close()
        invariants.closed_space_is_empty(space)

    # Requests of privcmd

    def fitting(self, space: AddressSpace, n: int) -> tuple[int, int]:
        """Where the next request should go: linux wants a whole VMA that is fresh, and cuts none."""
        addr, _ = self.range()
        if not isinstance(self.personality, Linux) or self.random.random() < 0.2:
            return addr, n
        for entry in [*space.map.touching(addr, addr + n * PAGE_SIZE)]:
            syscalls.munmap(space, entry.start, entry.end - entry.start)
        syscalls.mmap(space, addr, n * PAGE_SIZE, 3, fixed=True)
        return addr, n

    def batch(self) -> None:
        space, domid = self.space(), self.domid()
        addr, n = self.range()
        addr, n = self.fitting(space, n)
        gmfns = self.in_form(self.gmfns(domid, n))
        self.begin(space, privcmd(space).mmapbatch(space, domid, addr, gmfns), n)

    def mmap(self) -> None:
        space, domid = self.space(), self.domid()
        sizes = [self.random.randint(1, 6) for _ in range(self.random.randint(1, 3))]
        addr, _ = self.fitting(space, sum(sizes))
        entries = []
        for size in sizes:
            entries.append(MmapEntry(addr, self.gmfns(domid, 1)[0], size))
            addr += size * PAGE_SIZE
        self.begin(space, privcmd(space).mmap(space, domid, entries), sum(sizes))

    def resource(self) -> None:
        space = self.space()
        part = Part(self.domid(), 1, self.random.randrange(2), self.random.randrange(3), self.random.randint(1, 3))
        addr, _ = self.fitting(space, part.num)
        privcmd(space).mmap_resource(space, part, addr)

    def begin(self, space: AddressSpace, steps: Generator[None, None, Any], n: int) -> None:
        self.under_way[space] = (steps, n)
        self.advance(space)
        while space in self.under_way and self.random.random() < 0.6:
            self.advance(space)

    def go_on(self) -> None:
        for space in list(self.under_way)[:1]:
            self.advance(space)

    def advance(self, space: AddressSpace) -> None:
        """One slice of a request."""
        steps, n = self.under_way[space]
        try:
            next(steps)
        except StopIteration as stop:
            del self.under_way[space]
            invariants.errors_are_in_order(stop.value, n)
        except ModelError:
            del self.under_way[space]
            raise

    def give_up(self) -> None:
        """The client died."""
        for space in list(self.under_way)[:1]:
            self.under_way.pop(space)[0].close()

    # Domains

    def populate(self) -> None:
        memory.populate(self.world.machine, self.domid(), [self.random.randrange(130) for _ in range(4)])

    def balloon(self) -> None:
        domid = self.domid()
        memory.decrease_reservation(self.world.machine, domid, self.gmfns(domid, 8))

    def page_out(self) -> None:
        paging.page_out(self.world.machine, self.domid(), [self.random.randrange(64) for _ in range(24)])

    def page_in(self) -> None:
        paging.page_in(self.world.machine, self.domid(), [self.random.randrange(64) for _ in range(12)])

    def create(self) -> None:
        lifecycle.create(self.world.machine, self.random.choice([*DomainKind]), 70, ((0, 60),))

    def destroy(self) -> None:
        """Not the first two: a machine without domains shows little."""
        if (domid := self.domid()) > 2:
            lifecycle.destroy(self.world.machine, domid)

    # Event channels

    def listen(self) -> None:
        self.world.machine.events.alloc_unbound(self.domid(), self.random.choice([0, self.domid()]))

    def bind(self) -> None:
        self.world.machine.events.bind_interdomain(self.random.choice([0, self.domid()]), self.domid(), 1)

    def hang_up(self) -> None:
        self.world.machine.events.close(self.domid(), self.random.randint(1, 2))
