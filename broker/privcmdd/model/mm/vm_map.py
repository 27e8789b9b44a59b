# SPDX-License-Identifier: Apache-2.0
"""The map of one address space: sorted, page-aligned, never overlapping entries.

Replacing a range is the one way to change it: entries that the range touches in part are clipped (their
outer parts stay), those inside leave, new ones take the place, in one step. What left is returned, so that
objects are let go after the map has changed and not while.
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
    """What a fork's child gets of an entry."""

    COPY = "copy"
    NONE = "none"


class File(StrEnum):
    """What was mapped: anonymous memory (whose bytes are the client's own), devices, hypercall buffers."""

    ANON = "anon"
    PRIVCMD = "privcmd"
    HYPERCALL = "hypercall"
    GNTDEV = "gntdev"


class PrivateData(Protocol):
    """What a personality keeps about an entry (Linux's vm_private_data); each part of a clipped entry has its own."""

    def copy(self) -> PrivateData:
        """Another one of the same content."""


@dataclass(slots=True, eq=False)
class Entry:
    """A range of the map in which all is alike.

    Attributes:
        start: First address.
        end: Address behind the last byte.
        protection: What accesses are allowed.
        max_protection: What mprotect may raise it to.
        inherit: What a child gets.
        file: What was mapped.
        object: The foreign frames behind it (uvm), or None.
        offset: Where the entry begins in its object or in the buffer file, in pages.
        wired: Its pages were loaded by wiring and stay wired as long as the entry lives.
        private: Writes go to copies of the process' own (MAP_PRIVATE).
        opened: Which open file of the device it maps, by the number that RESTRICT knows it by; 0: not told.
        private_data: What its personality keeps about it, if anything.
        domid: Whose frames were mapped last, for people.
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
        """Whose frames it maps; -1 when none have been."""
        return -1 if self.domid is None else self.domid

    @property
    def reach(self) -> int:
        """What accesses would reach frames that are mapped now; writes to a private mapping reach none."""
        return self.protection & ~PROT_WRITE if self.private else self.protection

    def part(self, start: int, end: int) -> Entry:
        """A copy of this entry cut down to a range; its reference to the object is the caller's to count."""
        part = replace(self, start=start, end=end, offset=self.offset + ((start - self.start) >> PAGE_SHIFT))
        if self.private_data is not None:
            part.private_data = self.private_data.copy()
        return part


class VmMap:
    """Sorted entries.

    Attributes:
        generation: Counts changes; who prepared against one generation can tell whether it still holds.
    """

    __slots__ = ("_asked", "_entries", "_span_asked", "_starts", "generation")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._starts: list[int] = []
        self.generation = 0
        self._asked = (0, 0, -1)
        self._span_asked = (0, 0)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def lookup(self, address: int) -> Entry | None:
        """The entry that holds an address."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._entries[index].end:
            return self._entries[index]
        return None

    def touching(self, start: int, end: int) -> Sequence[Entry]:
        """The entries that a range touches, in order."""
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
        """Whether every page of a range is mapped."""
        at = start
        for entry in self.touching(start, end):
            if entry.start > at:
                return False
            at = entry.end
        return at >= end

    def weakest_protection(self, start: int, end: int) -> int | None:
        """What the whole of a range allows (uvm_map_checkprot): the seed's rule for a new mapping.

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
        """By how many entries ``replace`` would make the map longer."""
        touched = self.touching(start, end)
        if not touched:
            return n_new
        left = touched[0].start < start
        right = touched[-1].end > end
        return n_new + left + right - len(touched)

    def replace(self, start: int, end: int, new: Sequence[Entry]) -> list[Entry]:
        """Put new entries in the place of whatever a range holds.

        Args:
            start: First address of the range.
            end: Address behind it.
            new: Sorted entries inside the range; none to unmap it.

        Returns:
            The entries that were there, cut down to the range. The references to objects of these and of the new
            ones are the caller's to count.
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
        return dead

    def find_space(self, size: int) -> int | None:
        """The lowest free range of ``size`` bytes from ``VM_MMAP_BASE`` on, then from the bottom."""
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
    """The part of a clipped entry that stays in the map, its reference counted."""
    part = entry.part(start, end)
    if part.object is not None:
        part.object.refs += 1
    return part
