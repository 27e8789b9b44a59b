# SPDX-License-Identifier: Apache-2.0
"""Accesses to memory through an address space: page faults, and where the bytes of a range lie."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.findings import FindingKind
from privcmdd.model.machine.frames import BARRED, NO_FRAME
from privcmdd.model.mm.syscalls import check_range
from privcmdd.model.mm.vm_map import File
from privcmdd.model.units import DOMID_INVALID, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.model.mm.vm_map import Entry


@dataclass(frozen=True, slots=True)
class FileRun:
    """A run of bytes in a domain's memory file: ``size`` bytes from byte ``offset`` of page ``page``.

    Attributes:
        buffers: The number of the buffer file, when the bytes lie in one; ``domid`` then has no meaning.
    """

    domid: int
    page: int
    offset: int
    size: int
    buffers: int | None = None


@dataclass(frozen=True, slots=True)
class Touch:
    """The outcome of a touch: the domid of the frame's owner, the gmfn it is mapped by, whether a PTE was entered."""

    domid: int
    gmfn: int
    entered: bool


def writes(space: AddressSpace, page: int) -> bool:
    """Return whether writes to a page reach its frame; writes to a private mapping reach copies."""
    entry = space.map.lookup(page << PAGE_SHIFT)
    return entry is not None and not entry.private and bool(space.personality.allowed(space, entry, page) & PROT_WRITE)


def check_access(space: AddressSpace, entry: Entry | None, address: int, access: int) -> Entry:
    """Check that an access is allowed, and return the entry that it goes to.

    Raises:
        ModelError: EFAULT, with the signal that the process would get in ``details``.
    """
    if entry is None:
        raise ModelError(errno.EFAULT, f"{address:#x} is not mapped", addr=address, signal="SIGSEGV")
    if entry.file is File.ANON:
        raise ModelError(
            errno.EFAULT,
            f"{address:#x} is anonymous memory: its bytes are the client's own, the broker has none",
            addr=address,
        )
    decides = space.personality.allowed(space, entry, address >> PAGE_SHIFT)
    # Writable pages are readable on x86.
    if access & (decides | (PROT_READ if decides & PROT_WRITE else PROT_NONE)):
        return entry
    if access & entry.protection:
        refaults(space, entry, address, "it was mapped read-only, and mprotect did not make it writable")
        raise ModelError(
            errno.EFAULT,
            f"{address:#x} was mapped read-only and mprotect did not change its page table entries: on a real host "
            "this write would fault again for ever",
            addr=address,
        )
    raise ModelError(
        errno.EFAULT,
        f"{address:#x} does not allow {'writing' if access & PROT_WRITE else 'reading'}: its protection is {decides}",
        addr=address,
        signal="SIGSEGV",
    )


def touch(space: AddressSpace, address: int, access: int) -> Touch:
    """Touch a page, as a read or a write does: a page without a page table entry is faulted in.

    Raises:
        ModelError: EFAULT, the access would raise a signal; EDQUOT.
    """
    entry = check_access(space, space.map.lookup(address), address, access)
    if entry.file is File.HYPERCALL:
        raise ModelError(errno.EFAULT, f"{address:#x} is a hypercall buffer: there is no domain's frame", addr=address)
    page = address >> PAGE_SHIFT
    entered = space.personality.fault(space, entry, page)
    mfn = space.pmap.get(page)
    machine = space.machine
    return Touch(machine.owner(mfn), machine.gmfn(mfn), entered)


def resolve(space: AddressSpace, address: int, size: int, access: int) -> list[FileRun]:
    """Find where the bytes of a range lie; all of them or none.

    Args:
        space: The address space.
        address: The first byte, not necessarily aligned.
        size: Bytes, at least one.
        access: ``PROT_READ`` or ``PROT_WRITE``.

    Returns:
        Runs in a memory file, in address order.

    Raises:
        ModelError: EINVAL, no range of user addresses; EFAULT, a page of the range does not allow ``access``; EDQUOT.
    """
    if size <= 0:
        raise ModelError(errno.EINVAL, f"len is {size}, expected at least one byte", key="len")
    start = address & ~PAGE_MASK
    end = start + check_range(start, address + size - start, fixed=True)
    entries = space.map.touching(start, end)
    at = start
    for entry in entries:
        if entry.start > at:
            break
        check_access(space, entry, max(at, address), access)
        if space.personality.is_mixed(entry):
            for page in range(max(at, address) >> PAGE_SHIFT, min(end, entry.end) >> PAGE_SHIFT):
                check_access(space, entry, page << PAGE_SHIFT, access)
        at = entry.end
    if at < end:
        check_access(space, space.map.lookup(at), max(at, address), access)
    if all(entry.file is not File.HYPERCALL for entry in entries):
        return present(space, address, size, access)
    found: list[FileRun] = []
    for entry in entries:
        low, high = max(address, entry.start), min(address + size, entry.end)
        if entry.file is File.HYPERCALL:
            found.append(buffer_segment(space, entry, low, high - low))
        else:
            found += present(space, low, high - low, access)
    return found


def buffer_segment(space: AddressSpace, entry: Entry, address: int, size: int) -> FileRun:
    """Return where a run of bytes of a hypercall buffer lies."""
    assert space.buffers is not None
    page = entry.offset + ((address - entry.start) >> PAGE_SHIFT)
    return FileRun(DOMID_INVALID, page, address & PAGE_MASK, size, space.buffers.number)


def present(space: AddressSpace, address: int, size: int, access: int) -> list[FileRun]:
    """Return where a run of bytes of foreign mappings lies; pages without a frame are faulted in.

    Raises:
        ModelError: EFAULT; EDQUOT.
    """
    first = address >> PAGE_SHIFT
    n_pages = ((address + size - 1) >> PAGE_SHIFT) + 1 - first
    mfns = space.pmap.frames(first, n_pages)
    for absent in np.flatnonzero((mfns == NO_FRAME) | (mfns == BARRED)).tolist():
        touch(space, (first + absent) << PAGE_SHIFT, access)
    return segments(space, address, size, first, n_pages)


def segments(space: AddressSpace, address: int, size: int, first: int, n_pages: int) -> list[FileRun]:
    """Return where a run of bytes lies, whose pages are all present."""
    frames = space.machine.frames
    mfns = space.pmap.frames(first, n_pages)
    pages = frames.page[mfns].astype(np.int64)
    owners = frames.owner[mfns].astype(np.int64)
    breaks = np.flatnonzero((np.diff(pages) != 1) | (np.diff(owners) != 0)) + 1
    starts = [0, *breaks.tolist()]
    found = []
    for index, stop in zip(starts, [*starts[1:], n_pages], strict=True):
        low = max(address, (first + index) << PAGE_SHIFT)
        high = min(address + size, (first + stop) << PAGE_SHIFT)
        found.append(FileRun(int(owners[index]), int(pages[index]), low % PAGE_SIZE, high - low))
    return found


def refaults(space: AddressSpace, entry: Entry, address: int, why: str) -> None:
    """Add the finding that an access faults again and again on a real host."""
    space.machine.found(
        FindingKind.ENDLESS_REFAULT,
        f"an access to {address:#x} faults again for ever on a real host, and its thread hangs without a signal: {why}",
        dom=entry.domid,
        addr=address,
    )
