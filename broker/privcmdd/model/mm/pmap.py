# SPDX-License-Identifier: Apache-2.0
"""Page tables: which virtual page has an entry to which frame, and how many page table pages that takes.

There are four levels, as on x86-64. A leaf has 512 entries (uint32 mfns, ``NO_FRAME`` where there is no PTE), and
exists exactly as long as it holds an entry. A directory has the leaves of 1 GiB, so that a long range changes by whole
directories. The tables above are only counted; the root always exists and is not counted, as in NetBSD's pmap.

A barred entry (``BARRED``) is there but not present: it refers to no frame, no access can go through it, and no other
entry can be entered in its place. Linux makes barred entries for a mapping without access.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from privcmdd.model.machine.frames import BARRED, FEW, NO_FRAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from privcmdd.model.machine.frames import Mfns

    Array = npt.NDArray[np.uint32]

LEVEL_BITS: Final = 9
LEAF_PAGES: Final = 1 << LEVEL_BITS
LEAF_MASK: Final = LEAF_PAGES - 1
DIRECTORY_BITS: Final = 2 * LEVEL_BITS


class Leaf:
    """A page table page of the lowest level.

    Attributes:
        table: (512,) uint32, the mfns.
        entry: The same table as a memoryview, which is several times as fast for single entries.
        n_entries: How many entries it holds, present or barred.
        n_barred: How many of them are barred.
        allows: The accesses that each of the 512 entries allows; None when they were never noted.
    """

    __slots__ = ("allows", "entry", "n_barred", "n_entries", "table")

    def __init__(self, table: Array | None = None, n_entries: int = 0, n_barred: int = 0) -> None:
        self.table = np.zeros(LEAF_PAGES, dtype=np.uint32) if table is None else table
        self.entry = self.table.data
        self.n_entries = n_entries
        self.n_barred = n_barred
        self.allows: bytearray | None = None


class Directory:
    """A page table page of the second level: the leaves of 1 GiB of addresses.

    Attributes:
        leaves: By number.
        n_entries: The entries of its leaves.
        n_barred: How many of them are barred.
    """

    __slots__ = ("leaves", "n_barred", "n_entries")

    def __init__(self) -> None:
        self.leaves: dict[int, Leaf] = {}
        self.n_entries = 0
        self.n_barred = 0

    def add(self, number: int, leaf: Leaf) -> None:
        """Add a leaf that is not there."""
        self.leaves[number] = leaf
        self.n_entries += leaf.n_entries
        self.n_barred += leaf.n_barred


class Prepared:
    """Page tables for a range, made before they are entered: to enter them then takes a step for each GiB.

    Attributes:
        directories: By number. They hold no leaf without entries.
    """

    __slots__ = ("directories",)

    def __init__(self) -> None:
        self.directories: dict[int, Directory] = {}

    def add(self, page: int, mfns: Array) -> None:
        """Make the tables of a part of the range, which comes once.

        Args:
            page: The part's first page.
            mfns: Its entries; ``NO_FRAME`` for none.
        """
        for number, start, stop, at in spans(page, len(mfns)):
            part = mfns[at : at + stop - start]
            n_entries = int(np.count_nonzero(part))
            if not n_entries:
                continue
            directory = self.directories.get(number >> LEVEL_BITS)
            if directory is None:
                directory = self.directories[number >> LEVEL_BITS] = Directory()
            n_barred = int(np.count_nonzero(part == BARRED))
            leaf = directory.leaves.get(number)
            if leaf is not None:  # its other pages came with another part
                leaf.table[start:stop] = part
                leaf.n_entries += n_entries
                leaf.n_barred += n_barred
                directory.n_entries += n_entries
                directory.n_barred += n_barred
            elif stop - start == LEAF_PAGES:
                directory.add(number, Leaf(part.copy(), n_entries, n_barred))
            else:
                table = np.zeros(LEAF_PAGES, dtype=np.uint32)
                table[start:stop] = part
                directory.add(number, Leaf(table, n_entries, n_barred))


def tables(page: int, mfns: Mfns | None) -> Prepared:
    """Return page tables with these entries; None: without entries."""
    made = Prepared()
    if mfns is not None:
        made.add(page, np.asarray(mfns, dtype=np.uint32))
    return made


class Removed(NamedTuple):
    """Entries that were removed.

    Attributes:
        n_present: How many referred to a frame.
        parts: The mfns, in parts in which ``NO_FRAME`` and ``BARRED`` may be among them.
    """

    n_present: int
    parts: Sequence[Mfns]


NOTHING_REMOVED: Final = Removed(0, ())


class Pmap:
    """The page tables of one address space. Pages are virtual addresses divided by the page size.

    Attributes:
        n_present: Page table entries that refer to a frame.
        n_entries: Page table entries, barred ones included.
    """

    __slots__ = ("_directories", "_level3", "_n_leaves", "n_entries", "n_present")

    def __init__(self) -> None:
        self._directories: dict[int, Directory] = {}
        self._level3: Counter[int] = Counter()  # directories below, a level-3 table
        self._n_leaves = 0
        self.n_present = 0
        self.n_entries = 0

    @property
    def n_ptps(self) -> int:
        """Page table pages, the root not counted."""
        return self._n_leaves + len(self._directories) + len(self._level3)

    def swap(self, page: int, mfns: Mfns | None, n_pages: int) -> Mfns:
        """Replace the entries of a range.

        Args:
            page: The first page.
            mfns: ``n_pages`` mfns, ``NO_FRAME`` for no entry; None to leave the range empty.
            n_pages: The number of pages.

        Returns:
            The mfns whose entries were removed.

        Raises:
            MemoryError: Nothing has changed.
        """
        first = page & LEAF_MASK
        if first + n_pages <= LEAF_PAGES and n_pages <= FEW:
            return self._swap_few(page >> LEVEL_BITS, first, mfns, n_pages)
        gone = [np.asarray(part, dtype=np.uint32) for part in self.exchange(page, n_pages, tables(page, mfns)).parts]
        old: Array = np.concatenate(gone) if gone else EMPTY
        present: Array = old[(old != NO_FRAME) & (old != BARRED)]
        return present

    def _swap_few(self, number: int, first: int, mfns: Mfns | None, n_pages: int) -> list[int]:
        leaf = self._leaf(number)
        if leaf is None:
            if mfns is None or not any(mfns):
                return []
            leaf = Leaf()
            self._add(number, leaf)
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
        n_more = n_new - len(old) - n_barred
        if n_more or n_barred:
            self._account(number, leaf, n_more, -n_barred)
        return old

    def exchange(self, page: int, n_pages: int, new: Prepared) -> Removed:
        """Replace the entries of a range by tables that were made for it; whole tables change places.

        Raises:
            MemoryError: Nothing has changed.
        """
        if not self.n_entries and not new.directories:
            return NOTHING_REMOVED
        end = page + n_pages
        before = self.n_present
        n_new = sum(one.n_entries - one.n_barred for one in new.directories.values())
        spare = np.empty((2, LEAF_PAGES), dtype=np.uint32)  # for what the first and the last leaf have in the range
        n_kept = 0
        parts: list[Mfns] = []
        for number in self._within(page, n_pages, new):  # from here on nothing needs memory
            old, fresh = self._directories.get(number), new.directories.get(number)
            if page <= number << DIRECTORY_BITS and (number + 1) << DIRECTORY_BITS <= end:
                if old is not None:
                    parts += [leaf.table for leaf in old.leaves.values()]
                    self._unlink(number, old)
                if fresh is not None:
                    self._link(number, fresh)
                continue
            leaves = {} if fresh is None else fresh.leaves
            low = max(number << LEVEL_BITS, page >> LEVEL_BITS)
            high = min((number + 1) << LEVEL_BITS, ((end - 1) >> LEVEL_BITS) + 1)
            for one in range(low, high):
                leaf, made = self._leaf(one), leaves.get(one)
                start, stop = max(page - (one << LEVEL_BITS), 0), min(end - (one << LEVEL_BITS), LEAF_PAGES)
                if leaf is None:
                    pass
                elif stop - start == LEAF_PAGES:
                    parts.append(leaf.table)
                    self._account(one, leaf, -leaf.n_entries, -leaf.n_barred)
                else:
                    kept = spare[n_kept, : stop - start]
                    kept[:] = leaf.table[start:stop]
                    parts.append(kept)
                    n_kept += 1
                    self._merge(one, leaf, slice(start, stop), made)
                    continue
                if made is not None:
                    self._add(one, made)
        return Removed(before + n_new - self.n_present, parts)

    def _merge(self, number: int, leaf: Leaf, part: slice, fresh: Leaf | None) -> None:
        """Replace a part of a leaf by that of a fresh one."""
        old = leaf.table[part]
        n_more, n_barred = -int(np.count_nonzero(old)), -int(np.count_nonzero(old == BARRED))
        if fresh is None:
            leaf.table[part] = NO_FRAME
        else:
            leaf.table[part] = fresh.table[part]
            n_more += fresh.n_entries
            n_barred += fresh.n_barred
        self._account(number, leaf, n_more, n_barred)

    def _within(self, page: int, n_pages: int, new: Prepared | None = None) -> Iterable[int]:
        """Return the numbers of the directories in a range that are there, or are to be."""
        there: Iterable[int] = self._directories if new is None else self._directories.keys() | new.directories.keys()
        low, high = page >> DIRECTORY_BITS, (page + n_pages - 1) >> DIRECTORY_BITS
        if low == high:
            return (low,)
        return sorted(number for number in there if low <= number <= high)

    def clear(self) -> list[Array]:
        """Remove all entries.

        Returns:
            The tables that held the entries.
        """
        tables = [table for _, table in self.leaves()]
        self._directories.clear()
        self._level3.clear()
        self._n_leaves = self.n_present = self.n_entries = 0
        return tables

    def _leaf(self, number: int) -> Leaf | None:
        directory = self._directories.get(number >> LEVEL_BITS)
        return None if directory is None else directory.leaves.get(number)

    def _add(self, number: int, leaf: Leaf) -> None:
        """Add a leaf that is not there, with its entries."""
        directory = self._directories.get(number >> LEVEL_BITS)
        if directory is None:
            directory = Directory()
            self._link(number >> LEVEL_BITS, directory)
        directory.add(number, leaf)
        self._n_leaves += 1
        self.n_entries += leaf.n_entries
        self.n_present += leaf.n_entries - leaf.n_barred

    def _link(self, number: int, directory: Directory) -> None:
        self._directories[number] = directory
        self._level3[number >> LEVEL_BITS] += 1
        self._n_leaves += len(directory.leaves)
        self.n_entries += directory.n_entries
        self.n_present += directory.n_entries - directory.n_barred

    def _unlink(self, number: int, directory: Directory) -> None:
        del self._directories[number]
        drop_one(self._level3, number >> LEVEL_BITS)
        self._n_leaves -= len(directory.leaves)
        self.n_entries -= directory.n_entries
        self.n_present -= directory.n_entries - directory.n_barred

    def _account(self, number: int, leaf: Leaf, n_more: int, n_barred: int) -> None:
        """Account entries that a leaf has more, and how many of them are barred; tables without entries go."""
        self.n_entries += n_more
        self.n_present += n_more - n_barred
        leaf.n_entries += n_more
        leaf.n_barred += n_barred
        directory = self._directories[number >> LEVEL_BITS]
        directory.n_entries += n_more
        directory.n_barred += n_barred
        if not leaf.n_entries:
            del directory.leaves[number]
            self._n_leaves -= 1
            if not directory.leaves:
                self._unlink(number >> LEVEL_BITS, directory)

    def bar(self, page: int, n_pages: int) -> None:
        """Make barred entries in a range that has none.

        Raises:
            MemoryError: Nothing has changed.
        """
        barred = Prepared()
        barred.add(page, np.full(n_pages, BARRED, dtype=np.uint32))
        self.exchange(page, n_pages, barred)

    def withdrawn(self, page: int, n_pages: int, barred: Prepared) -> None:
        """Prepare tables in which the entries of a range are barred.

        Args:
            page: The first page.
            n_pages: The number of pages.
            barred: Gets the tables; to ``exchange`` them bars the entries.
        """
        for leaf, start, stop, at in self._parts(page, n_pages):
            part = leaf.table[start:stop]
            barred.add(page + at, np.where(part == NO_FRAME, NO_FRAME, BARRED).astype(np.uint32))

    def get(self, page: int) -> int:
        """Return the mfn of a page, ``NO_FRAME`` when the page has no entry, or ``BARRED``."""
        leaf = self._leaf(page >> LEVEL_BITS)
        return NO_FRAME if leaf is None else leaf.entry[page & LEAF_MASK]

    def frames(self, page: int, n_pages: int) -> npt.NDArray[np.uint32]:
        """Look up the frames of a range.

        Returns:
            (n_pages,) uint32, ``NO_FRAME`` where there is no entry, ``BARRED`` where the entry is barred.
        """
        frames = np.zeros(n_pages, dtype=np.uint32)
        for leaf, start, stop, at in self._parts(page, n_pages):
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
        return sum(n_entries - n_barred for n_entries, n_barred in self._counts(page, n_pages))

    def count_entries(self, page: int, n_pages: int) -> int:
        """Return how many entries a range has, barred ones included."""
        if n_pages == 1:
            return int(self.get(page) != NO_FRAME)
        return sum(n_entries for n_entries, _ in self._counts(page, n_pages))

    def _counts(self, page: int, n_pages: int) -> Iterator[tuple[int, int]]:
        """Yield the numbers of entries, and of barred ones, of parts of a range."""
        end = page + n_pages
        for number in self._within(page, n_pages):
            directory = self._directories.get(number)
            first, last = number << DIRECTORY_BITS, (number + 1) << DIRECTORY_BITS
            if directory is None:
                continue
            if page <= first and last <= end:
                yield directory.n_entries, directory.n_barred
                continue
            low = max(page, first)
            for leaf, start, stop, _ in self._parts(low, min(end, last) - low):
                if stop - start == LEAF_PAGES:
                    yield leaf.n_entries, leaf.n_barred
                else:
                    part = leaf.entry[start:stop].tolist()
                    yield len(part) - part.count(NO_FRAME), part.count(BARRED)

    def note(self, page: int, n_pages: int, protection: int) -> None:
        """Note which accesses the entries of a range allow; ``allowed`` returns that."""
        for leaf, start, stop, _ in self._parts(page, n_pages):
            if leaf.allows is None:
                leaf.allows = bytearray(LEAF_PAGES)
            leaf.allows[start:stop] = bytes([protection]) * (stop - start)

    def allowed(self, page: int) -> int:
        """Return which accesses the entry of a page allows, as ``note`` was told."""
        leaf = self._leaf(page >> LEVEL_BITS)
        assert leaf is not None
        assert leaf.allows is not None
        return leaf.allows[page & LEAF_MASK]

    def _parts(self, page: int, n_pages: int) -> Iterator[tuple[Leaf, int, int, int]]:
        """Yield each leaf in a range, its first entry there, the one behind its last, and the place in the range."""
        end = page + n_pages
        for number in self._within(page, n_pages):
            directory = self._directories.get(number)
            if directory is None:
                continue
            low = max(number << LEVEL_BITS, page >> LEVEL_BITS)
            high = min((number + 1) << LEVEL_BITS, ((end - 1) >> LEVEL_BITS) + 1)
            for one in range(low, high) if high - low <= len(directory.leaves) else sorted(directory.leaves):
                leaf = directory.leaves.get(one)
                if leaf is not None and low <= one < high:
                    first = one << LEVEL_BITS
                    start = max(page, first)
                    yield leaf, start - first, min(first + LEAF_PAGES, end) - first, start - page

    def leaves(self) -> Iterator[tuple[int, npt.NDArray[np.uint32]]]:
        """Return the first page and the table of each leaf; for recounts."""
        return (
            (number << LEVEL_BITS, leaf.table)
            for directory in self._directories.values()
            for number, leaf in directory.leaves.items()
        )


EMPTY: Final = np.zeros(0, dtype=np.uint32)


def drop_one(tables: Counter[int], number: int) -> None:
    """Count a child of a table less; a table without children goes."""
    tables[number] -= 1
    if not tables[number]:
        del tables[number]


def spans(page: int, n_pages: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut a range at leaf boundaries, and yield (leaf number, first entry, entry behind the last, offset in range)."""
    at = 0
    while at < n_pages:
        start = (page + at) & LEAF_MASK
        stop = min(LEAF_PAGES, start + n_pages - at)
        yield (page + at) >> LEVEL_BITS, start, stop, at
        at += stop - start
