# SPDX-License-Identifier: Apache-2.0
"""One simulated address space: the system calls by which a process changes what it has mapped."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.files import BufferPages
from privcmdd.model.findings import Found, Kind, pages_of
from privcmdd.model.machine.effects import BuffersGone
from privcmdd.model.mm import granted
from privcmdd.model.mm.space import Mapped
from privcmdd.model.mm.vm_map import Entry, File, Inherit
from privcmdd.model.units import PAGE_MASK, PAGE_SIZE, PROT_ALL, PROT_NONE, VM_MAX_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Sequence


class AddressSpace(Mapped):
    """One client process as the kernel sees it."""

    __slots__ = ()

    def mmap(
        self,
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
            addr: Where; a hint unless ``fixed``, 0 for no preference.
            size: Bytes, rounded up to pages.
            prot: Bits of mman.h.
            fixed: Exactly there, over whatever is there (MAP_FIXED).
            private: Writes go to copies of the process' own (MAP_PRIVATE).
            file: ``anon``, ``privcmd`` or ``hypercall``; None for what users of the personality reserve memory with.
            opened: See ``Entry``.

        Returns:
            The address.

        Raises:
            ModelError: EINVAL, ENOMEM (no such room), ENODEV (uvm: the device cannot be mapped), EDQUOT.
        """
        what = File.HYPERCALL if file == File.HYPERCALL else self.personality.file(file)
        size = check_range(addr, size, fixed=fixed)
        protection = check_prot(prot)
        if fixed:
            try:
                self.personality.check_cut(self, addr, addr + size)
            except ModelError as error:
                # Linux says ENOMEM whatever keeps it from unmapping what is there (mm/mmap.c, mmap_region).
                raise ModelError(errno.ENOMEM, error.text, **error.details) from None
            start = addr
        else:
            hint = addr & ~PAGE_MASK
            free = hint and hint + size <= VM_MAX_ADDRESS and not self.map.touching(hint, hint + size)
            found = hint if free else self.map.find_space(size)
            if found is None:
                raise ModelError(errno.ENOMEM, f"no free range of {size} bytes in this address space", key="len")
            start = found
        entry = Entry(start, start + size, protection, PROT_ALL, INHERIT[what], what, private=private, opened=opened)
        if what is File.HYPERCALL:
            entry.offset = self.buffer_file().find(entry.n_pages)
        self._replace_entries(start, entry.end, [entry])
        return start

    def buffer_file(self) -> BufferPages:
        """The pages of this space's buffer file, which is made now when there is none."""
        if self.buffers is None:
            self.buffers = BufferPages(self.number)
        return self.buffers

    def munmap(self, addr: int, size: int) -> None:
        """Unmap a range; entries it touches in part are clipped. Nothing there is fine.

        Raises:
            ModelError: EINVAL, unaligned, empty, past the limit, or it would cut a VMA that cannot be cut; EDQUOT,
                the cut makes more entries than the account may have.
        """
        end = addr + check_range(addr, size, fixed=True)
        self.personality.check_cut(self, addr, end)
        self._replace_entries(addr, end, [])

    def _replace_entries(self, start: int, end: int, new: Sequence[Entry]) -> None:
        self.reserve(start, end, n_entries=self.map.growth(start, end, len(new)), at_once=True)
        self.commit(start, end, new)

    def mprotect(self, addr: int, size: int, prot: int) -> None:
        """Change the protection of a range that is mapped throughout.

        What becomes of page table entries when no access at all is left is the personality's to say
        (``Personality.withdraw``).

        Raises:
            ModelError: EINVAL, unaligned, past the limit, or it would cut a VMA that cannot be cut; ENOMEM, part of
                it is not mapped; EACCES, more than an entry's maximum; EDQUOT.
        """
        end = addr + check_range(addr, size, fixed=True)
        protection = check_prot(prot)
        if not self.map.covers(addr, end):
            raise ModelError(errno.ENOMEM, f"{addr:#x} to {end:#x} is not mapped throughout", addr=addr)
        touched = self.map.touching(addr, end)
        for entry in touched:
            if protection & ~entry.max_protection:
                raise ModelError(
                    errno.EACCES,
                    f"the entry at {entry.start:#x} allows protection {entry.max_protection} at most, asked for {prot}",
                    addr=entry.start,
                    key="prot",
                )
        self.personality.check_cut(self, addr, end)
        parts = [entry.part(max(entry.start, addr), min(entry.end, end)) for entry in touched]
        for part in parts:
            part.protection = protection
        self.reserve(addr, end, n_entries=self.map.growth(addr, end, len(parts)), at_once=True)
        self.personality.protect(self, parts, protection)
        if protection == PROT_NONE:
            self.personality.withdraw(self, addr, end, parts)
        else:
            self.relabel(addr, end, parts)

    def fork(self, number: int) -> AddressSpace:
        """The address space of a child: what is inherited, and no foreign mapping (inheritance NONE).

        Raises:
            ModelError: EDQUOT.
        """
        child = AddressSpace(number, self.hypervisor, self.account, self.personality, self.slice_frames)
        child.buffers = self.buffers
        if self.buffers is not None:
            self.buffers.n_spaces += 1
        try:
            for entry in self.map:
                if entry.inherit is Inherit.COPY:
                    child._replace_entries(entry.start, entry.end, [entry.part(entry.start, entry.end)])
        except BaseException:
            child.close()
            raise
        return child

    def close(self) -> None:
        """The last thread is gone: give everything back. Any number of times; needs no memory."""
        if self.closed:
            return
        if self.pmap.n_present:
            with suppress(MemoryError):  # a finding is not worth a space that stays
                self._tell_of_leaks()
        self.counters.frames_removed += self.pmap.n_present
        if self.personality.wires:
            self.n_wired -= self.pmap.n_present
        held = self.pmap.clear()
        if self.grants:
            granted.unmapped(self, 0, VM_MAX_ADDRESS)
        self._attach((), self.map.replace(0, VM_MAX_ADDRESS, ()))
        if held:
            self.hypervisor.give_parts(held)
        self.abandon()
        self._space_charge.release()
        self.closed = True
        if self.buffers is not None:
            self.buffers.n_spaces -= 1
            if not self.buffers.n_spaces:
                self.hypervisor.effects.append(BuffersGone(self.buffers.number))

    def _tell_of_leaks(self) -> None:
        left = [(entry, self.pmap.count(entry.page, entry.n_pages)) for entry in self.map if entry.made_by is not None]
        held = [(entry, n_pages) for entry, n_pages in left if n_pages]
        if held:
            entry = held[0][0]
            doms = {entry.owner for entry, _ in held}
            text = (
                f"{pages_of(sum(n_pages for _, n_pages in held))} of {'domain' if len(doms) == 1 else 'domains'} "
                f"{', '.join(map(str, sorted(doms)))} were still mapped when the last connection ended, in "
                f"{len(held)} entr{'y' if len(held) == 1 else 'ies'}; the first at {entry.start:#x}"
            )
            dom = entry.owner if len(doms) == 1 else None
            self.hypervisor.effects.append(Found(Kind.MAPPING_LEAKED, text, dom, entry.start, entry.made_by))


INHERIT: Final = {
    File.ANON: Inherit.COPY,
    File.PRIVCMD: Inherit.NONE,
    File.HYPERCALL: Inherit.COPY,
    File.GNTDEV: Inherit.NONE,
}


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
