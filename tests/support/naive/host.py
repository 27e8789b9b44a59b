# SPDX-License-Identifier: Apache-2.0
"""The naive hypervisor: dicts and lists, no counters, nothing remembered that can be counted again.

Written from the recorded answers of a real host, not from the model that it checks. A frame here is an object
whose only property is its identity; how often it is referred to is found by looking at every page table entry
of every address space. What the model is free to choose (domids, machine frame numbers, addresses) it chooses
first, and the naive side only says whether the choice was allowed.
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from support.naive.spaces import Batch, Space

MASK_40 = 2**40 - 1
MAX_GRANT_FRAMES = 64
NO_GFN = 2**32 - 1
FIRST_RAM_MFN = 256  # the first MiB is not RAM

DOMID_SELF, DOMID_IO, DOMID_XEN = 0x7FF0, 0x7FF1, 0x7FF2
NOBODYS = (DOMID_SELF, DOMID_IO, DOMID_XEN)  # known to Xen, and no ordinary domains
LOCAL_APIC = 0xFEE00

KindName = Literal["pv", "hvm", "pvh"]


class Refused(Exception):  # noqa: N818 - the naive counterpart of an answer, not of a fault
    """The naive side refuses, with this errno, and has changed nothing."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


@dataclass(eq=False)
class Frame:
    """One machine frame for as long as it belongs to one domain."""

    domid: int
    gfn: int  # what it was populated as
    mfn: int | None = None  # learned when first seen, must not change; PV domains name frames by it
    place: int | None = None  # page of the domain's memory file: likewise
    paged: bool = False  # paged out: still the domain's, content and all, but it cannot be mapped
    resource: bool = False  # of a grant table: no part of the domain's memory


@dataclass(eq=False)
class Domain:
    domid: int
    kind: KindName
    max_pages: int
    p2m: dict[int, Frame] = field(default_factory=dict)
    dying: bool = False
    waiting: set[int] = field(default_factory=set)  # guest frames to be populated when they are first looked up
    n_cached: int = 0  # frames kept for those
    crashed: bool = False
    tables: set[Frame] = field(default_factory=set)  # pinned as page tables
    grants: list[Frame] = field(default_factory=list)


class Host:
    """All domains, and all the address spaces that may refer to their frames."""

    def __init__(self, n_frames: int, max_gfns: int) -> None:
        self.n_frames = n_frames
        self.max_gfns = max_gfns
        self.domains: dict[int, Domain] = {}
        self.spaces: list[Space] = []
        self.batches: list[Batch] = []  # begun, neither committed nor abandoned
        self.machine: dict[int, Frame] = {}  # what is no RAM, by machine frame, from the first look on

    # --- counting -----------------------------------------------------------------------------------

    def references(self) -> Counter[Frame]:
        """How many page table entries and unfinished batches refer to each frame."""
        count: Counter[Frame] = Counter()
        for space in self.spaces:
            count.update(space.ptes.values())
        for batch in self.batches:
            count.update(frame for frame in batch.found if isinstance(frame, Frame))
        return count

    def frames(self) -> list[Frame]:
        """Every frame that is not free, once."""
        alive = {frame: None for domain in self.domains.values() for frame in (*domain.p2m.values(), *domain.grants)}
        alive.update(dict.fromkeys(frame for frame in self.references() if frame.domid != DOMID_IO))
        return list(alive)

    def owned_pages(self, domid: int) -> int:
        """Frames it owns, paged-out ones too."""
        return sum(frame.domid == domid for frame in self.frames())

    def tot_pages(self, domid: int) -> int:
        """Frames it owns, paged-out ones not counted: what its reservation limits."""
        return sum(frame.domid == domid and not frame.paged and not frame.resource for frame in self.frames())

    def held_pages(self, domid: int) -> int:
        """Frames of this domain that somebody maps."""
        return sum(frame.domid == domid for frame in self.references())

    def sweep(self) -> None:
        """Let the dying domains go that nothing refers to any more."""
        for domid, domain in list(self.domains.items()):
            if domain.dying and not self.held_pages(domid):
                del self.domains[domid]

    # --- domains ------------------------------------------------------------------------------------

    def domain(self, domid: int) -> Domain:
        if domid not in self.domains:
            raise Refused(errno.ESRCH)
        return self.domains[domid]

    def running(self, domid: int) -> Domain:
        domain = self.domain(domid)
        if domain.dying:
            raise Refused(errno.EINVAL)
        return domain

    def create(self, domid: int, kind: KindName, max_pages: int, gfns: Iterable[int]) -> Domain:
        if domid in self.domains:
            raise Refused(errno.EEXIST)
        domain = Domain(domid, kind, max_pages)
        domain.p2m = {gfn: Frame(domid, gfn) for gfn in gfns}
        self.domains[domid] = domain
        return domain

    def destroy(self, domid: int) -> None:
        domain = self.domain(domid)
        domain.dying = True
        domain.p2m, domain.grants = {}, []
        domain.waiting, domain.n_cached, domain.tables = set(), 0, set()
        self.sweep()

    def populate(self, domid: int, gfns: Sequence[int]) -> int:
        """Give frames to these numbers until one cannot have one; how many got one."""
        domain = self.running(domid)
        for done, gfn in enumerate(gfns):
            if self.is_full(domain) or not self.n_free() or gfn in domain.p2m or gfn >= self.max_gfns:
                return done
            domain.p2m[gfn] = Frame(domid, gfn)
            domain.waiting.discard(gfn)
        return len(gfns)

    def is_full(self, domain: Domain) -> bool:
        return self.tot_pages(domain.domid) + domain.n_cached >= domain.max_pages

    def n_free(self) -> int:
        return self.n_frames - FIRST_RAM_MFN - len(self.frames())

    def decrease_reservation(self, domid: int, gmfns: Sequence[int]) -> int:
        """Take frames away until a name is not there; mappings keep theirs."""
        domain = self.running(domid)
        for done, name in enumerate(gmfns):
            gfn = self.position(domain, name)
            lacking = len(domain.waiting) > domain.n_cached
            if domain.kind != "pv" and name in domain.waiting:
                domain.waiting.discard(name)
                domain.n_cached = min(domain.n_cached, len(domain.waiting))
            elif gfn is None:
                return done
            else:
                frame = domain.p2m.pop(gfn)
                domain.tables.discard(frame)
                if lacking and not frame.paged and not self.references()[frame]:
                    domain.n_cached += 1
        return len(gmfns)

    # --- populate on demand -------------------------------------------------------------------------

    def demand(self, domid: int, gfns: Sequence[int]) -> int:
        """Let these guest frames wait, until one is populated; how many."""
        domain = self.translated(domid)
        for done, gfn in enumerate(gfns):
            if gfn in domain.p2m or gfn >= self.max_gfns:
                return done
            domain.waiting.add(gfn)
        return len(gfns)

    def set_pod_target(self, domid: int, target: int) -> None:
        """How many frames the domain is to have, with those in its cache."""
        domain = self.translated(domid)
        if target > domain.max_pages:
            raise Refused(errno.EINVAL)
        if domain.waiting:
            domain.n_cached = min(max(0, target - self.tot_pages(domid)), len(domain.waiting))

    def translated(self, domid: int) -> Domain:
        domain = self.running(domid)
        if domain.kind == "pv":
            raise Refused(errno.EINVAL)
        return domain

    # --- page tables and grant tables ---------------------------------------------------------------

    def pin(self, domid: int, mfn: int) -> None:
        """Make a frame a page table (an empty one): nobody may have it mapped writable."""
        frame = self.pv_frame(domid, mfn)
        if any(space.writes(vpn) for space in self.spaces for vpn, mapped in space.ptes.items() if mapped is frame):
            raise Refused(errno.EINVAL)
        self.domains[domid].tables.add(frame)

    def unpin(self, domid: int, mfn: int) -> None:
        frame = self.pv_frame(domid, mfn)
        if frame not in self.domains[domid].tables:
            raise Refused(errno.EINVAL)
        self.domains[domid].tables.discard(frame)

    def pv_frame(self, domid: int, mfn: int) -> Frame:
        domain = self.running(domid)
        for frame in self.frames():
            if domain.kind == "pv" and frame.domid == domid and frame.mfn == mfn:
                return frame
        raise Refused(errno.EINVAL)

    def grant_frames(self, domid: int, first: int, n: int) -> list[Frame]:
        """Part of a domain's grant table, which is made as far as it is asked for."""
        if domid == 0:
            raise Refused(errno.EPERM)
        domain = self.domain(domid)
        if first + n > MAX_GRANT_FRAMES:
            raise Refused(errno.EINVAL)
        if domain.dying:
            raise Refused(errno.EBUSY)
        if first + n - len(domain.grants) > self.n_free():
            raise Refused(errno.ENOMEM)
        while len(domain.grants) < first + n:
            domain.grants.append(Frame(domid, NO_GFN, resource=True))
        return domain.grants[first : first + n]

    def position(self, domain: Domain, name: int) -> int | None:
        """Where in the p2m the frame of this name is: a gfn itself, or the pfn that has this mfn."""
        if domain.kind != "pv":
            return name if name in domain.p2m else None
        for pfn, frame in domain.p2m.items():
            if frame.mfn == name:
                return pfn
        return None

    def page_out(self, domid: int, gfns: Sequence[int]) -> list[int]:
        """The negative errno of each."""
        domain = self.pageable(domid)
        errs = []
        for gfn in gfns:
            frame = domain.p2m.get(gfn)
            if frame is None or frame.paged:
                errs.append(-errno.EINVAL)
            elif self.references()[frame]:
                errs.append(-errno.EBUSY)
            else:
                frame.paged = True
                errs.append(0)
        return errs

    def page_in(self, domid: int, gfns: Sequence[int]) -> list[int]:
        domain = self.pageable(domid)
        errs = []
        for gfn in gfns:
            frame = domain.p2m.get(gfn)
            if frame is None or not frame.paged:
                errs.append(-errno.EINVAL)
            elif self.is_full(domain):
                errs.append(-errno.ENOMEM)
            else:
                frame.paged = False
                errs.append(0)
        return errs

    def pageable(self, domid: int) -> Domain:
        domain = self.running(domid)
        if domain.kind == "pv":
            raise Refused(errno.ENODEV)
        return domain

    # --- foreign mapping ----------------------------------------------------------------------------

    def look_up_nobodys(self, domid: int, name: int) -> Frame | int:
        """What a PV dom0 gets of itself, of I/O memory and of Xen, and none of these is one of its own pages.

        The machine is too small for Xen's machine-to-phys table to be found.
        """
        name &= MASK_40
        if name == MASK_40:
            return errno.EINVAL
        if FIRST_RAM_MFN <= name < self.n_frames:
            return errno.EBUSY
        if domid == DOMID_XEN or name >= self.n_frames or name == LOCAL_APIC:
            return errno.EPERM
        mfn = name or FIRST_RAM_MFN - 1  # frame 0 has a stand-in, for 0 means that there is none
        return self.machine.setdefault(mfn, Frame(DOMID_IO, mfn, mfn))

    def look_up(self, domid: int, name: int) -> Frame | int:
        """The frame a foreign mapping of this name gets, or the (positive) errno that Xen gives."""
        domain = self.domains.get(domid)
        if domain is None:
            return errno.ESRCH
        name &= MASK_40
        if domain.kind == "pv":
            if name == MASK_40:
                return errno.EINVAL
            if name < FIRST_RAM_MFN or name >= self.n_frames:
                return errno.EPERM
            for frame in self.frames():
                if frame.domid == domid and frame.mfn == name:
                    return frame
            return errno.EBUSY
        if name in domain.waiting and not (domain.n_cached and self.n_free()):
            domain.crashed = True
        elif name in domain.waiting:
            domain.waiting.discard(name)
            domain.n_cached -= 1
            domain.p2m[name] = Frame(domid, name)
        slot = domain.p2m.get(name)
        if domain.dying or slot is None:
            return errno.EINVAL
        return errno.ENOENT if slot.paged else slot
