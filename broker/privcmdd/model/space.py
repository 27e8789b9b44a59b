# SPDX-License-Identifier: Apache-2.0
"""One simulated address space: a map, page tables, and what they cost.

Everything that changes a range goes through two steps. ``reserve`` pays for the outcome and may refuse;
``commit`` swaps entries and page table entries and cannot fail. Between the two nothing has changed, which is
what makes a replacement all or nothing (law 5).
"""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from privcmdd.model import pins
from privcmdd.model.buffers import BufferPages
from privcmdd.model.effects import BuffersGone, DiscardBuffers
from privcmdd.model.errors import ModelError
from privcmdd.model.findings import Found, Kind, pages_of
from privcmdd.model.ledger import Slot, Tally
from privcmdd.model.pmap import Pmap
from privcmdd.model.units import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, PROT_ALL, PROT_NONE, VM_MAX_ADDRESS
from privcmdd.model.uobject import ObjectCounters, UvmObject
from privcmdd.model.vm_map import Entry, File, Inherit, VmMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmdd.model.frames import Mfns, Names
    from privcmdd.model.hypervisor import Hypervisor
    from privcmdd.model.ledger import Account
    from privcmdd.model.pins import Held, Shared
    from privcmdd.model.privcmd import Personality
    from privcmdd.model.shares import Notice
    from privcmdd.model.vm_map import Maker


@dataclass(slots=True)
class SpaceCounters:
    """What an address space has done so far."""

    batches: int = 0
    frames_entered: int = 0
    frames_removed: int = 0
    frames_failed: int = 0
    faults: int = 0
    replacements: int = 0
    merged: int = 0
    scratch_probes: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counters by name."""
        return asdict(self)


class Replacement(NamedTuple):
    """A replacement that is being prepared: the range, and the map as it was when it began."""

    start: int
    end: int
    generation: int


class AddressSpace:
    """One client process as the kernel sees it.

    Attributes:
        number: Never used twice.
        map: Its entries.
        pmap: Its page tables.
        buffers: The pages of its buffer file; None as long as it has no hypercall buffer.
        grants: The grant that each of its pages maps, of those that map one.
        notices: What is to be done when such a page is unmapped.
        pending: The replacement that is being prepared, if any (at most one: callers take turns).
        slice_frames: Frames prepared between two checkpoints.
        maker: The request that is at work here, for people.
    """

    __slots__ = (
        "_next_object",
        "_space_charge",
        "_tally",
        "account",
        "buffers",
        "closed",
        "counters",
        "grants",
        "hypervisor",
        "maker",
        "map",
        "n_wired",
        "notices",
        "number",
        "objects",
        "pending",
        "personality",
        "pmap",
        "slice_frames",
    )

    def __init__(
        self,
        number: int,
        hypervisor: Hypervisor,
        account: Account,
        personality: Personality,
        slice_frames: int = 16_384,
    ) -> None:
        """Make an empty address space.

        Raises:
            ModelError: EDQUOT, the account may have no more spaces.
        """
        self.number = number
        self.hypervisor = hypervisor
        self.account = account
        self.personality = personality
        self.slice_frames = slice_frames
        self._tally = Tally(account)
        self.map = VmMap()
        self.pmap = Pmap()
        self.buffers: BufferPages | None = None
        self.grants: dict[int, Held | Shared] = {}
        self.notices: dict[int, Notice] = {}
        self.objects = ObjectCounters(hypervisor.objects)
        self.counters = SpaceCounters()
        self.n_wired = 0
        self.pending: Replacement | None = None
        self.closed = False
        self.maker: Maker | None = None
        self._next_object = 1
        self._space_charge = account.charge(Slot.SPACES, 1)

    # The two steps

    def reserve(
        self, start: int, end: int, *, n_entries: int = 0, n_objects: int = 0, n_frames: int = 0, at_once: bool = False
    ) -> None:
        """Pay for what a change of a range will need at most, before anything changes.

        Args:
            start: First address of the range.
            end: Address behind it.
            n_entries: By how many entries the map may grow.
            n_objects: Objects to be made.
            n_frames: Page table entries to be made; old and new ones are both held until the commit.
            at_once: The commit follows before anybody else can run: it is enough that it could be paid for.

        Raises:
            ModelError: EDQUOT; what was paid before is paid still.
        """
        objects = self.objects
        (self._tally.afford if at_once else self._tally.pay)(
            len(self.map) + max(0, n_entries), objects.made - objects.freed + n_objects, self.pmap.n_entries + n_frames
        )
        if not at_once:
            self.pending = Replacement(start, end, self.map.generation)

    def abandon(self) -> None:
        """Give up what ``reserve`` paid for."""
        self.pending = None
        self._pay()

    def commit(self, start: int, end: int, new: Sequence[Entry], mfns: Mfns | None = None) -> None:
        """Swap entries and page table entries of a range, in one step, whole or not at all.

        Args:
            start: First address of the range.
            end: Address behind it.
            new: The entries that take its place.
            mfns: The frames that take its place, ``NO_FRAME`` for none, each with a reference taken; None for
                an empty range.

        Raises:
            MemoryError: Nothing has changed, the references are the caller's still.
        """
        old = self._swap_frames(start, end, mfns)
        dead = self.map.replace(start, end, new)
        self._attach(new, dead)
        if new and dead:
            self.counters.replacements += 1
        if len(old):
            self.hypervisor.give(old)
        self._settle(start)

    def relabel(self, start: int, end: int, new: Sequence[Entry]) -> None:
        """Swap the entries of a range and leave its frames alone."""
        self._attach(new, self.map.replace(start, end, new))
        self._settle(start)

    def fill(self, start: int, end: int, mfns: Mfns) -> None:
        """Enter frames into a range, and leave its entries alone; what a resource has put there before is let go.

        Raises:
            MemoryError: As ``commit``.
        """
        old = self._swap_frames(start, end, mfns)
        if len(old):
            self.hypervisor.give(old)
        self._settle(start)

    def bar(self, start: int, end: int) -> None:
        """Enter page table entries that are not present into a range that has none; its map entries stay.

        Raises:
            MemoryError: As ``commit``.
        """
        self.pmap.bar(start >> PAGE_SHIFT, (end - start) >> PAGE_SHIFT)
        self._settle(start)

    def withdraw(self, start: int, end: int, new: Sequence[Entry]) -> None:
        """Swap the entries of a range and bar its page table entries: they are there, and refer to no frame.

        Raises:
            MemoryError: As ``commit``.
        """
        old = self.pmap.withdraw(start >> PAGE_SHIFT, (end - start) >> PAGE_SHIFT)
        if self.grants:
            pins.unmapped(self, start, end)
        dead = self.map.replace(start, end, new)
        self.counters.frames_removed += len(old)
        self._attach(new, dead)
        if len(old):
            self.hypervisor.give(old)
        self._settle(start)

    def overlay(self, start: int, end: int, new: Sequence[Entry], mfns: Mfns) -> None:
        """Put frames in the place of whatever a range has, and leave its entries alone but for some.

        Args:
            start: First address of the range.
            end: Address behind it.
            new: Entries inside the range that take the place of what is there.
            mfns: As for ``commit``.

        Raises:
            MemoryError: As ``commit``.
        """
        old = self._swap_frames(start, end, mfns)
        for entry in new:
            self._attach([entry], self.map.replace(entry.start, entry.end, [entry]))
        if len(old):
            self.hypervisor.give(old)
        self._settle(start)

    def enter(self, page: int, mfns: Mfns) -> None:
        """Enter the frame that a fault has found.

        Faults take no turns: another thread may be preparing a replacement here. What that has reserved stays
        reserved, this page is paid for on top.

        Raises:
            ModelError: EDQUOT; nothing has changed, the reference is the caller's still.
            MemoryError: Likewise.
        """
        tally = self._tally
        tally.pay(tally.entries, tally.objects, tally.frames + 1)
        address = page << PAGE_SHIFT
        try:
            self._swap_frames(address, address + PAGE_SIZE, mfns)
        except MemoryError:
            tally.pay(tally.entries, tally.objects, tally.frames - 1)
            raise

    def _swap_frames(self, start: int, end: int, mfns: Mfns | None) -> Mfns:
        pmap = self.pmap
        before = pmap.n_present
        old = pmap.swap(start >> PAGE_SHIFT, mfns, (end - start) >> PAGE_SHIFT)
        if self.grants:
            pins.unmapped(self, start, end)
        n_more = pmap.n_present - before
        n_removed = len(old)
        counters = self.counters
        counters.frames_entered += n_more + n_removed
        counters.frames_removed += n_removed
        if self.personality.wires:  # then every entry that has frames is wired
            self.n_wired += n_more
        return old

    def _attach(self, new: Sequence[Entry], dead: Sequence[Entry]) -> None:
        """Count the references of entries that came and went; objects that nobody refers to are freed."""
        for entry in new:
            if entry.object is not None:
                if not entry.object.refs:
                    self.objects.made_one()
                entry.object.refs += 1
        for entry in dead:
            if entry.object is not None:
                entry.object.refs -= 1
                if not entry.object.refs:
                    self.objects.freed_one()
        if self.buffers is not None:
            self._attach_buffers(self.buffers, new, dead)

    def _attach_buffers(self, buffers: BufferPages, new: Sequence[Entry], dead: Sequence[Entry]) -> None:
        """Count the users of buffer pages; those that nobody has any more are emptied."""
        for entry in new:
            if entry.file is File.HYPERCALL:
                buffers.hold(entry.offset, entry.n_pages)
        runs = [(entry.offset, entry.n_pages) for entry in dead if entry.file is File.HYPERCALL]
        for run in runs:
            buffers.release(*run)
        if runs:
            self.hypervisor.effects.append(DiscardBuffers(buffers, runs))

    def _settle(self, start: int) -> None:
        """A change that begins there is done. Another one's replacement, if one is prepared, stays under law 5."""
        if self.pending is not None and self.pending.start == start:
            self.pending = None
        self._pay()

    def _pay(self) -> None:
        """Pay for exactly what is there: never more than was reserved, so this cannot fail."""
        self._tally.pay(len(self.map), self.objects.made - self.objects.freed, self.pmap.n_entries)

    def new_object(self, domid: int, names: Names) -> UvmObject:
        """Make an object. It counts from the first entry on that refers to it."""
        made = UvmObject(self._next_object, domid, names)
        self._next_object += 1
        return made

    # System calls

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
            pins.unmapped(self, 0, VM_MAX_ADDRESS)
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
