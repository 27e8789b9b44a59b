# SPDX-License-Identifier: Apache-2.0
"""An address space: a map, page tables, what they cost, and the two steps by which they change.

``reserve`` pays for the outcome and may refuse. ``commit`` and the methods like it swap entries and page table
entries, all or none. Between the two steps nothing has changed: this makes a replacement all or nothing (law 5).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from privcmdd.model.files import BufferPages
from privcmdd.model.findings import FindingKind, Found, pages_of
from privcmdd.model.ledger import Slot, Tally
from privcmdd.model.machine.effects import BuffersGone, DiscardBuffers
from privcmdd.model.machine.frames import FEW
from privcmdd.model.mm.granted import GrantedPages
from privcmdd.model.mm.pmap import NOTHING_REMOVED, Pmap, Prepared, Removed, tables
from privcmdd.model.mm.uobject import ObjectCounters, UvmObject
from privcmdd.model.mm.vm_map import Entry, File, VmMap
from privcmdd.model.units import PAGE_SHIFT, PAGE_SIZE, VM_MAX_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmdd.model.ledger import Account
    from privcmdd.model.machine.frames import Gmfns, Mfns
    from privcmdd.model.machine.machine import Machine
    from privcmdd.model.mm.vm_map import Maker


@dataclass(slots=True)
class SpaceCounters:
    """Counters of what happened in an address space."""

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
    """A replacement that is being prepared: the range, and the map's generation when the preparation began."""

    start: int
    end: int
    generation: int


class VmOps(Protocol):
    """What kernels do differently with mapped memory (Linux's vm_operations_struct, NetBSD's uvm_pagerops).

    Attributes:
        wires: The pages of a new entry are loaded by wiring the entry.
    """

    wires: bool

    def file(self, asked: str | None) -> File:
        """Return what ``mmap`` maps. Raises ModelError ENODEV or EINVAL."""

    def check_cut(self, space: AddressSpace, start: int, end: int) -> None:
        """Check that the entries at the ends of a range may be cut there. Raises ModelError EINVAL."""

    def withdraw(self, space: AddressSpace, start: int, end: int, new: Sequence[Entry]) -> None:
        """Put entries without access in place (mprotect), and change page table entries as the kernel does."""

    def protect(self, space: AddressSpace, parts: Sequence[Entry], protection: int) -> None:
        """Look at parts of entries that mprotect is about to change; they are copies, not yet in the map."""

    def allowed(self, space: AddressSpace, entry: Entry, page: int, /) -> int:
        """Return which accesses the page table entry of a page allows; without one, which its map entry allows."""

    def is_mixed(self, entry: Entry, /) -> bool:
        """Return whether ``allowed`` may differ between the pages of an entry."""

    def n_failed(self, entry: Entry, n_present: int, /) -> int:
        """Return how many pages of an entry have a failed frame, when ``n_present`` of its pages have a frame."""

    def fault(self, space: AddressSpace, entry: Entry, page: int) -> bool:
        """Touch a page of a privcmd mapping. Returns whether that entered a PTE. Raises ModelError EFAULT."""


class AddressSpace:
    """One client process as the kernel sees it.

    Attributes:
        number: The space's number; never used twice.
        machine: The machine whose frames it maps.
        personality: How its kernel answers.
        map: Its entries.
        pmap: Its page tables.
        buffers: The pages of its buffer file; None as long as it has no hypercall buffer.
        granted: Its pages that map grants.
        objects: Counts its uvm objects.
        pending: The replacement that is being prepared; None when there is none. At most one: requests take turns.
        slice_frames: Frames prepared between two checkpoints.
        maker: The request that runs in this space, for people.
    """

    __slots__ = (
        "_next_object",
        "_space_charge",
        "_tally",
        "account",
        "buffers",
        "closed",
        "counters",
        "granted",
        "machine",
        "maker",
        "map",
        "n_wired",
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
        machine: Machine,
        account: Account,
        personality: VmOps,
        slice_frames: int = 16_384,
        total_objects: ObjectCounters | None = None,
    ) -> None:
        """Make an empty address space.

        Args:
            number: Its number.
            machine: The machine whose frames it maps.
            account: Who pays for it.
            personality: How its kernel answers.
            slice_frames: Frames prepared between two checkpoints.
            total_objects: Counts the uvm objects of all address spaces.

        Raises:
            ModelError: EDQUOT, the account may have no more spaces.
        """
        self.number = number
        self.machine = machine
        self.account = account
        self.personality = personality
        self.slice_frames = slice_frames
        self._tally = Tally(account)
        self.map = VmMap()
        self.pmap = Pmap()
        self.buffers: BufferPages | None = None
        self.granted = GrantedPages(machine, number)
        self.objects = ObjectCounters(total_objects)
        self.counters = SpaceCounters()
        self.n_wired = 0
        self.pending: Replacement | None = None
        self.closed = False
        self.maker: Maker | None = None
        self._next_object = 1
        self._space_charge = account.charge(Slot.SPACES, 1)

    def serve(self, method: str, number: int) -> None:
        """Put what is mapped from now on down to a request: its method, and its number within its connection."""
        self.maker = (method, number)

    # The two steps

    def reserve(
        self, start: int, end: int, *, n_entries: int = 0, n_objects: int = 0, n_frames: int = 0, at_once: bool = False
    ) -> None:
        """Pay for the most that a change of a range may need, before anything changes.

        Args:
            start: First address of the range.
            end: Address behind it.
            n_entries: By how many entries the map may grow.
            n_objects: Objects to be made.
            n_frames: Page table entries to be made; old and new frames are both held until the commit.
            at_once: The commit follows before another request can run: it is enough to check that the account could
                pay.

        Raises:
            ModelError: EDQUOT; then what was paid before stays paid.
        """
        objects = self.objects
        (self._tally.afford if at_once else self._tally.pay)(
            self.map.n_entries + max(0, n_entries),
            objects.made - objects.freed + n_objects,
            self.pmap.n_entries + n_frames,
        )
        if not at_once:
            self.pending = Replacement(start, end, self.map.generation)

    def abandon(self) -> None:
        """Give up what ``reserve`` paid for."""
        self.pending = None
        self._pay()

    def commit(self, start: int, end: int, new: Sequence[Entry], mfns: Mfns | None = None) -> None:
        """Swap entries and page table entries of a range, in one step, all or none.

        Args:
            start: First address of the range.
            end: Address behind it.
            new: The new entries of the range.
            mfns: The new frames of the range, ``NO_FRAME`` for none, each with a reference taken; None for an empty
                range.

        Raises:
            MemoryError: Nothing has changed, and the caller still has to put the references.
        """
        old = self._swap_frames(start, end, mfns)
        dead = self.map.replace(start, end, new)
        self._attach(new, dead)
        if new and dead:
            self.counters.replacements += 1
        self._put(old)
        self._settle(start)

    def relabel(self, start: int, end: int, new: Sequence[Entry]) -> None:
        """Swap the entries of a range and leave its frames alone."""
        self._attach(new, self.map.replace(start, end, new))
        self._settle(start)

    def fill(self, start: int, end: int, mfns: Mfns) -> None:
        """Enter frames into a range, and leave its entries alone; frames that are there (of a resource) are put.

        Raises:
            MemoryError: As ``commit``.
        """
        self._put(self._swap_frames(start, end, mfns))
        self._settle(start)

    def bar(self, start: int, end: int) -> None:
        """Enter barred page table entries into a range that has none; its map entries stay.

        Raises:
            MemoryError: As ``commit``.
        """
        self.pmap.bar(start >> PAGE_SHIFT, (end - start) >> PAGE_SHIFT)
        self._settle(start)

    def withdraw(self, start: int, end: int, new: Sequence[Entry]) -> None:
        """Swap the entries of a range, bar its page table entries, and put the frames that they referred to.

        Raises:
            MemoryError: As ``commit``.
        """
        page, n_pages = start >> PAGE_SHIFT, (end - start) >> PAGE_SHIFT
        barred = Prepared()
        self.pmap.withdrawn(page, n_pages, barred)
        old = self.pmap.exchange(page, n_pages, barred)
        if self.granted.refs:
            self.granted.unmapped(start, end)
        dead = self.map.replace(start, end, new)
        self.counters.frames_removed += old.n_present
        self._attach(new, dead)
        self._put(old)
        self._settle(start)

    def overlay(self, start: int, end: int, new: Sequence[Entry], mfns: Mfns) -> None:
        """Replace the frames of a range and, for parts of the range, the entries; other entries stay.

        Args:
            start: First address of the range.
            end: Address behind it.
            new: Entries inside the range; each replaces what is at its addresses.
            mfns: As for ``commit``.

        Raises:
            MemoryError: As ``commit``.
        """
        old = self._swap_frames(start, end, mfns)
        for entry in new:
            self._attach([entry], self.map.replace(entry.start, entry.end, [entry]))
        self._put(old)
        self._settle(start)

    def enter(self, page: int, mfns: Mfns) -> None:
        """Enter the frame that a page fault has found.

        Page faults do not wait for the turnstile: another thread may be preparing a replacement in this space. What
        the replacement has reserved stays reserved, and this page is paid for in addition.

        Raises:
            ModelError: EDQUOT; nothing has changed, and the caller still has to put the reference.
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

    def _swap_frames(self, start: int, end: int, mfns: Mfns | Prepared | None) -> Removed:
        """Replace the page table entries of a range. Returns what they referred to, for ``_put``."""
        pmap = self.pmap
        before = pmap.n_present
        page, n_pages = start >> PAGE_SHIFT, (end - start) >> PAGE_SHIFT
        if isinstance(mfns, Prepared) or n_pages > FEW:
            old = pmap.exchange(page, n_pages, mfns if isinstance(mfns, Prepared) else tables(page, mfns))
        else:
            frames = pmap.swap(page, mfns, n_pages)
            old = Removed(len(frames), (frames,)) if len(frames) else NOTHING_REMOVED
        if self.granted.refs:
            self.granted.unmapped(start, end)
        n_more, n_removed = pmap.n_present - before, old.n_present
        counters = self.counters
        counters.frames_entered += n_more + n_removed
        counters.frames_removed += n_removed
        if self.personality.wires:  # then every entry that has frames is wired
            self.n_wired += n_more
        return old

    def _put(self, old: Removed) -> None:
        """Put references to frames that were mapped."""
        n_present, parts = old
        if not n_present:
            return
        if n_present <= FEW and isinstance(parts[0], list):
            self.machine.put(parts[0])
        else:
            self.machine.put_parts(parts, n_present)

    def _attach(self, new: Sequence[Entry], dead: Sequence[Entry]) -> None:
        """Count the object references of new and dead entries; an object without references is freed."""
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
        """Count the users of buffer pages; pages without a user are given back to the host."""
        for entry in new:
            if entry.file is File.HYPERCALL:
                buffers.hold(entry.offset, entry.n_pages)
        runs = [(entry.offset, entry.n_pages) for entry in dead if entry.file is File.HYPERCALL]
        for run in runs:
            buffers.release(*run)
        if runs:
            self.machine.effects.append(DiscardBuffers(buffers, runs))

    def _settle(self, start: int) -> None:
        """End a change of the range that begins at ``start``, and pay for what is there.

        A replacement of another range that is being prepared stays pending, so that law 5 goes on holding it.
        """
        if self.pending is not None and self.pending.start == start:
            self.pending = None
        self._pay()

    def _pay(self) -> None:
        """Pay for exactly what is there. That is never more than was reserved, so this cannot fail."""
        self._tally.pay(self.map.n_entries, self.objects.made - self.objects.freed, self.pmap.n_entries)

    def new_object(self, domid: int, gmfns: Gmfns) -> UvmObject:
        """Return a new object. It is counted once an entry refers to it."""
        made = UvmObject(self._next_object, domid, gmfns)
        self._next_object += 1
        return made

    def buffer_file(self) -> BufferPages:
        """Return the pages of this space's buffer file; they are made at the first call."""
        if self.buffers is None:
            self.buffers = BufferPages(self.number)
        return self.buffers

    def drop_buffers(self) -> None:
        """Forget the buffer file again: the memory file could not be made, and nothing is mapped from it."""
        self.buffers = None

    def close(self) -> None:
        """Release everything: the last thread has ended. Calling it again does nothing; it needs no memory."""
        if self.closed:
            return
        if self.pmap.n_present:
            with suppress(MemoryError):  # without memory the finding is lost, and the space is closed all the same
                self._tell_of_leaks()
        n_present = self.pmap.n_present
        self.counters.frames_removed += n_present
        if self.personality.wires:
            self.n_wired -= n_present
        held = self.pmap.clear()
        if self.granted.refs:
            self.granted.unmapped(0, VM_MAX_ADDRESS)
        self._attach((), self.map.replace(0, VM_MAX_ADDRESS, ()))
        if n_present:
            self.machine.put_parts(held, n_present)
        self.abandon()
        self._space_charge.release()
        self.closed = True
        if self.buffers is not None:
            self.buffers.n_spaces -= 1
            if not self.buffers.n_spaces:
                self.machine.effects.append(BuffersGone(self.buffers.number))

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
            self.machine.effects.append(Found(FindingKind.MAPPING_LEAKED, text, dom, entry.start, entry.made_by))
