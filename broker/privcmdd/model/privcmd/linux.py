# SPDX-License-Identifier: Apache-2.0
"""Linux's privcmd (drivers/xen/privcmd.c, 6.1) in a PV dom0, by facts/semantics.md and oracle/RESULTS.md.

A VMA of the device is filled once, as a whole. After that only its holes, pages whose frame failed, can be
filled. It cannot be cut. Touching a page without a frame is SIGBUS.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.frames import NO_FRAME
from privcmdd.model.hypervisor import no_such_domain
from privcmdd.model.privcmd import (
    PAGED_OUT,
    Batch,
    MmapEntry,
    Stopped,
    acquire,
    check_num,
    check_rights,
    give_back,
    run_of,
)
from privcmdd.model.units import PAGE_MASK, PAGE_SHIFT, PROT_NONE
from privcmdd.model.vm_map import Entry, File

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from privcmdd.model.frames import Errors, Mfns, Names
    from privcmdd.model.space import AddressSpace

# Frames the driver hands to the hypervisor at a time: a page of frame numbers.
CHUNK_FRAMES: Final = 512


class Linux:
    """The personality of Linux."""

    name = "linux"
    wires = False
    paged_nibble = PAGED_OUT

    def file(self, asked: str | None) -> File:
        """The privcmd device, unless anonymous memory is asked for."""
        return File.PRIVCMD if asked is None else File(asked)

    def check_cut(self, space: AddressSpace, start: int, end: int) -> None:
        """A VMA of the device refuses to be split (``.may_split``, RESULTS.md 2.10); anonymous memory does not."""
        for at in (start, end):
            entry = space.map.lookup(at)
            if entry is not None and entry.file is File.PRIVCMD and entry.start < at:
                raise ModelError(
                    errno.EINVAL,
                    f"{at:#x} is inside the privcmd mapping {entry.start:#x} to {entry.end:#x}, which cannot be split; "
                    "unmap or protect the whole of it",
                    addr=at,
                )

    def mmapbatch(
        self, space: AddressSpace, domid: int, addr: int, names: Names, *, may_write: bool = True
    ) -> Generator[None, None, Batch]:
        """Fill a fresh VMA, or holes of a used one; see ``Personality.mmapbatch``."""
        n = len(names)
        end = check_num(n, addr)
        vma = self._vma(space, addr)
        start = addr & ~PAGE_MASK
        if not vma.used:
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
        elif space.pmap.count(start >> PAGE_SHIFT, n):
            raise ModelError(
                errno.EINVAL,
                f"a page of {addr:#x} to {end:#x} is mapped already: only holes can be filled again",
                key="addr",
            )
        check_rights(vma.protection, domid, may_write=may_write)
        end = start + (n << PAGE_SHIFT)
        mfns, errors = yield from self._acquire(space, vma, domid, start, names)
        self._fill(space, vma, domid, start, mfns)
        batch = Batch(returned(errors), mfns, errors)
        space.counters.batches += 1
        space.counters.frames_failed += batch.n_failed
        return batch

    def _acquire(
        self, space: AddressSpace, vma: Entry, domid: int, start: int, names: Names
    ) -> Generator[None, None, tuple[Mfns, Errors | None]]:
        if vma.protection == PROT_NONE and domid in space.hypervisor.domains:
            # Xen sees entries that are not present and has nothing to check (RESULTS.md 2.8).
            return [NO_FRAME] * len(names), None
        space.reserve(start, start + (len(names) << PAGE_SHIFT), n_frames=len(names))
        try:
            return (yield from acquire(space, domid, names))
        except GeneratorExit:
            space.abandon()
            raise

    def _fill(self, space: AddressSpace, vma: Entry, domid: int, start: int, mfns: Mfns) -> None:
        vma.used = True
        vma.domid = domid
        vma.pte_protection = vma.protection
        space.fill(start, start + (len(mfns) << PAGE_SHIFT), mfns)

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
        vma = self._vma(space, entries[0].va)
        if entries[0].va != vma.start or vma.used:
            raise ModelError(
                errno.EINVAL,
                f"the first va is {entries[0].va:#x}, expected {vma.start:#x}, the start of a mapping that no call has "
                "used yet",
                key="entry",
            )
        check_rights(vma.protection, domid, may_write=may_write)
        vma.used = True
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
                raise Stopped(error, number, concatenated(arrays)) from None
            at += entry.npages << PAGE_SHIFT
        space.counters.batches += 1
        return Batch(0, concatenated(arrays), None)

    def _map_run(
        self, space: AddressSpace, vma: Entry, domid: int, at: int, names: Names, arrays: list[Mfns]
    ) -> Generator[None, None, None]:
        """Map consecutive frames until one is bad; those before it stay."""
        if domid not in space.hypervisor.domains:
            raise no_such_domain(domid)
        mfns, errors = yield from self._acquire(space, vma, domid, at, names)
        if errors is None:
            self._fill(space, vma, domid, at, mfns)
            arrays.append(mfns)
            return
        index = int(np.flatnonzero(errors)[0])
        give_back(space, mfns[index:])
        good = mfns[:index]
        self._fill(space, vma, domid, at, good)
        arrays.append(good)
        space.counters.frames_failed += 1
        raise ModelError(
            -int(errors[index]),
            f"frame {int(names[index]):#x} of domain {domid} cannot be mapped",
            index=index,
            dom=domid,
        )

    def fault(self, space: AddressSpace, entry: Entry, page: int) -> bool:
        """There is no pager: a page has its frame or it raises a signal."""
        if space.pmap.get(page):
            return False
        address = page << PAGE_SHIFT
        raise ModelError(
            errno.EFAULT,
            f"{address:#x} has no frame: "
            + (
                "it failed when it was mapped, or mprotect lost it"
                if entry.used
                else "no ioctl has filled this mapping"
            ),
            addr=address,
            signal="SIGBUS",
        )


def returned(errors: Errors | None) -> int:
    """What MMAPBATCH returns: -ENOENT exactly when some chunk's last frame failed with it (RESULTS.md 2.2)."""
    if errors is None:
        return 0
    last = [*range(CHUNK_FRAMES - 1, len(errors), CHUNK_FRAMES), len(errors) - 1]
    return -errno.ENOENT if any(errors[i] == -errno.ENOENT for i in last) else 0


def concatenated(arrays: list[Mfns]) -> Mfns:
    """Several lists of frames as one."""
    return np.concatenate([np.asarray(part, dtype=np.uint32) for part in arrays]) if arrays else []
