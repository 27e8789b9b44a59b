# SPDX-License-Identifier: Apache-2.0
"""Again, after: the second use of a thing, in every order with every other, and the laws after each step.

Frames are placed, moved and removed; nominated, evicted and loaded; pinned, ballooned out and pinned again; granted,
mapped, spoken of in a notice, unmapped, and mapped at the same address again. A step that is refused changes nothing.
"""

from __future__ import annotations

import contextlib
import struct
from collections import Counter
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from privcmdd.model import invariants
from privcmdd.model.errors import ModelError
from privcmdd.model.machine import (
    foreign,
    ioreq,
    lifecycle,
    log_dirty,
    memory,
    p2m,
    page_types,
    paging,
    pod,
    resources,
)
from privcmdd.model.machine.domain import DomainKind
from privcmdd.model.machine.frames import NO_FRAME
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.vm_map import File
from privcmdd.model.privcmd import gntdev
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.units import PAGE_SIZE
from support.profiles import PROFILE
from support.small_machine import World, space_state
from support.walk import ARENA, N_ARENA, Walk

if TYPE_CHECKING:
    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.mm.space import AddressSpace

N_STEPS = 500
SEEDS = range(60 if PROFILE.name == "long" else 6)
N_GFNS = 70
N_REFS = 12
GRANTS = ARENA + 2 * N_ARENA * PAGE_SIZE


def plain(value: object) -> object:
    """A value that can be compared later: bytes of an array, the text of anything else."""
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value)


def of_domain(domain: Domain) -> dict[str, object]:
    """All that a domain has; its tables as far as something is in them, because they grow before a refusal."""
    state = {each.name: getattr(domain, each.name) for each in fields(domain)}
    del state["p2m_of"], state["changes"]
    for name in ("p2m", "read_only", "dirty"):
        state[name] = None if state[name] is None else np.flatnonzero(state[name]).tolist()
    state["frames"] = domain.p2m[domain.p2m != NO_FRAME].tobytes()
    state["file"] = [np.flatnonzero(getattr(domain.file, name)).tolist() for name in ("_taken", "_spill", "_resources")]
    return {name: plain(value) for name, value in state.items()}


def all_of(world: World) -> dict[str, Any]:
    """Everything that a refused step leaves alone."""
    machine = world.machine
    return {
        "refs": machine.frames.refs.tobytes(),
        "owners": machine.frames.owner.tobytes(),
        "free": machine.frames.n_free,
        "domains": {domid: of_domain(domain) for domid, domain in machine.domains.items()},
        "ports": {
            domid: repr(machine.events.ports(domid)) for domid, domain in machine.domains.items() if domain.alive
        },
        "spaces": [space_state(space) for space in world.spaces],
        "granted": [(dict(s.granted.refs), dict(s.granted.notices)) for s in world.spaces],
        "used": dict(world.account.used),
    }


class Second(Walk):
    """Steps that use few things, and so each of them again and again."""

    def __init__(self, seed: int) -> None:
        super().__init__(Linux(), seed)
        whole = [self.place, self.remove, self.move, self.place_foreign, self.leave_to_device_model, self.pod_mark]
        whole += [
            self.pod_target,
            self.enable,
            self.disable,
            self.nominate,
            self.evict,
            self.load,
            self.pin,
            self.unpin,
        ]
        whole += [self.log, self.clean, self.server, self.no_server, self.resize, self.grant, self.notify, self.notify]
        whole += [self.balloon_pinned, self.no_grant, self.half_grant, self.move_grants]
        self.whole = {step.__name__ for step in whole}
        kept = [
            self.move_several,
            self.batch,
            self.batch,
            self.go_on,
            self.unmap,
            self.map,
            self.fork,
            self.close,
            self.resource,
        ]
        kept += [self.populate, self.balloon, self.balloon, self.page_out, self.page_in, self.create, self.destroy]
        self.steps = [*whole, *whole, *kept]
        self.n_done = dict.fromkeys(sorted(self.whole), 0)

    def step(self) -> None:
        """One step, the laws; and where it was refused, the state as it was."""
        step = self.random.choice(self.steps)
        is_whole = step.__name__ in self.whole
        for _ in range(2):
            self.space()  # there are enough then: the step makes none
        before = all_of(self.world) if is_whole else None
        try:
            step()
            if is_whole:
                self.n_done[step.__name__] += 1
        except ModelError:
            if is_whole:
                assert all_of(self.world) == before, f"{step.__name__} was refused and changed something"
        self.world.check()

    def gfn(self) -> int:
        """One of few."""
        return self.random.randrange(N_GFNS)

    # The physmap

    def place(self) -> None:
        kind, index = self.random.choice([(0, 0), (1, self.random.randrange(3)), (1, 1 << 31)])
        resources.add_to_physmap(self.world.machine, self.domid(), kind, index, self.gfn())

    def remove(self) -> None:
        p2m.remove(self.world.machine, self.domid(), self.gfn())

    def move(self) -> None:
        p2m.move(self.world.machine, self.domid(), self.gfn(), self.gfn())

    def move_several(self) -> None:
        """Where one cannot be moved, those before it have."""
        p2m.move(self.world.machine, self.domid(), self.gfn(), self.gfn(), self.random.randint(2, 5))

    def place_foreign(self) -> None:
        """Look a frame up and put it: nothing is left of that."""
        mfns, _ = foreign.get(self.world.machine, self.domid(), [self.gfn()], 3)
        self.world.machine.put([mfn for mfn in mfns if mfn != NO_FRAME])

    def leave_to_device_model(self) -> None:
        kind = self.random.choice([0, 1, 2])
        p2m.set_mem_type(self.world.machine, self.domid(), kind, self.gfn(), self.random.randint(1, 3))

    def pod_mark(self) -> None:
        pod.mark_populate_on_demand(self.world.machine, self.domid(), [self.gfn() for _ in range(3)])

    def pod_target(self) -> None:
        pod.set_target(self.world.machine, self.domid(), self.random.randrange(80))

    def resize(self) -> None:
        memory.set_max_pages(self.world.machine, self.domid(), self.random.randrange(40, 90))

    # Pagers

    def enable(self) -> None:
        paging.enable(self.world.machine, self.domid(), self.random.randrange(1, 4))

    def disable(self) -> None:
        if self.random.random() < 0.2:
            paging.disable(self.world.machine, self.domid())

    def nominate(self) -> None:
        paging.nominate(self.world.machine, self.domid(), self.gfn())

    def evict(self) -> None:
        nominated = [
            (domain.domid, gfn)
            for domain in self.world.machine.domains.values()
            if domain.pager is not None
            for gfn in sorted(domain.pager.nominated)
        ]
        paging.evict(self.world.machine, *(self.random.choice(nominated) if nominated else (self.domid(), 0)))

    def load(self) -> None:
        domid, gfn = self.domid(), self.gfn()
        domain = self.world.machine.domains.get(domid)
        if domain is not None and domain.n_paged:
            gfn = int(self.random.choice(np.flatnonzero(domain.p2m >= 1 << 31).tolist()))
        paging.load(self.world.machine, domid, gfn)

    # Page tables, the log

    def pin(self) -> None:
        domid = self.domid()
        (mfn,) = self.gmfns(domid, 1)
        (pointed,) = self.gmfns(domid, 1)
        entries = np.zeros(512, dtype=np.uint64)
        entries[self.random.randrange(512)] = (pointed % (1 << 40) << 12) | self.random.randrange(2)
        page_types.pin(self.world.machine, domid, mfn, self.random.randint(1, 4), entries, written=False)

    def unpin(self) -> None:
        pinned = [(d.domid, mfn) for d in self.world.machine.domains.values() for mfn in sorted(d.tables)]
        page_types.unpin(self.world.machine, *(self.random.choice(pinned) if pinned else (self.domid(), 0)))

    def balloon_pinned(self) -> None:
        """What is given back is no page table any more."""
        pinned = [(d.domid, mfn) for d in self.world.machine.domains.values() for mfn in sorted(d.tables)]
        if pinned:
            domid, mfn = self.random.choice(pinned)
            memory.decrease_reservation(self.world.machine, domid, [mfn])

    def log(self) -> None:
        log_dirty.switch(self.world.machine, self.domid(), on=self.random.random() < 0.7)

    def clean(self) -> None:
        log_dirty.take(self.world.machine, self.domid(), self.random.randrange(100), clean=True)

    # Device models

    def server(self) -> None:
        ioreq.create(self.world.machine, self.domid(), self.random.randrange(3))

    def no_server(self) -> None:
        ioreq.destroy(self.world.machine, self.domid(), self.random.randrange(3))

    # Grants

    def table(self, at: int, size: int, flags: int = 1) -> bytes:
        """A page of a grant table: grant n gives frame n for reading and writing, or as its flags say."""
        entries = b"".join(struct.pack("<HHI", flags, 0, n) for n in range(512))
        return entries[at % PAGE_SIZE : at % PAGE_SIZE + size]

    def mapping(self, space: AddressSpace, prot: int = 3) -> int:
        """A mapping of the device at one of few addresses, that maps nothing yet."""
        addr = GRANTS + self.random.randrange(3) * 2 * PAGE_SIZE
        syscalls.mmap(space, addr, 2 * PAGE_SIZE, prot, fixed=True, file=File.GNTDEV)
        return addr

    def grant(self) -> None:
        """As a program does: a mapping, and the grants in it, for reading or writing; the old ones go."""
        space, domid = self.space(), self.domid()
        addr = self.mapping(space, self.random.choice([1, 3]))
        refs = [self.random.randrange(8, 8 + N_REFS) for _ in range(2)]
        with contextlib.suppress(ModelError):
            gntdev.map_grants(space, domid, addr, refs, self.table, may_write=True)

    def half_grant(self) -> None:
        """Of a mapping that has none yet only the first page is filled, or read-only grants are to be written."""
        space, domid = self.space(), self.domid()
        addr = self.mapping(space)
        flags = self.random.choice([1, 5, 0])
        with contextlib.suppress(ModelError):
            gntdev.map_grants(space, domid, addr, [8], lambda at, n: self.table(at, n, flags), may_write=True)

    def no_grant(self) -> None:
        n = self.random.randint(1, 2)
        first = GRANTS + self.random.randrange(6) * PAGE_SIZE
        syscalls.munmap(self.space(), first, n * PAGE_SIZE)

    def move_grants(self) -> None:
        """What replaces a mapping of grants unmaps it, a batch among them."""
        syscalls.mmap(self.space(), GRANTS + 2 * PAGE_SIZE, PAGE_SIZE, 3, fixed=True)

    def notify(self) -> None:
        space = self.space()
        pages = sorted(space.granted.refs)
        addr = (self.random.choice(pages) << 12) + 8 if pages else GRANTS
        gntdev.notify(space, addr, (0, 1) if self.random.random() < 0.5 else None, clear=self.random.random() < 0.5)


def end(walk: Second) -> None:
    """Every space is closed, every domain destroyed: nothing is left."""
    for space in walk.world.spaces:
        if space in walk.under_way:
            walk.under_way.pop(space)[0].close()
        space.close()
        invariants.closed_space_is_empty(space)
        assert not space.granted.refs
        assert not space.granted.notices
    for domid in list(walk.world.machine.domains):
        with contextlib.suppress(ModelError):
            lifecycle.destroy(walk.world.machine, domid)
    walk.world.check()
    assert walk.world.machine.domains == {}


def test_everything_is_used_again_after_everything() -> None:
    """All laws hold after each step, a refusal changes nothing, and of each kind of step some were not refused."""
    done: Counter[str] = Counter()
    for seed in SEEDS:
        walk = Second(seed)
        for _ in range(N_STEPS):
            walk.step()
        end(walk)
        done.update(walk.n_done)

    assert {name: n for name, n in done.items() if n < 2} == {}


def test_a_page_placed_again_where_it_is_has_one_reference() -> None:
    """shared_info placed twice at the same guest frame, then elsewhere: it is at one place."""
    world = World()
    for gfn in (70, 70, 71):
        resources.add_to_physmap(world.machine, world.hvm.domid, 0, 0, gfn)
        world.check()

    assert np.flatnonzero(world.hvm.p2m == world.hvm.shared_info[0]).tolist() == [71]


def test_a_page_placed_over_one_that_is_paged_out_gives_that_up() -> None:
    """And no other: the frame that was there is the machine's again, and no longer counted as paged out."""
    world = World()
    paging.page_out(world.machine, world.hvm.domid, [5, 6])
    owned = world.hvm.tot_pages

    resources.add_to_physmap(world.machine, world.hvm.domid, 0, 0, 5)

    world.check()
    assert (world.hvm.tot_pages, world.hvm.n_paged) == (owned, 1)


def test_a_refused_move_raises_no_top() -> None:
    """The highest guest frame that was ever populated is not the one to which nothing was moved."""
    world = World()
    top = world.hvm.top_gfn
    with contextlib.suppress(ModelError):
        p2m.move(world.machine, world.hvm.domid, 64, 200)

    assert world.hvm.top_gfn == top


def test_the_kinds_of_domains_are_all_there() -> None:
    """A walk begins with one of each name that frames can have."""
    kinds = {domain.kind for domain in Second(0).world.machine.domains.values()}

    assert kinds == {DomainKind.HVM, DomainKind.PV}
