# SPDX-License-Identifier: Apache-2.0
"""The map of one address space: sorted, page-aligned, never overlapping entries.

The map changes only by ``replace``: in one step, entries that lie partly in the range are clipped (their outer parts
stay), entries inside the range are removed, and new entries are put in. The removed entries are returned, so that
references to objects are put after the map has changed, not during the change.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from privcmdd.model.units import PAGE_SHIFT, PROT_ALL, PROT_READ, PROT_WRITE, VM_MAX_ADDRESS, VM_MMAP_BASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from privcmdd.model.mm.uobject import UvmObject


# A request: its method, and its number among those of its connection.
Maker = tuple[str, int]


class Inherit(StrEnum):
    """What the child of a fork gets of an entry."""

    COPY = "copy"
    NONE = "none"


class File(StrEnum):
    """What is mapped: anonymous memory (whose bytes the client has, not the broker), devices, hypercall buffers."""

    ANON = "anon"
    PRIVCMD = "privcmd"
    HYPERCALL = "hypercall"
    GNTDEV = "gntdev"


class PrivateData(Protocol):
    """What a personality keeps about an entry (Linux's vm_private_data); each part of a clipped entry has a copy."""

    def copy(self) -> PrivateData:
        """Return a copy."""


@dataclass(slots=True, eq=False)
class Entry:
    """A range of addresses with the same attributes.

    Attributes:
        start: First address.
        end: Address behind the last byte.
        protection: The accesses that are allowed.
        max_protection: The most that mprotect may allow.
        inherit: What the child of a fork gets.
        file: What is mapped.
        object: The foreign frames behind the entry (uvm), or None.
        offset: Where the entry begins in its object or in the buffer file, in pages.
        wired: The pages were loaded by wiring, and stay wired as long as the entry exists.
        private: Writes go to copies that only the process has (MAP_PRIVATE).
        opened: The open file of the device that is mapped, by the number that RESTRICT uses for it; 0: not known.
        private_data: What the personality keeps about the entry, or None.
        domid: The domain whose frames were mapped last, for people.
        made_by: The request that mapped frames last, for people.
    """

    start: int
    end: int
    protection: int
    max_protection: int
    inherit: Inherit
    file: File
    object: UvmObject | None = None
    offset: int = 0
    wired: bool = False
    private: bool = False
    opened: int = 0
    private_data: PrivateData | None = None
    domid: int | None = None
    made_by: Maker | None = None

    @property
    def page(self) -> int:
        """The number of its first page."""
        return self.start >> PAGE_SHIFT

    @property
    def n_pages(self) -> int:
        """Its size, in pages."""
        return (self.end - self.start) >> PAGE_SHIFT

    @property
    def owner(self) -> int:
        """The domid whose frames were mapped last; -1 when none were."""
        return -1 if self.domid is None else self.domid

    @property
    def reach(self) -> int:
        """The accesses that reach frames which are mapped now; writes to a private mapping reach copies only."""
        return self.protection & ~PROT_WRITE if self.private else self.protection

    def part(self, start: int, end: int) -> Entry:
        """Return a copy of this entry, cut down to a range. The caller counts its reference to the object."""
        part = replace(self, start=start, end=end, offset=self.offset + ((start - self.start) >> PAGE_SHIFT))
        if self.private_data is not None:
            part.private_data = self.private_data.copy()
        return part


class VmMap:
    """Sorted entries.

    Attributes:
        n_entries: How many entries it has, for the accounts, which ask several times in each request; ``len`` counts
            them.
        generation: Counts changes: a request that has prepared a change sees by it whether the map is still the same.
    """

    __slots__ = ("_asked", "_entries", "_span_asked", "_starts", "generation", "n_entries")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._starts: list[int] = []
        self.n_entries = 0
        self.generation = 0
        self._asked = (0, 0, -1)
        self._span_asked = (0, 0)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def lookup(self, address: int) -> Entry | None:
        """Return the entry that has an address; None when it is not mapped."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._entries[index].end:
            return self._entries[index]
        return None

    def touching(self, start: int, end: int) -> Sequence[Entry]:
        """Return the entries that lie in a range, wholly or in part, in order."""
        first, last = self._span(start, end)
        return self._entries[first:last]

    def _span(self, start: int, end: int) -> tuple[int, int]:
        # A request asks for the same range several times before it changes it.
        asked = (start, end, self.generation)
        if asked == self._asked:
            return self._span_asked
        starts = self._starts
        first = bisect_right(starts, start) - 1
        if first < 0 or self._entries[first].end <= start:
            first += 1
        self._asked = asked
        self._span_asked = first, bisect_left(starts, end, first)
        return self._span_asked

    def covers(self, start: int, end: int) -> bool:
        """Return whether every page of a range is mapped."""
        at = start
        for entry in self.touching(start, end):
            if entry.start > at:
                return False
            at = entry.end
        return at >= end

    def weakest_protection(self, start: int, end: int) -> int | None:
        """Find what every page of a range allows (uvm_map_checkprot): NetBSD's rule for a new mapping.

        Returns:
            Read and write when every entry allows writing, else read when every entry allows reading, else
            None; None also when a page of the range is not mapped.
        """
        common = PROT_ALL
        at = start
        for entry in self.touching(start, end):
            if entry.start > at:
                return None
            at = entry.end
            common &= entry.protection
        if at < end:
            return None
        if common & PROT_WRITE:
            return PROT_READ | PROT_WRITE
        return PROT_READ if common & PROT_READ else None

    def growth(self, start: int, end: int, n_new: int) -> int:
        """Return by how many entries ``replace`` would make the map longer."""
        touched = self.touching(start, end)
        if not touched:
            return n_new
        left = touched[0].start < start
        right = touched[-1].end > end
        return n_new + left + right - len(touched)

    def replace(self, start: int, end: int, new: Sequence[Entry]) -> list[Entry]:
        """Replace what a range holds by new entries.

        Args:
            start: First address of the range.
            end: Address behind it.
            new: Sorted entries inside the range; none to unmap the range.

        Returns:
            The entries that were there, cut down to the range. The caller counts the references that these and the
            new entries have to objects.
        """
        first, last = self._span(start, end)
        dead = self._entries[first:last]
        self.generation += 1
        if len(new) == 1 == len(dead) and dead[0].start == new[0].start and dead[0].end == new[0].end:
            self._entries[first] = new[0]  # like for like: most replacements
            return dead
        fresh = list(new)
        if dead and dead[-1].end > end:
            fresh.append(kept(dead[-1], end, dead[-1].end))
            dead[-1].end = end
        if dead and dead[0].start < start:
            fresh.insert(0, kept(dead[0], dead[0].start, start))
            dead[0].offset += (start - dead[0].start) >> PAGE_SHIFT
            dead[0].start = start
        self._entries[first:last] = fresh
        self._starts[first:last] = [entry.start for entry in fresh]
        self.n_entries = len(self._entries)
        return dead

    def find_space(self, size: int) -> int | None:
        """Return the lowest free range of ``size`` bytes from ``VM_MMAP_BASE`` on, else below it, else None."""
        for at, limit in ((VM_MMAP_BASE, VM_MAX_ADDRESS), (1 << 16, VM_MMAP_BASE)):
            start = at
            for entry in self.touching(at, limit):
                if entry.start - start >= size:
                    break
                start = max(start, entry.end)
            if start + size <= limit:
                return start
        return None


def kept(entry: Entry, start: int, end: int) -> Entry:
    """Return the part of a clipped entry that stays in the map, with its reference to the object counted."""
    part = entry.part(start, end)
    if part.object is not None:
        part.object.refs += 1
    return part
