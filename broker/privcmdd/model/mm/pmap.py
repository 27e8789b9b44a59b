# SPDX-License-Identifier: Apache-2.0
"""Page tables: which virtual page has an entry to which frame, and how many page table pages that takes.

There are four levels, as on x86-64. A leaf has 512 entries (uint32 mfns, ``NO_FRAME`` where there is no PTE), and
exists exactly as long as it holds an entry. The tables above the leaves are only counted; the root always exists and
is not counted, as in NetBSD's pmap.

A barred entry (``BARRED``) is there but not present: it refers to no frame, no access can go through it, and no other
entry can be entered in its place. Linux makes barred entries for a mapping without access.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.machine.frames import BARRED, FEW, NO_FRAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from privcmdd.model.machine.frames import Mfns

    Array = npt.NDArray[np.uint32]

LEVEL_BITS: Final = 9
LEAF_PAGES: Final = 1 << LEVEL_BITS
LEAF_MASK: Final = LEAF_PAGES - 1


class Leaf:
    """A page table page of the lowest level.

    Attributes:
        table: (512,) uint32, the mfns.
        entry: The same table as a memoryview, which is several times as fast for single entries.
        n_entries: How many entries it holds, present or barred.
        allows: The accesses that each of the 512 entries allows; None when they were never noted.
    """

    __slots__ = ("allows", "entry", "n_entries", "table")

    def __init__(self) -> None:
        self.table = np.zeros(LEAF_PAGES, dtype=np.uint32)
        self.entry = self.table.data
        self.n_entries = 0
        self.allows: bytearray | None = None


class Pmap:
    """The page tables of one address space. Pages are virtual addresses divided by the page size.

    Attributes:
        n_present: Page table entries that refer to a frame.
        n_entries: Page table entries, barred ones included.
    """

    __slots__ = ("_leaves", "_level2", "_level3", "n_entries", "n_present")

    def __init__(self) -> None:
        self._leaves: dict[int, Leaf] = {}
        self._level2: Counter[int] = Counter()  # leaves below, a level-2 table
        self._level3: Counter[int] = Counter()  # level-2 tables below, a level-3 table
        self.n_present = 0
        self.n_entries = 0

    @property
    def n_ptps(self) -> int:
        """Page table pages, the root not counted."""
        return len(self._leaves) + len(self._level2) + len(self._level3)

    def swap(self, page: int, mfns: Mfns | None, n_pages: int) -> Mfns:
        """Replace the entries of a range.

        Args:
            page: The first page.
            mfns: ``n_pages`` mfns, ``NO_FRAME`` for no entry; None to leave the range empty.
            n_pages: The number of pages.

        Returns:
            The mfns whose entries were removed, in order.

        Raises:
            MemoryError: Nothing has changed.
        """
        first = page & LEAF_MASK
        if first + n_pages <= LEAF_PAGES and n_pages <= FEW:
            return self._swap_few(page >> LEVEL_BITS, first, mfns, n_pages)
        return self._swap_many(page, None if mfns is None else np.asarray(mfns, dtype=np.uint32), n_pages)

    def _swap_few(self, number: int, first: int, mfns: Mfns | None, n_pages: int) -> list[int]:
        leaf = self._leaves.get(number)
        if leaf is None:
            if mfns is None or not any(mfns):
                return []
            leaf = Leaf()
            self._link(number, leaf)
        entry = leaf.entry
        old = []
        n_new = n_barred = 0
        for index in range(n_pages):
            was = entry[first + index]
            mfn = NO_FRAME if mfns is None else mfns[index]
            if was:
                if was == BARRED:
                    n_barred += 1
                else:
                    old.append(was)
            if mfn:
                n_new += 1
            entry[first + index] = mfn
        n_more = n_new - len(old)
        if n_more or n_barred:
            self.n_present += n_more
            self._account(number, leaf, n_more - n_barred)
        return old

    def _swap_many(self, page: int, mfns: Array | None, n_pages: int) -> Array:
        old: list[Array] = []
        changes: list[tuple[int, Leaf, slice, Array | int, int, int]] = []
        for number, start, stop, at in spans(page, n_pages) if mfns is not None else self._there(page, n_pages):
            new = NO_FRAME if mfns is None else mfns[at : at + stop - start]
            n_new = int(np.count_nonzero(new))
            leaf = self._leaves.get(number)
            if leaf is None:
                if n_new:
                    changes.append((number, Leaf(), slice(start, stop), new, n_new, n_new))
                continue
            was = leaf.table[start:stop]
            there = was[was != NO_FRAME]
            old.append(there[there != BARRED])
            changes.append((number, leaf, slice(start, stop), new, n_new - len(old[-1]), n_new - len(there)))
        gone = np.concatenate(old) if old else EMPTY
        for number, leaf, part, new, n_present, n_entries in changes:  # from here on nothing needs memory
            if not leaf.n_entries:
                self._link(number, leaf)
            leaf.table[part] = new
            self.n_present += n_present
            self._account(number, leaf, n_entries)
        return gone

    def bar(self, page: int, n_pages: int) -> None:
        """Make barred entries in a range that has none.

        Raises:
            MemoryError: Nothing has changed.
        """
        changes = [
            (number, self._leaves.get(number) or Leaf(), slice(start, stop))
            for number, start, stop, _ in spans(page, n_pages)
        ]
        for number, leaf, part in changes:
            if not leaf.n_entries:
                self._link(number, leaf)
            leaf.table[part] = BARRED
            self._account(number, leaf, part.stop - part.start)

    def withdraw(self, page: int, n_pages: int) -> Mfns:
        """Bar the entries of a range.

        Returns:
            The mfns that the entries referred to.

        Raises:
            MemoryError: Nothing has changed.
        """
        old: list[Array] = []
        changes = []
        for number, start, stop, _ in self._there(page, n_pages):
            part = self._leaves[number].table[start:stop]
            present = (part != NO_FRAME) & (part != BARRED)
            old.append(part[present])
            changes.append((part, present))
        gone = np.concatenate(old) if old else EMPTY
        for part, present in changes:
            part[present] = BARRED
        self.n_present -= len(gone)
        return gone

    def clear(self) -> list[Array]:
        """Remove all entries; this needs no memory.

        Returns:
            The tables that held the entries, in order.
        """
        tables = [self._leaves[number].table for number in sorted(self._leaves)]
        self._leaves.clear()
        self._level2.clear()
        self._level3.clear()
        self.n_present = self.n_entries = 0
        return tables

    def _link(self, number: int, leaf: Leaf) -> None:
        self._leaves[number] = leaf
        level2 = number >> LEVEL_BITS
        self._level2[level2] += 1
        if self._level2[level2] == 1:
            self._level3[level2 >> LEVEL_BITS] += 1

    def _account(self, number: int, leaf: Leaf, n_more: int) -> None:
        self.n_entries += n_more
        leaf.n_entries += n_more
        if not leaf.n_entries:
            del self._leaves[number]
            level2 = number >> LEVEL_BITS
            if drop_one(self._level2, level2):
                drop_one(self._level3, level2 >> LEVEL_BITS)

    def get(self, page: int) -> int:
        """Return the mfn of a page, ``NO_FRAME`` when the page has no entry, or ``BARRED``."""
        leaf = self._leaves.get(page >> LEVEL_BITS)
        return NO_FRAME if leaf is None else leaf.entry[page & LEAF_MASK]

    def frames(self, page: int, n_pages: int) -> npt.NDArray[np.uint32]:
        """Look up the frames of a range.

        Returns:
            (n_pages,) uint32, ``NO_FRAME`` where there is no entry, ``BARRED`` where the entry is barred.
        """
        frames = np.zeros(n_pages, dtype=np.uint32)
        for number, start, stop, at in spans(page, n_pages):
            leaf = self._leaves.get(number)
            if leaf is not None:
                frames[at : at + stop - start] = leaf.table[start:stop]
        return frames

    def find(self, mfn: int) -> Iterator[int]:
        """Yield the pages that have an entry to a frame."""
        for first, table in self.leaves():
            yield from (np.flatnonzero(table == mfn) + first).tolist()

    def maps(self, mfns: Mfns) -> npt.NDArray[np.bool_]:
        """Return for each frame whether any page has an entry to it."""
        found = np.zeros(len(mfns), dtype=np.bool_)
        for _, table in self.leaves():
            found |= np.isin(mfns, table)
        return found

    def count(self, page: int, n_pages: int) -> int:
        """Return how many entries of a range refer to a frame; this needs no memory."""
        n_entries = self.count_entries(page, n_pages)
        if self.n_entries == self.n_present:
            return n_entries
        for number, start, stop, _ in self._there(page, n_pages):
            n_entries -= self._leaves[number].table[start:stop].tolist().count(BARRED)
        return n_entries

    def count_entries(self, page: int, n_pages: int) -> int:
        """Return how many entries a range has, barred ones included."""
        if n_pages == 1:
            return int(self.get(page) != NO_FRAME)
        return sum(
            int(np.count_nonzero(self._leaves[number].table[start:stop]))
            for number, start, stop, _ in self._there(page, n_pages)
        )

    def note(self, page: int, n_pages: int, protection: int) -> None:
        """Note which accesses the entries of a range allow; ``allowed`` returns that."""
        for number, start, stop, _ in self._there(page, n_pages):
            leaf = self._leaves[number]
            if leaf.allows is None:
                leaf.allows = bytearray(LEAF_PAGES)
            leaf.allows[start:stop] = bytes([protection]) * (stop - start)

    def allowed(self, page: int) -> int:
        """Return which accesses the entry of a page allows, as ``note`` was told."""
        allows = self._leaves[page >> LEVEL_BITS].allows
        assert allows is not None
        return allows[page & LEAF_MASK]

    def _there(self, page: int, n_pages: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield the spans of a range that have a leaf; the range may be far larger than what is mapped in it."""
        if n_pages >> LEVEL_BITS <= len(self._leaves):
            yield from (span for span in spans(page, n_pages) if span[0] in self._leaves)
            return
        for number in sorted(self._leaves):
            first = number << LEVEL_BITS
            start, stop = max(first, page), min(first + LEAF_PAGES, page + n_pages)
            if start < stop:
                yield number, start - first, stop - first, start - page

    def leaves(self) -> Iterator[tuple[int, npt.NDArray[np.uint32]]]:
        """Return the first page and the table of each leaf; for recounts."""
        return ((number << LEVEL_BITS, leaf.table) for number, leaf in self._leaves.items())


EMPTY: Final = np.zeros(0, dtype=np.uint32)


def drop_one(tables: Counter[int], number: int) -> bool:
    """Count a child of a table less, and return whether the table has no child any more."""
    tables[number] -= 1
    if tables[number]:
        return False
    del tables[number]
    return True


def spans(page: int, n_pages: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut a range at leaf boundaries, and yield (leaf number, first entry, entry behind the last, offset in range)."""
    at = 0
    while at < n_pages:
        start = (page + at) & LEAF_MASK
        stop = min(LEAF_PAGES, start + n_pages - at)
        yield (page + at) >> LEVEL_BITS, start, stop, at
        at += stop - start
