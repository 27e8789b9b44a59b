# SPDX-License-Identifier: Apache-2.0
"""Linux's privcmd (drivers/xen/privcmd.c).

The facts are in docs/explanation/facts/kernels.md, section 3, and docs/explanation/facts/recorded-host.md.

A VMA of the device is filled once, as a whole. After that only its holes (pages whose frame failed) can be filled.
Since 6.1.170 a VMA of the device cannot be split. An access to a page without a frame is SIGBUS.

In a PVH dom0 there is no MMAP, and a page whose frame failed is no hole: memory that reads as ones is mapped there.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.errors import ModelError, Unanswered
from privcmdd.model.host import Host
from privcmdd.model.machine import resources
from privcmdd.model.machine.frames import BARRED, NO_FRAME
from privcmdd.model.machine.machine import no_such_domain
from privcmdd.model.mm.access import refaults
from privcmdd.model.mm.vm_map import Entry, File, Inherit
from privcmdd.model.privcmd import detect
from privcmdd.model.privcmd.requests import (
    PAGED_OUT,
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
    run_of,
)
from privcmdd.model.units import (
    DOMID_IO,
    DOMID_SELF,
    DOMID_XEN,
    INVALID_FRAME,
    PAGE_MASK,
    PAGE_SHIFT,
    PROT_NONE,
    PROT_WRITE,
    VM_MAX_ADDRESS,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from privcmdd.model.machine.frames import Errors, Gmfns, Mfns
    from privcmdd.model.mm.space import AddressSpace

# Frames that the driver hands to the hypervisor at a time: a page of frame numbers.
CHUNK_FRAMES: Final = 512
# The bit by which a debug Xen marks grants (_PAGE_GNTTAB, bit 62 of a page table entry), as a bit of the frame number.
MARK_BIT: Final = 1 << 50
# Domids that Xen accepts and that are no ordinary domains.
NOBODYS: Final = (DOMID_SELF, DOMID_IO, DOMID_XEN)


@dataclass(slots=True)
class VmaData:
    """What the driver keeps about a VMA, from the first ioctl that fills it (its vm_private_data).

    Attributes:
        filled: Something is mapped at every page, also where a frame failed (in a PVH dom0).
        stray: MMAP_RESOURCE put these pages where no VMA of the device is; they may be split anywhere.
        pte_protection: The protection of its page table entries; None where mprotect changes that (in a PVH dom0).
        mixed: Its page table entries have different protections: the pmap has noted that of each.
    """

    filled: bool = False
    stray: bool = False
    pte_protection: int | None = None
    mixed: bool = False

    def copy(self) -> VmaData:
        """Return a copy, for a part of a VMA that is clipped."""
        return replace(self)


def data_of(vma: Entry) -> VmaData | None:
    """Return what the driver keeps about a VMA; None when no ioctl has filled it."""
    data = vma.private_data
    assert data is None or isinstance(data, VmaData)
    return data


class Linux:
    """The personality of Linux.

    Attributes:
        host: The host that is simulated: its kernel and the kind of its dom0.
        fills: Something is mapped where a frame failed: the page is no hole.
    """

    name = "linux"
    wires = False
    paged_nibble = PAGED_OUT

    def __init__(self, host: Host | None = None) -> None:
        self.host = host or Host()
        self.fills = self.host.dom0 == "pvh"

    def file(self, asked: str | None) -> File:
        """Return what is asked for; the default is the privcmd device."""
        return File.PRIVCMD if asked is None else File(asked)

    def check_cut(self, space: AddressSpace, start: int, end: int) -> None:
        """Refuse to split a VMA of the device (``.may_split``); anonymous memory may be split.

        See docs/explanation/facts/recorded-host.md, 2.10.
        """
        if self.host.linux == "5.10":
            return
        for at in (start, end):
            entry = space.map.lookup(at)
            if entry is not None and entry.file is File.PRIVCMD and entry.start < at and not is_stray(entry):
                raise ModelError(
                    errno.EINVAL,
                    f"{at:#x} is inside the privcmd mapping {entry.start:#x} to {entry.end:#x}, which cannot be split; "
                    "unmap or protect the whole of it",
                    addr=at,
                )

    def withdraw(self, space: AddressSpace, start: int, end: int, new: Sequence[Entry]) -> None:
        """Put the entries in place. In a PV dom0 the frames are lost, and no other frames can be mapped there.

        See docs/explanation/facts/recorded-host.md, 2.9.
        """
        if self.host.dom0 == "pvh":
            space.relabel(start, end, new)
        else:
            space.withdraw(start, end, new)

    def protect(self, space: AddressSpace, parts: Sequence[Entry], protection: int) -> None:
        """Find an mprotect that has no effect: in a PV dom0 it does not change page table entries of frames.

        See docs/explanation/facts/recorded-host.md, 2.9.
        """
        for part in parts:
            data = data_of(part)
            held = None if data is None else data.pte_protection
            if part.file is File.PRIVCMD and held is not None and space.pmap.count(part.page, part.n_pages):
                detect.protected(space, part, held, protection)

    def allowed(self, space: AddressSpace, entry: Entry, page: int) -> int:
        """Return the protection that the page table entry was made with, where mprotect does not change it."""
        data = data_of(entry)
        if data is None or data.pte_protection is None or space.pmap.get(page) in (NO_FRAME, BARRED):
            return entry.protection
        return space.pmap.allowed(page) if data.mixed else data.pte_protection

    def is_mixed(self, entry: Entry) -> bool:
        """Return whether the page table entries have different protections."""
        data = data_of(entry)
        return data is not None and data.mixed

    def n_failed(self, entry: Entry, n_present: int) -> int:
        """Return how many pages have no frame, once an ioctl has filled the VMA; 0 before."""
        return 0 if entry.private_data is None else entry.n_pages - n_present

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
        """Fill a fresh VMA, or holes of a VMA that is filled already; see ``Personality.mmapbatch``."""
        n = len(gmfns)
        end = check_num(n, addr)
        vma = self._vma(space, addr)
        start = addr & ~PAGE_MASK
        data = data_of(vma)
        if data is None:
            if addr != vma.start or end != vma.end:
                raise ModelError(
                    errno.EINVAL,
                    f"{n} pages at {addr:#x} are not the whole of the fresh mapping {vma.start:#x} to {vma.end:#x} "
                    f"({vma.n_pages} pages): the first call must fill all of it",
                    key="addr",
                )
        elif end > vma.end:
            raise ModelError(
                errno.EINVAL, f"{n} pages at {addr:#x} reach past the mapping's end, {vma.end:#x}", key="num"
            )
        elif data.filled or space.pmap.count_entries(start >> PAGE_SHIFT, n):
            raise ModelError(
                errno.EINVAL,
                f"a page of {addr:#x} to {end:#x} is mapped already: only holes can be filled again",
                key="addr",
            )
        check_rights(vma.reach, domid, may_write=may_write)
        mfns, errors = yield from self._get(space, vma, domid, start, gmfns)
        fills = self.fills if data is None else data.filled
        try:
            batch = Batch(returned(errors), mfns, errors, vma.protection)
            n_failed = batch.n_failed
            answer = ready(batch)
            data = self._fill(space, vma, domid, start, mfns)
        except BaseException:
            give_up(space, mfns)
            raise
        data.filled = fills
        self._cap(vma, may_write=may_write)
        space.counters.batches += 1
        space.counters.frames_failed += n_failed
        if errors is not None and not batch.ret:
            detect.enoent_lost(space, domid, start, gmfns, errors)
        return answer

    def _get(
        self, space: AddressSpace, vma: Entry, domid: int, start: int, gmfns: Gmfns, *, stop: bool = False
    ) -> Generator[None, None, tuple[Mfns, Errors | None]]:
        space.reserve(start, start + (len(gmfns) << PAGE_SHIFT), n_frames=len(gmfns))
        try:
            if self._is_blind(space, vma, domid):
                detect.unchecked(space, domid, start, len(gmfns))
                return np.zeros(len(gmfns), dtype=np.uint32), None
            if self.host.build == "debug" and self.host.dom0 == "pv":
                gmfns = without_marked(gmfns)
            return (yield from get_frames(space, domid, gmfns, vma.reach, stop=stop))
        except BaseException:
            space.abandon()
            raise

    def _is_blind(self, space: AddressSpace, vma: Entry, domid: int) -> bool:
        """Return whether Xen checks nothing, because the page table entries that it is given are not present.

        See docs/explanation/facts/recorded-host.md, 2.8.
        """
        if vma.protection != PROT_NONE or self.host.dom0 != "pv":
            return False
        return domid in space.machine.domains or domid in NOBODYS

    def _fill(self, space: AddressSpace, vma: Entry, domid: int, start: int, mfns: Mfns) -> VmaData:
        """Enter frames. Raises MemoryError; nothing has changed then.

        Returns:
            What is kept about the VMA from now on.
        """
        end = start + (len(mfns) << PAGE_SHIFT)
        if self._is_blind(space, vma, domid):
            space.fill(start, end, [NO_FRAME] * len(mfns))
            space.bar(start, end)
        else:
            space.fill(start, end, mfns)
        self._use(space, vma, domid)
        data = self._note(space, vma)
        if data.mixed:
            space.pmap.note(start >> PAGE_SHIFT, len(mfns), vma.protection)
        return data

    def _note(self, space: AddressSpace, vma: Entry) -> VmaData:
        """Note the protection of the VMA's page table entries, old and new, and return what is kept about the VMA.

        See docs/explanation/facts/recorded-host.md, 2.9.
        """
        data = vma.private_data
        assert isinstance(data, VmaData)
        if self.host.dom0 == "pvh":  # there mprotect changes them as it changes any others
            return data
        held = data.pte_protection
        if held is not None and held != vma.protection and not data.mixed:
            space.pmap.note(vma.page, vma.n_pages, held)
            data.mixed = True
        data.pte_protection = vma.protection
        return data

    def _cap(self, vma: Entry, *, may_write: bool) -> None:
        """Forbid mprotect, where it works on frames, to give more access than the caller's right to map."""
        if self.fills and not may_write and not vma.private:
            vma.max_protection &= ~PROT_WRITE

    def _use(self, space: AddressSpace, vma: Entry, domid: int) -> None:
        """Note that an ioctl has filled the VMA, whether it found any frame or not."""
        if vma.private_data is None:
            vma.private_data = VmaData()
        vma.domid = domid
        vma.made_by = space.maker

    def _vma(self, space: AddressSpace, addr: int) -> Entry:
        vma = space.map.lookup(addr)
        if vma is None or vma.file is not File.PRIVCMD:
            raise ModelError(
                errno.EINVAL,
                f"{addr:#x} is {'not mapped' if vma is None else 'not a mapping of the privcmd device'}: "
                "mmap the device there first",
                key="addr",
                addr=addr,
            )
        return vma

    def mmap(
        self, space: AddressSpace, domid: int, entries: Sequence[MmapEntry], *, may_write: bool = True
    ) -> Generator[None, None, Batch]:
        """Fill a fresh VMA from its start, entry by entry; see ``Personality.mmap``."""
        if not entries:
            return Batch(0, [], None)
        detect.mmap_elsewhere(space, space.map.lookup(entries[0].va), entries[0].va, entries[0].npages)
        vma = self._vma(space, entries[0].va)
        is_used = vma.private_data is not None
        if entries[0].va != vma.start or is_used:
            raise ModelError(
                errno.EINVAL,
                f"the first va is {entries[0].va:#x}, in the mapping {vma.start:#x} to {vma.end:#x}"
                f"{', which a call has used already' if is_used else ''}: expected the start of an unused one",
                key="entry",
            )
        check_rights(vma.reach, domid, may_write=may_write)
        arrays: list[Mfns] = []
        at = vma.start
        for number, entry in enumerate(entries):
            try:
                if entry.va != at:
                    raise ModelError(
                        errno.EINVAL,
                        f"va is {entry.va:#x}, expected {at:#x}: entries follow each other",
                        key="va",
                    )
                if entry.npages > (vma.end - at) >> PAGE_SHIFT:
                    raise ModelError(
                        errno.EINVAL,
                        f"{entry.npages} pages at {at:#x} reach past the mapping's end",
                        key="npages",
                    )
                if entry.npages:
                    yield from self._map_run(space, vma, domid, at, run_of(entry.mfn, entry.npages), arrays)
            except ModelError as error:
                if (
                    error.errno == errno.EDQUOT and number == 0
                ):  # the broker's limit, not the driver's: nothing was done
                    raise
                self._use(space, vma, domid)
                raise Stopped(error, number, concatenated(arrays), vma.protection) from None
            self._use(space, vma, domid)
            at += entry.npages << PAGE_SHIFT
        space.counters.batches += 1
        return Batch(0, concatenated(arrays), None, vma.protection)

    def reach_of_mmap(self, space: AddressSpace, entries: Sequence[MmapEntry]) -> int:
        """Return the pages of the first entry's VMA: an entry that reaches past that VMA is refused."""
        vma = space.map.lookup(entries[0].va) if entries else None
        return 0 if vma is None else vma.n_pages

    def check_mmap(self) -> None:
        """Refuse MMAP in a PVH dom0: its frames are auto-translated, and the driver has no MMAP for these."""
        if self.host.dom0 == "pvh":
            raise Unanswered("privcmd ioctl MMAP", "there is no MMAP in a PVH dom0: use MMAPBATCH_V2")

    def mmap_resource(
        self, space: AddressSpace, wanted: Part, addr: int, *, may_write: bool = True, ready: Ready = as_it_is
    ) -> Any:
        """Map over what is there; see ``Personality.mmap_resource``.

        The driver looks for a VMA and checks little else (docs/explanation/facts/recorded-host.md, section 9): the
        address may lie below the VMA, and the pages may reach past its end. Pages outside become entries of their own.
        """
        vma = next(iter(space.map.touching(addr, VM_MAX_ADDRESS)), None)
        if vma is None or vma.file is not File.PRIVCMD:
            raise ModelError(
                errno.EINVAL, f"{addr:#x} is not in, nor below, a mapping of the privcmd device", key="addr", addr=addr
            )
        check_size(wanted.num)
        if self.host.dom0 == "pvh" and vma.private_data is not None:
            detect.second_resource(space, wanted.dom, addr)
            raise ModelError(
                errno.ENOTRECOVERABLE,
                "a second MMAP_RESOURCE on a mapping crashes a real kernel in a PVH dom0 (alloc_empty_pages)",
                key="addr",
            )
        check_rights(vma.reach, wanted.dom, may_write=may_write)
        start = addr & ~PAGE_MASK
        end = start + (wanted.num << PAGE_SHIFT)
        strays = self._strays(space, vma, start, end)
        n_entries = sum(space.map.growth(stray.start, stray.end, 1) for stray in strays)
        space.reserve(start, end, n_entries=n_entries, n_frames=wanted.num, at_once=True)
        if vma.private_data is None:
            vma.private_data = VmaData()
        frames = resources.mfns_of(space.machine, wanted.dom, wanted.type, wanted.id, wanted.idx, wanted.num)
        is_blind = self._is_blind(space, vma, wanted.dom)
        mfns: Mfns = [NO_FRAME] * wanted.num if is_blind else get_resource(space, wanted, frames)
        try:
            answer = ready(Batch(0, mfns, None, vma.protection))
            if is_blind:
                detect.unchecked(space, wanted.dom, start, wanted.num)
            detect.resource_strays(space, wanted.dom, vma, strays)
            if self.host.dom0 == "pvh":
                detect.partial_resource(space, wanted.dom, vma, wanted.num)
            space.overlay(start, end, strays, mfns)
            if is_blind:
                space.bar(start, end)
        except BaseException:
            give_up(space, mfns)
            raise
        data = self._note(space, vma)
        self._cap(vma, may_write=may_write)
        for entry in (vma, *strays):
            entry.domid = wanted.dom
            entry.made_by = space.maker
        if data.mixed:
            space.pmap.note(start >> PAGE_SHIFT, wanted.num, vma.protection)
        return answer

    def _strays(self, space: AddressSpace, vma: Entry, start: int, end: int) -> list[Entry]:
        """Return new entries for the parts of a range that no VMA of the device covers."""
        covered = [entry for entry in space.map.touching(start, end) if entry.file is File.PRIVCMD]
        edges = [start, *(edge for entry in covered for edge in (entry.start, entry.end)), end]
        strays = []
        for low, high in zip(edges[::2], edges[1::2], strict=True):
            if low < high:
                stray = Entry(low, high, vma.protection, vma.max_protection, Inherit.NONE, File.PRIVCMD)
                stray.private_data = VmaData(stray=True)
                self._note(space, stray)
                strays.append(stray)
        return strays

    def _map_run(
        self, space: AddressSpace, vma: Entry, domid: int, at: int, gmfns: Gmfns, arrays: list[Mfns]
    ) -> Generator[None, None, None]:
        """Map consecutive frames until one fails; the frames before it stay mapped."""
        if domid not in space.machine.domains and domid not in NOBODYS:
            raise no_such_domain(domid)
        mfns, errors = yield from self._get(space, vma, domid, at, gmfns, stop=True)
        index = len(mfns) if errors is None else len(mfns) - 1
        try:
            self._fill(space, vma, domid, at, mfns[:index])
        except BaseException:
            give_up(space, mfns)
            raise
        arrays.append(mfns[:index])
        if errors is None:
            return
        space.counters.frames_failed += 1
        raise ModelError(
            -int(errors[index]),
            f"frame {int(gmfns[index]):#x} of domain {domid} cannot be mapped",
            index=index,
            dom=domid,
        )

    def fault(self, space: AddressSpace, entry: Entry, page: int) -> bool:
        """Touch a page. Linux enters no frame at a page fault: without a frame the access raises a signal."""
        mfn = space.pmap.get(page)
        if mfn not in (NO_FRAME, BARRED):
            return False
        address = page << PAGE_SHIFT
        if mfn == BARRED:
            why = "it was mapped, or protected, without access, and mprotect does not bring it back"
            refaults(space, entry, address, why)
        else:
            why = "no ioctl has filled this mapping" if entry.private_data is None else "it failed when it was mapped"
            if entry.private_data is not None and entry.file is File.PRIVCMD:
                detect.failed_touched(space, entry, address, filled=self.fills)
        raise ModelError(errno.EFAULT, f"{address:#x} has no frame: {why}", addr=address, signal="SIGBUS")


def is_stray(entry: Entry) -> bool:
    """Return whether MMAP_RESOURCE put an entry where no VMA of the device is."""
    data = data_of(entry)
    return data is not None and data.stray


def without_marked(gmfns: Gmfns) -> Gmfns:
    """Return gmfns as a debug Xen takes them: ``INVALID_FRAME`` for one that has the bit which marks grants."""
    if isinstance(gmfns, list):
        return [INVALID_FRAME if gmfn & MARK_BIT else gmfn for gmfn in gmfns]
    return np.where(gmfns & np.uint64(MARK_BIT) != 0, np.uint64(INVALID_FRAME), gmfns)


def returned(errors: Errors | None) -> int:
    """Return what MMAPBATCH returns: -ENOENT exactly when the last frame of a chunk failed with -ENOENT.

    See docs/explanation/facts/recorded-host.md, 2.2.
    """
    if errors is None:
        return 0
    last = [*range(CHUNK_FRAMES - 1, len(errors), CHUNK_FRAMES), len(errors) - 1]
    return -errno.ENOENT if any(errors[i] == -errno.ENOENT for i in last) else 0


def concatenated(arrays: list[Mfns]) -> Mfns:
    """Return several lists of frames as one."""
    return np.concatenate([np.asarray(part, dtype=np.uint32) for part in arrays]) if arrays else []
