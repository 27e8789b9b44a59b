# SPDX-License-Identifier: Apache-2.0
"""The naive address spaces: one record a page, one dict entry a PTE, and a scan for every question.

There are no entries here, so nothing can be clipped wrongly; what the model calls an entry is compared page by
page. ``Thing`` is what lies behind a page; two pages of the model share an object exactly if the two records
here share a thing.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from support.naive.host import NOBODYS, Frame, Host, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 0x7FFF_FFFF_F000
READ, WRITE, EXEC = 1, 2, 4
LINUX_NUM_MAX = (2**63 - 1) >> 12
ANON, PRIVCMD, FOREIGN = "anon", "privcmd", "foreign"


@dataclass(eq=False)
class Thing:
    """Anonymous memory, a VMA of the privcmd file, or the object behind a foreign mapping (uvm)."""

    what: str
    domid: int = 0
    gmfns: list[int] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    used: bool = False  # a privcmd VMA: an ioctl has filled it once
    frames: list[Frame] | None = None  # uvm: part of a resource, whose gmfns are its machine frames


@dataclass(frozen=True)
class Page:
    thing: Thing
    index: int
    prot: int
    max_prot: int = READ | WRITE | EXEC
    wired: bool = False


def allows(prot: int, access: int) -> bool:
    """Whether an x86 page with this protection allows a load (1) or a store (2): writable is readable."""
    return bool(prot & WRITE if access == WRITE else prot & (READ | WRITE))


@dataclass(eq=False)
class Batch:
    """A request between its first look and its end."""

    space: Space
    start: int
    domid: int
    gmfns: list[int]
    prot: int
    stops: bool = False  # at the first bad frame
    found: list[Frame | int] = field(default_factory=list)

    @property
    def stopped(self) -> bool:
        """Whether it has come to the frame at which it stops."""
        return self.stops and any(not isinstance(frame, Frame) and frame != 0 for frame in self.found[-1:])

    def advance(self, n_frames: int) -> None:
        """Look up the next frames; good ones stay referenced until the batch ends."""
        at = len(self.found)
        for gmfn in self.gmfns[at : at + n_frames]:
            if self.stopped:
                return
            self.found.append(self.space.look_up(self.domid, gmfn, self.prot))

    def abandon(self) -> None:
        self.space.host.batches.remove(self)
        self.space.host.sweep()


@dataclass(frozen=True)
class Outcome:
    ret: int
    errs: list[int]  # negative errnos, as in V2's err[]


class Space:
    def __init__(self, host: Host, kind: str, probe: str, *, merge: bool) -> None:
        self.host, self.kind, self.probe, self.merge = host, kind, probe, merge
        self.pages: dict[int, Page] = {}
        self.ptes: dict[int, Frame] = {}
        self.pte_prots: dict[int, int] = {}  # linux: what the entry allowed when it was made
        self.barred: set[int] = set()  # linux: pages whose entry is there and not present: no frame, and no hole
        host.spaces.append(self)

    def look_up(self, domid: int, gmfn: int, prot: int) -> Frame | int:
        """The frame of this gmfn, or its errno; 0 when it is mapped without access (linux) and never looked at."""
        if self.kind == "linux" and domid in NOBODYS:
            return 0 if prot == 0 else self.host.look_up_nobodys(domid, gmfn)
        if self.kind == "linux" and prot == 0 and domid in self.host.domains:
            return 0
        found = self.host.look_up(domid, gmfn)
        domain = self.host.domains.get(domid)
        if self.kind == "linux" and prot & WRITE and domain is not None and found in domain.tables:
            return errno.EBUSY
        return found

    def writes(self, vpn: int) -> bool:
        """Whether the page table entry of this page allows a store."""
        return bool((self.pte_prots[vpn] if self.kind == "linux" else self.pages[vpn].prot) & WRITE)

    # --- counting -----------------------------------------------------------------------------------

    def ptps(self) -> int:
        addrs = [vpn << 12 for vpn in (*self.ptes, *self.barred)]
        return sum(len({addr >> shift for addr in addrs}) for shift in (21, 30, 39))

    def wired(self) -> int:
        return sum(self.pages[vpn].wired for vpn in self.ptes)

    def things(self, what: str) -> set[Thing]:
        return {page.thing for page in self.pages.values() if page.thing.what == what}

    # --- mmap and friends ---------------------------------------------------------------------------

    def mmap(self, start: int, n_pages: int, prot: int, what: str) -> None:
        """Put something new at this place, whatever was there."""
        self.refuse_to_split(start, n_pages, errno.ENOMEM)
        self.take_away(start, n_pages)
        thing = Thing(what)
        for i in range(n_pages):
            self.pages[start + i] = Page(thing, i, prot)
        self.host.sweep()

    def munmap(self, start: int, n_pages: int) -> None:
        self.refuse_to_split(start, n_pages, errno.EINVAL)
        self.take_away(start, n_pages)
        self.host.sweep()

    def take_away(self, start: int, n_pages: int) -> None:
        for vpn in range(start, start + n_pages):
            self.pages.pop(vpn, None)
            self.ptes.pop(vpn, None)
            self.barred.discard(vpn)

    def refuse_to_split(self, start: int, n_pages: int, err: int) -> None:
        """Linux: no edge of the range may fall between two pages of one privcmd VMA."""
        for edge in (start, start + n_pages):
            before, after = self.pages.get(edge - 1), self.pages.get(edge)
            if before and after and before.thing is after.thing and before.thing.what == PRIVCMD:
                raise Refused(err)

    def mprotect(self, start: int, n_pages: int, prot: int) -> None:
        found = [self.pages.get(vpn) for vpn in range(start, start + n_pages)]
        if any(page is None for page in found):
            raise Refused(errno.ENOMEM)
        self.refuse_to_split(start, n_pages, errno.EINVAL)
        if any(page and prot & ~page.max_prot for page in found):
            raise Refused(errno.EACCES)
        for vpn in range(start, start + n_pages):
            self.pages[vpn] = replace(self.pages[vpn], prot=prot)
            if prot == 0 and self.ptes.pop(vpn, None) is not None and self.kind == "linux":
                self.barred.add(vpn)
        self.host.sweep()

    def fork(self) -> Space:
        child = Space(self.host, self.kind, self.probe, merge=self.merge)
        copies: dict[Thing, Thing] = {}
        for vpn, page in self.pages.items():
            if page.thing.what == ANON:
                child.pages[vpn] = replace(page, thing=copies.setdefault(page.thing, Thing(ANON)))
        return child

    def close(self) -> None:
        self.host.batches = [b for b in self.host.batches if b.space is not self]
        self.host.spaces.remove(self)
        self.host.sweep()

    def touch(self, vpn: int, access: int) -> tuple[Frame, bool]:
        """The frame that a load or store at this page reaches, and whether that took a fault; EFAULT otherwise.

        Anonymous memory is the client's own: nothing here can reach it.
        """
        page = self.pages.get(vpn)
        if page is None or page.thing.what == ANON:
            raise Refused(errno.EFAULT)
        if page.thing.what == PRIVCMD:  # no pager: the page table entry alone decides
            if vpn not in self.ptes or not allows(self.pte_prots[vpn], access):
                raise Refused(errno.EFAULT)
            return self.ptes[vpn], False
        if not allows(page.prot, access):
            raise Refused(errno.EFAULT)
        if vpn in self.ptes:
            return self.ptes[vpn], False
        if page.index in page.thing.failed:
            raise Refused(errno.EFAULT)
        if page.thing.frames is not None:
            frame = page.thing.frames[page.index]
            found = frame if frame in self.host.frames() else errno.EINVAL
        else:
            found = self.host.look_up(page.thing.domid, page.thing.gmfns[page.index])
        if not isinstance(found, Frame):
            raise Refused(errno.EFAULT)
        self.ptes[vpn] = found
        return found, True

    # --- MMAPBATCH ----------------------------------------------------------------------------------

    def begin(self, addr: int, domid: int, gmfns: Sequence[int]) -> Batch:
        """All checks of MMAPBATCH and V2 that need no frame."""
        n = len(gmfns)
        if n == 0 or n > LINUX_NUM_MAX:
            raise Refused(errno.EINVAL)
        start = addr >> 12
        if self.kind == "uvm":
            if addr % 4096 or addr + n * 4096 > LIMIT:
                raise Refused(errno.EINVAL)
            prot = self.weakest(start, n)
        else:
            prot = self.fillable(addr, n)
        batch = Batch(self, start, domid, list(gmfns), prot)
        self.host.batches.append(batch)
        return batch

    def weakest(self, start: int, n: int) -> int:
        """uvm: what the new mapping may do is what could be done everywhere in the old range."""
        prots = [self.pages[vpn].prot if vpn in self.pages else 0 for vpn in range(start, start + n)]
        if all(prot & WRITE for prot in prots):
            return READ | WRITE
        if all(prot & READ for prot in prots):
            return READ
        raise Refused(errno.EINVAL)

    def fillable(self, addr: int, n: int) -> int:
        """linux: a fresh VMA whole, or any empty part of a used one."""
        page = self.pages.get(addr >> 12)
        if page is None or page.thing.what != PRIVCMD:
            raise Refused(errno.EINVAL)
        vma = [vpn for vpn, p in self.pages.items() if p.thing is page.thing]
        start, end = min(vma) << 12, (max(vma) + 1) << 12
        if not page.thing.used:
            if addr != start or addr + n * 4096 != end:
                raise Refused(errno.EINVAL)
        elif addr + n * 4096 > end or any(
            vpn in self.ptes or vpn in self.barred for vpn in range(addr >> 12, (addr >> 12) + n)
        ):
            raise Refused(errno.EINVAL)
        return page.prot

    def finish(self, batch: Batch) -> Outcome:
        """Look up what is still to be looked up and put the new mapping in place."""
        batch.advance(len(batch.gmfns))
        errs = [0 if isinstance(frame, Frame) else -frame for frame in batch.found]
        ret = 0
        if self.kind == "uvm":
            failed = {i for i, err in enumerate(errs) if err}
            thing = Thing(FOREIGN, batch.domid, batch.gmfns, failed)
            self.enter(batch.start, thing, range(len(errs)), batch.prot, batch.found)
        else:
            vma = self.pages[batch.start].thing
            vma.used = True
            for vpn, frame in enumerate(batch.found, batch.start):
                if isinstance(frame, Frame):
                    self.ptes[vpn], self.pte_prots[vpn] = frame, batch.prot
                elif frame == 0:
                    self.barred.add(vpn)
            last_of_chunk = [*errs[511::512], errs[-1]]
            ret = -errno.ENOENT if -errno.ENOENT in last_of_chunk else 0
        batch.abandon()
        return Outcome(ret, errs)

    def enter(self, start: int, thing: Thing, indices: range, prot: int, found: Sequence[Frame | int]) -> None:
        """uvm: replace a range by (part of) a foreign object."""
        self.take_away(start, len(indices))
        for vpn, (i, frame) in enumerate(zip(indices, found, strict=True), start):
            self.pages[vpn] = Page(thing, i, prot, prot, self.probe == "load")
            if isinstance(frame, Frame):
                self.ptes[vpn] = frame

    # --- MMAP_RESOURCE ------------------------------------------------------------------------------

    def map_grants(self, domid: int, addr: int, first: int, n: int) -> list[Frame]:
        """Part of a grant table in the place of what is there; linux: a range inside one VMA only."""
        start = addr >> 12
        if self.kind == "uvm":
            prot = self.weakest(start, n)
            frames = self.host.grant_frames(domid, first, n)
            self.enter(start, Thing(FOREIGN, domid, frames=frames), range(n), prot, frames)
            return frames
        vma = self.pages[start].thing
        vma.used = True
        frames = self.host.grant_frames(domid, first, n)
        for vpn, frame in enumerate(frames, start):
            self.ptes.pop(vpn, None)
            self.barred.discard(vpn)
            if self.pages[vpn].prot == 0:
                self.barred.add(vpn)
            else:
                self.ptes[vpn], self.pte_prots[vpn] = frame, self.pages[vpn].prot
        return frames if self.pages[start].prot else []

    # --- MMAP ---------------------------------------------------------------------------------------

    def map_entries(
        self, domid: int, entries: Sequence[tuple[int, int, int]], *, may_write: bool
    ) -> tuple[int, int, list[Frame]]:
        """MMAP of (va, mfn, npages); the errno, how many entries were done, and the frames mapped, in order."""
        self.placed: list[Frame] = []
        one = self.map_entry_uvm if self.kind == "uvm" else self.map_entry_linux
        last: tuple[int, int, Thing] | None = None  # where the entry before ended, its protection, its thing
        for done, entry in enumerate(entries):
            try:
                last = one(domid, entry, last, may_write)
            except Refused as refused:
                return refused.errno, done, self.placed
            finally:
                self.host.sweep()  # what an entry replaced is gone before the next one is looked at
        return 0, len(entries), self.placed

    def check_entry_uvm(self, entry: tuple[int, int, int], may_write: bool) -> tuple[int, int]:
        """Where an entry goes, and with which protection."""
        va, _, n = entry
        if n == 0 or va > LIMIT or va + n * 4096 > LIMIT:
            raise Refused(errno.EINVAL)
        start = va >> 12
        prot = self.weakest(start, n)
        if prot & WRITE and not may_write:
            raise Refused(errno.EPERM)
        return start, prot

    def map_entry_uvm(
        self,
        domid: int,
        entry: tuple[int, int, int],
        last: tuple[int, int, Thing] | None,
        may_write: bool,
        looked_up: Sequence[Frame | int] | None = None,
    ) -> tuple[int, int, Thing]:
        """Map an entry, of frames that are looked up now unless they were before."""
        _, mfn, n = entry
        start, prot = self.check_entry_uvm(entry, may_write)
        found = []
        for at, gmfn in enumerate(range(mfn, mfn + n)):
            frame = self.host.look_up(domid, gmfn) if looked_up is None else looked_up[at]
            if not isinstance(frame, Frame):
                raise Refused(frame)
            found.append(frame)
        thing = Thing(FOREIGN, domid)
        if self.merge and last is not None and last[:2] == (start, prot):
            thing = last[2]
        at = len(thing.gmfns)
        thing.gmfns += range(mfn, mfn + n)
        self.enter(start, thing, range(at, at + n), prot, found)
        self.placed += found
        return start + n, prot, thing

    def check_entry_linux(
        self, domid: int, entry: tuple[int, int, int], last: tuple[int, int, Thing] | None, may_write: bool
    ) -> tuple[int, Thing]:
        """Where an entry goes, in which VMA; the first one takes that."""
        va, _, n = entry
        if last is None:
            page = self.pages.get(va >> 12)
            if page is None or page.thing.what != PRIVCMD or page.thing.used or page.index or va % 4096:
                raise Refused(errno.EINVAL)
            if page.prot & WRITE and not may_write:
                raise Refused(errno.EPERM)
            page.thing.used = True
            expected, vma = va >> 12, page.thing
        else:
            expected, vma = last[0], last[2]
        end = max(vpn for vpn, p in self.pages.items() if p.thing is vma) + 1
        if va != expected << 12 or n > LINUX_NUM_MAX or expected + n > end:
            raise Refused(errno.EINVAL)
        if n and domid not in self.host.domains and domid not in NOBODYS:
            raise Refused(errno.ESRCH)
        return expected, vma

    def map_entry_linux(
        self, domid: int, entry: tuple[int, int, int], last: tuple[int, int, Thing] | None, may_write: bool
    ) -> tuple[int, int, Thing]:
        _, mfn, n = entry
        expected, vma = self.check_entry_linux(domid, entry, last, may_write)
        gmfns = range(mfn, mfn + n)
        self.fill(
            expected, [self.look_up(domid, gmfn, self.pages[vpn].prot) for vpn, gmfn in enumerate(gmfns, expected)]
        )
        return expected + n, 0, vma

    def fill(self, start: int, found: Sequence[Frame | int]) -> None:
        """linux: enter frames until one is bad."""
        for vpn, frame in enumerate(found, start):
            if frame == 0:
                self.barred.add(vpn)
                continue
            if not isinstance(frame, Frame):
                raise Refused(frame)
            self.ptes[vpn], self.pte_prots[vpn] = frame, self.pages[vpn].prot
            self.placed.append(frame)
