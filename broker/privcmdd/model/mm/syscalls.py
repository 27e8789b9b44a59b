# SPDX-License-Identifier: Apache-2.0
"""The system calls by which a process changes what its address space maps."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.mm.space import AddressSpace
from privcmdd.model.mm.vm_map import Entry, File, Inherit
from privcmdd.model.units import PAGE_MASK, PAGE_SIZE, PROT_ALL, PROT_NONE, VM_MAX_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Sequence


INHERIT: Final = {
    File.ANON: Inherit.COPY,
    File.PRIVCMD: Inherit.NONE,
    File.HYPERCALL: Inherit.COPY,
    File.GNTDEV: Inherit.NONE,
}


def mmap(
    space: AddressSpace,
    addr: int,
    size: int,
    prot: int,
    *,
    fixed: bool = False,
    file: str | None = None,
    private: bool = False,
    opened: int = 0,
) -> int:
    """Map anonymous memory or the privcmd device.

    Args:
        space: The address space.
        addr: The address; a hint unless ``fixed``, 0 for no preference.
        size: Bytes, rounded up to pages.
        prot: Protection bits of mman.h.
        fixed: Map exactly at ``addr``, and replace what is mapped there (MAP_FIXED).
        private: Writes go to copies that only the process has (MAP_PRIVATE).
        file: ``anon``, ``privcmd``, ``hypercall`` or ``gntdev``; None for the personality's default.
        opened: See ``Entry``.

    Returns:
        The address.

    Raises:
        ModelError: EINVAL, ENOMEM (no such room), ENODEV (uvm: the device cannot be mapped), EDQUOT.
    """
    what = File.HYPERCALL if file == File.HYPERCALL else space.personality.file(file)
    size = check_range(addr, size, fixed=fixed)
    protection = check_prot(prot)
    if fixed:
        try:
            space.personality.check_cut(space, addr, addr + size)
        except ModelError as error:
            # Linux answers ENOMEM for every reason why it cannot unmap what is there (mm/mmap.c, mmap_region).
            raise ModelError(errno.ENOMEM, error.text, **error.details) from None
        start = addr
    else:
        hint = addr & ~PAGE_MASK
        free = hint and hint + size <= VM_MAX_ADDRESS and not space.map.touching(hint, hint + size)
        found = hint if free else space.map.find_space(size)
        if found is None:
            raise ModelError(errno.ENOMEM, f"no free range of {size} bytes in this address space", key="len")
        start = found
    entry = Entry(start, start + size, protection, PROT_ALL, INHERIT[what], what, private=private, opened=opened)
    if what is File.HYPERCALL:
        entry.offset = space.buffer_file().find(entry.n_pages)
    replace_entries(space, start, entry.end, [entry])
    return start


def munmap(space: AddressSpace, addr: int, size: int) -> None:
    """Unmap a range; entries that lie partly in the range are clipped. A range without entries is no error.

    Raises:
        ModelError: EINVAL, unaligned, empty, past the limit, or the range would cut a VMA that cannot be cut; EDQUOT,
            the cut makes more entries than the account may have.
    """
    end = addr + check_range(addr, size, fixed=True)
    space.personality.check_cut(space, addr, end)
    replace_entries(space, addr, end, [])


def replace_entries(space: AddressSpace, start: int, end: int, new: Sequence[Entry]) -> None:
    """Replace what a range holds by entries without frames. Raises ModelError EDQUOT."""
    space.reserve(start, end, n_entries=space.map.growth(start, end, len(new)), at_once=True)
    space.commit(start, end, new)


def mprotect(space: AddressSpace, addr: int, size: int, prot: int) -> None:
    """Change the protection of a range; every page of it must be mapped.

    The personality decides what happens to page table entries when no access is left (``VmOps.withdraw``).

    Raises:
        ModelError: EINVAL, unaligned, past the limit, or the range would cut a VMA that cannot be cut; ENOMEM, part
            of the range is not mapped; EACCES, more than an entry's maximum protection; EDQUOT.
    """
    end = addr + check_range(addr, size, fixed=True)
    protection = check_prot(prot)
    if not space.map.covers(addr, end):
        raise ModelError(errno.ENOMEM, f"{addr:#x} to {end:#x} is not mapped throughout", addr=addr)
    touched = space.map.touching(addr, end)
    for entry in touched:
        if protection & ~entry.max_protection:
            raise ModelError(
                errno.EACCES,
                f"the entry at {entry.start:#x} allows protection {entry.max_protection} at most, asked for {prot}",
                addr=entry.start,
                key="prot",
            )
    space.personality.check_cut(space, addr, end)
    parts = [entry.part(max(entry.start, addr), min(entry.end, end)) for entry in touched]
    for part in parts:
        part.protection = protection
    space.reserve(addr, end, n_entries=space.map.growth(addr, end, len(parts)), at_once=True)
    space.personality.protect(space, parts, protection)
    if protection == PROT_NONE:
        space.personality.withdraw(space, addr, end, parts)
    else:
        space.relabel(addr, end, parts)


def fork(space: AddressSpace, number: int) -> AddressSpace:
    """Return the address space of a child: it has the entries that are inherited, and no foreign mapping.

    Raises:
        ModelError: EDQUOT.
    """
    child = AddressSpace(
        number, space.machine, space.account, space.personality, space.slice_frames, space.objects.total
    )
    child.buffers = space.buffers
    if space.buffers is not None:
        space.buffers.n_spaces += 1
    try:
        for entry in space.map:
            if entry.inherit is Inherit.COPY:
                replace_entries(child, entry.start, entry.end, [entry.part(entry.start, entry.end)])
    except BaseException:
        child.close()
        raise
    return child


def check_range(addr: int, size: int, *, fixed: bool) -> int:
    """Check a range of addresses.

    Returns:
        The size rounded up to whole pages.

    Raises:
        ModelError: EINVAL.
    """
    if size <= 0:
        raise ModelError(errno.EINVAL, f"len is {size}, expected at least one byte", key="len")
    if fixed and addr & PAGE_MASK:
        raise ModelError(errno.EINVAL, f"addr is {addr:#x}, expected a multiple of {PAGE_SIZE}", key="addr")
    size = (size + PAGE_MASK) & ~PAGE_MASK
    if addr < 0 or (addr if fixed else 0) + size > VM_MAX_ADDRESS:
        raise ModelError(
            errno.EINVAL,
            f"addr {addr:#x} and len {size:#x} reach past {VM_MAX_ADDRESS:#x}, the end of user addresses",
            key="len" if size > VM_MAX_ADDRESS else "addr",
        )
    return size


def check_prot(prot: int) -> int:
    """Check protection bits.

    Raises:
        ModelError: EINVAL, a bit that is none of read, write, execute.
    """
    if prot & ~PROT_ALL:
        raise ModelError(
            errno.EINVAL, f"prot is {prot:#x}, expected a sum of 1 (read), 2 (write), 4 (execute)", key="prot"
        )
    return prot
