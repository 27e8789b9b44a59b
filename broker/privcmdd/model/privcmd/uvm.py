# SPDX-License-Identifier: Apache-2.0
"""NetBSD's privcmd, as it should be: with the race of the original mended.

Any mapped range may be replaced; the new mapping takes its protection from the range. Every frame is tried while the
caller waits, and an access to a frame that failed is EFAULT. NetBSD drops the map's lock between the look-up and the
replacement (privcmd_map_obj, 2007 to 2009); this does both in one step.

There are two ways to try the frames. ``load`` enters them by wiring the new entry, which stays wired as long as it
exists. ``scratch`` enters each frame at a scratch page and removes it again before the object gets the frame. The
answers are the same; the counts of wired pages and probes differ.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.findings import FindingKind
from privcmdd.model.machine import foreign, resources
from privcmdd.model.machine.frames import FEW
from privcmdd.model.mm.vm_map import Entry, File, Inherit
from privcmdd.model.privcmd.requests import (
    FAILED,
    Batch,
    MmapEntry,
    Part,
    Ready,
    Stopped,
    as_it_is,
    check_num,
    check_rights,
    check_size,
    get_frames,
    get_resource,
    give_up,
    put_frames,
    run_of,
)
from privcmdd.model.units import INVALID_FRAME, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, PROT_ALL

# Looking a member of an enumeration up costs 0.1 us in Python 3.11, and every request uses these.
NOT_INHERITED: Final = Inherit.NONE
PRIVCMD: Final = File.PRIVCMD
F = TypeVar("F", "Gmfns", "Mfns")

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from privcmdd.model.machine.frames import Errors, Gmfns, Mfns
    from privcmdd.model.mm.space import AddressSpace


@dataclass(slots=True, eq=False)
class Run:
    """Entries of MMAP that become one object: one entry, or several when entries are merged.

    Attributes:
        growth: By how many entries the map may grow for the run so far; this is paid for.
        mfns: The mfns of each entry, with references that are put unless the run is placed.
    """

    start: int
    end: int
    protection: int
    growth: int = 0
    gmfns: list[Gmfns] = field(default_factory=list)
    mfns: list[Mfns] = field(default_factory=list)


class Uvm:
    """The personality of NetBSD.

    Attributes:
        probe: ``load`` or ``scratch``.
        merge: Entries of one MMAP with consecutive addresses share an object and a map entry.
        wires: Whether frames are tried by wiring the entry that holds them.
    """

    name = "uvm"
    fills = False
    paged_nibble = FAILED

    def __init__(self, probe: str = "load", *, merge: bool = False) -> None:
        self.probe = probe
        self.wires = probe == "load"
        self.merge = merge

    def file(self, asked: str | None) -> File:
        """Return anonymous memory: NetBSD's /kern/xen/privcmd cannot be mapped."""
        if asked not in (None, File.ANON):
            raise ModelError(
                errno.ENODEV,
                "the privcmd device cannot be mapped in personality uvm: map anon and call the ioctl over it",
                key="file",
            )
        return File.ANON

    def check_cut(self, space: AddressSpace, start: int, end: int) -> None:
        """Allow every cut: any entry may be clipped anywhere."""

    def withdraw(self, space: AddressSpace, start: int, end: int, new: Sequence[Entry]) -> None:
        """Remove the page table entries; a later page fault enters them again."""
        space.commit(start, end, new)

    def protect(self, space: AddressSpace, parts: Sequence[Entry], protection: int) -> None:
        """Do nothing: mprotect works as documented."""

    def allowed(self, _: AddressSpace, entry: Entry, page: int) -> int:  # noqa: ARG002 - the same for all pages
        """Return what the map entry allows: mprotect changes page table entries too."""
        return entry.protection

    def is_mixed(self, _: Entry) -> bool:
        """Return False: all pages of an entry allow the same."""
        return False

    def n_failed(self, entry: Entry, _: int) -> int:
        """Return how many pages the object has marked as failed."""
        if entry.object is None:
            return 0
        gmfns = entry.object.gmfns[entry.offset : entry.offset + entry.n_pages]
        return gmfns.count(INVALID_FRAME) if isinstance(gmfns, list) else int((gmfns == INVALID_FRAME).sum())

    def mmapbatch(
        self,
        space: AddressSpace,
        domid: int,
        addr: int,
        gmfns: Gmfns,
        *,
        may_write: bool = True,
        ready: Ready = as_it_is,
    ) -> Generator[None, None, Any]:
        """Replace a mapped range by frames; see ``Personality.mmapbatch``."""
        if addr & PAGE_MASK:
            raise ModelError(
                errno.EINVAL, f"addr is {addr:#x}, expected a multiple of {PAGE_SIZE}", key="addr", addr=addr
            )
        start = addr
        end = check_num(len(gmfns), start)
        protection = self._protection(space, start, end)
        check_rights(protection, domid, may_write=may_write)
        growth = space.map.growth(start, end, 1)
        if isinstance(gmfns, list):
            space.reserve(start, end, n_entries=growth, n_objects=1, n_frames=len(gmfns), at_once=True)
            mfns, errors = foreign.get(space.machine, domid, gmfns)
        else:
            space.reserve(start, end, n_entries=growth, n_objects=1, n_frames=len(gmfns))
            try:
                mfns, errors = yield from get_frames(space, domid, gmfns)
            except BaseException:
                space.abandon()
                raise
        try:
            batch = Batch(0, mfns, errors, protection)
            n_failed = 0 if errors is None else batch.n_failed
            answer = ready(batch)
            self._place(space, domid, start, end, protection, flagged(gmfns, errors), mfns)
        except BaseException:
            give_up(space, mfns)
            raise
        space.counters.batches += 1
        if n_failed:
            space.counters.frames_failed += n_failed
        return answer

    def mmap(
        self, space: AddressSpace, domid: int, entries: Sequence[MmapEntry], *, may_write: bool = True
    ) -> Generator[None, None, Batch]:
        """Replace several mapped ranges; see ``Personality.mmap``."""
        placed: list[Mfns] = []
        common = PROT_ALL
        run: Run | None = None
        try:
            for number, entry in enumerate(entries):
                start = entry.va & ~PAGE_MASK
                if run is not None and not (self.merge and start == run.end):
                    self._flush(space, domid, run, placed)
                    run = None
                try:
                    end = check_num(entry.npages, start, "npages")
                    protection = self._protection(space, start, end)
                    check_rights(protection, domid, may_write=may_write)
                    if run is not None and protection != run.protection:
                        self._flush(space, domid, run, placed)
                        run = None
                    run = run or Run(start, start, protection)
                    n_frames = (end - run.start) >> PAGE_SHIFT
                    # The run without this entry may need more map entries, and it is placed when this entry fails.
                    growth = max(space.map.growth(run.start, end, 1), run.growth)
                    space.reserve(run.start, end, n_entries=growth, n_objects=1, n_frames=n_frames)
                    gmfns = run_of(entry.mfn, entry.npages)
                    run.mfns.append((yield from self._get_all(space, domid, gmfns)))
                except ModelError as error:
                    if run is not None:
                        self._flush(space, domid, run, placed)
                    space.abandon()
                    raise Stopped(error, number, joined(placed), common) from None
                common &= protection
                space.counters.merged += bool(run.gmfns)
                run.gmfns.append(gmfns)
                run.end, run.growth = end, growth
            if run is not None:
                self._flush(space, domid, run, placed)
        except BaseException:
            if run is not None and run.mfns:
                space.machine.put_parts(run.mfns)
            space.abandon()
            raise
        space.counters.batches += 1
        return Batch(0, joined(placed), None, common)

    def reach_of_mmap(self, _: AddressSpace, entries: Sequence[MmapEntry]) -> int:
        """Return the pages of all entries: they may lie anywhere."""
        return sum(entry.npages for entry in entries)

    def check_mmap(self) -> None:
        """Do nothing: NetBSD has MMAP."""

    def mmap_resource(
        self, space: AddressSpace, wanted: Part, addr: int, *, may_write: bool = True, ready: Ready = as_it_is
    ) -> Any:
        """Replace a mapped range, as MMAPBATCH does; see ``Personality.mmap_resource``."""
        start = addr & ~PAGE_MASK
        check_size(wanted.num)
        end = check_num(wanted.num, start)
        protection = self._protection(space, start, end)
        check_rights(protection, wanted.dom, may_write=may_write)
        n_entries = space.map.growth(start, end, 1)
        space.reserve(start, end, n_entries=n_entries, n_objects=1, n_frames=wanted.num, at_once=True)
        frames = resources.mfns_of(space.machine, wanted.dom, wanted.type, wanted.id, wanted.idx, wanted.num)
        mfns = get_resource(space, wanted, frames)
        try:
            answer = ready(Batch(0, mfns, None, protection))
            self._place(space, wanted.dom, start, end, protection, frames.astype(np.uint64), mfns, resource=True)
        except BaseException:
            give_up(space, mfns)
            raise
        return answer

    def _get_all(self, space: AddressSpace, domid: int, gmfns: Gmfns) -> Generator[None, None, Mfns]:
        """Get references to all frames of an entry, or raise the error of the first frame that fails."""
        mfns, errors = yield from get_frames(space, domid, gmfns, stop=True)
        if errors is not None:
            put_frames(space, mfns)
            index = len(errors) - 1
            raise ModelError(
                -int(errors[index]),
                f"frame {int(gmfns[index]):#x} of domain {domid} cannot be mapped",
                index=index,
                dom=domid,
            )
        return mfns

    def _flush(self, space: AddressSpace, domid: int, run: Run, placed: list[Mfns]) -> None:
        """Map what a run has. Its references belong to the page table entries from then on, not to the run."""
        if run.mfns:
            mfns = joined(run.mfns)
            self._place(space, domid, run.start, run.end, run.protection, joined(run.gmfns), mfns)
            run.mfns.clear()
            placed.append(mfns)

    def _place(
        self,
        space: AddressSpace,
        domid: int,
        start: int,
        end: int,
        protection: int,
        gmfns: Gmfns,
        mfns: Mfns,
        *,
        resource: bool = False,
    ) -> None:
        """Make the object, then map it. Raises MemoryError; nothing has changed then."""
        made = space.new_object(domid, gmfns)
        made.resource = resource
        entry = Entry(
            start,
            end,
            protection,
            protection,
            NOT_INHERITED,
            PRIVCMD,
            made,
            wired=self.wires,
            domid=domid,
            made_by=space.maker,
        )
        space.commit(start, end, [entry], mfns)
        if not self.wires:
            space.counters.scratch_probes += len(gmfns)

    def _protection(self, space: AddressSpace, start: int, end: int) -> int:
        protection = space.map.weakest_protection(start, end)
        if protection is None:
            mapped = space.map.covers(start, end)
            raise ModelError(
                errno.EINVAL,
                f"{start:#x} to {end:#x} is "
                + ("mapped but not readable throughout" if mapped else "not mapped throughout")
                + ": map it readable or writable first, the new mapping takes its protection from it",
                key="addr",
                addr=start,
            )
        return protection

    def fault(self, space: AddressSpace, entry: Entry, page: int) -> bool:
        """The pager's fault routine (privpgop_fault): enter the frame that the object remembers."""
        if space.pmap.get(page):
            return False
        assert entry.object is not None
        address = page << PAGE_SHIFT
        try:
            gmfn = entry.object.gmfn(entry.offset + page - entry.page)
        except ModelError:
            space.machine.found(
                FindingKind.FAILED_FRAME_TOUCHED,
                f"the frame at {address:#x} failed when it was mapped, and was touched; look at the error of each "
                "frame before it is used",
                dom=entry.object.domid,
                addr=address,
            )
            raise
        get = foreign.get_mfns if entry.object.resource else foreign.get
        mfns, errors = get(space.machine, entry.object.domid, [gmfn])
        if errors is not None:
            raise ModelError(
                errno.EFAULT,
                f"{address:#x}: frame {gmfn:#x} of domain {entry.object.domid} can no longer be mapped",
                addr=address,
                cause=-int(errors[0]),
            )
        try:
            space.enter(page, mfns)
        except BaseException:
            put_frames(space, mfns)
            raise
        space.counters.faults += 1
        return True


def flagged(gmfns: Gmfns, errors: Errors | None) -> Gmfns:
    """Return the gmfns for the object, with ``INVALID_FRAME`` for each frame that failed."""
    if errors is None:
        return gmfns
    if isinstance(gmfns, list):
        return [INVALID_FRAME if error else gmfn for gmfn, error in zip(gmfns, errors, strict=True)]
    return np.where(np.asarray(errors) == 0, gmfns, np.uint64(INVALID_FRAME))


def joined(parts: list[F]) -> F:
    """Return several lists of frames as one."""
    if len(parts) == 1:
        return parts[0]
    whole: Any = np.concatenate([np.asarray(part) for part in parts]) if parts else []
    return whole.tolist() if 0 < len(whole) <= FEW else whole  # type: ignore[no-any-return]
