# SPDX-License-Identifier: Apache-2.0
"""A small machine to test the model on, and ways to look at all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from privcmdd.model import invariants
from privcmdd.model.ledger import Account, Slot
from privcmdd.model.machine import lifecycle
from privcmdd.model.machine.domain import DomainKind
from privcmdd.model.machine.frames import NO_FRAME
from privcmdd.model.machine.machine import Machine, as_gmfns
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.space import AddressSpace
from privcmdd.model.mm.uobject import ObjectCounters
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.uvm import Uvm
from privcmdd.model.units import PAGE_SHIFT, PAGE_SIZE, PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from privcmdd.model.privcmd.personality import Personality

BASE = 0x10_0000_0000
HOLE = 64  # a guest frame of the HVM domain that is not populated; 65 to 95 are none either
ROOMY: Mapping[Slot, int] = dict.fromkeys(Slot, 1 << 30)
RW = PROT_READ | PROT_WRITE

PERSONALITIES: Mapping[str, Personality] = {
    "uvm-load": Uvm("load"),
    "uvm-scratch": Uvm("scratch"),
    "uvm-merge": Uvm("load", merge=True),
    "linux": Linux(),
}


def privcmd(space: AddressSpace) -> Personality:
    """The calls of a space's device."""
    return cast("Personality", space.personality)


def run(steps: Generator[None, None, Any]) -> Any:
    """Take a request to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def page(index: int) -> int:
    """The address of a page of the test's range."""
    return BASE + index * PAGE_SIZE


class World:
    """A machine with an HVM domain (gfns 0 to 63 and 96 to 111), a PV domain, and one uid's address spaces."""

    def __init__(
        self, limits: Mapping[Slot, int] = ROOMY, n_frames: int = 2048, machine: type[Machine] = Machine
    ) -> None:
        self.machine = machine(n_frames, max_domains=8, max_gfns=1 << 12)
        self.hvm = lifecycle.create(self.machine, DomainKind.HVM, 128, ((0, 64), (96, 16)), name="hvm")
        self.pv = lifecycle.create(self.machine, DomainKind.PV, 64, name="pv")
        self.account = Account("uid 1000", limits)
        self.spaces: list[AddressSpace] = []
        self.objects = ObjectCounters()
        self.machine.take_effects()

    def space(
        self,
        personality: Personality | None = None,
        *,
        n_pages: int = 0,
        prot: int = RW,
        slice_frames: int = 16_384,
    ) -> AddressSpace:
        """An address space; with ``n_pages``, a range of that many is reserved at ``BASE``."""
        made = AddressSpace(
            len(self.spaces) + 1, self.machine, self.account, personality or Uvm(), slice_frames, self.objects
        )
        self.spaces.append(made)
        if n_pages:
            syscalls.mmap(made, BASE, n_pages * PAGE_SIZE, prot, fixed=True)
        return made

    def mfns(self, start: int, n: int) -> list[int]:
        """Names of PV frames."""
        return [int(name) for name in self.pv.gmfns(start, n)]

    def check(self) -> None:
        """All laws hold."""
        invariants.check(self.machine, [space for space in self.spaces if not space.closed], {self.account: ()})

    def state(self) -> dict[str, Any]:
        """Everything that a request which was refused or abandoned must leave alone."""
        return {
            "refs": self.machine.frames.refs.tobytes(),
            "owners": self.machine.frames.owner.tobytes(),
            "domains": {
                d.domid: (d.state, d.tot_pages, d.n_paged, d.p2m.tobytes()) for d in self.machine.domains.values()
            },
            "free": self.machine.frames.n_free,
            "used": dict(self.account.used),
            "alive": self.objects.alive,
            "spaces": [space_state(space) for space in self.spaces],
        }


def space_state(space: AddressSpace) -> dict[str, Any]:
    """All that is mapped, and how it is accounted."""
    return {
        "entries": [
            (
                e.start,
                e.end,
                e.protection,
                e.inherit,
                e.file,
                e.object and e.object.number,
                e.offset,
                e.wired,
                str(e.private_data),
            )
            for e in space.map
        ],
        "ptes": {first: leaf.tobytes() for first, leaf in space.pmap.leaves()},
        "present": space.pmap.n_present,
        "ptps": space.pmap.n_ptps,
        "wired": space.n_wired,
        "objects": space.objects.alive,
        "generation": space.map.generation,
    }


def seen(space: AddressSpace, start: int, n_pages: int) -> list[tuple[int, int] | None]:
    """What each page shows: whose frame and its name, or None where there is no page table entry."""
    machine = space.machine
    return [
        None if mfn == NO_FRAME else (machine.owner(mfn), machine.gmfn(mfn))
        for mfn in space.pmap.frames(start >> PAGE_SHIFT, n_pages).tolist()
    ]


def shows(domid: int, gmfns: Sequence[int | None]) -> list[tuple[int, int] | None]:
    """What ``seen`` answers for these frames of a domain."""
    return [None if name is None else (domid, name) for name in gmfns]


def errors_of(batch: Any) -> list[int]:
    """A batch's errors as a list, zeros when there are none."""
    return [0] * len(batch.mfns) if batch.errors is None else [int(error) for error in batch.errors]


def batch(space: AddressSpace, domid: int, addr: int, gmfns: Sequence[int]) -> Any:
    """MMAPBATCH, to its end; short lists as lists, long ones as arrays, as the service does."""
    return run(privcmd(space).mmapbatch(space, domid, addr, in_form(gmfns)))


def in_form(gmfns: Sequence[int]) -> Any:
    """Names as the service hands them over."""
    return as_gmfns(np.array(gmfns, dtype=np.uint64))
