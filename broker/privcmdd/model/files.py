# SPDX-License-Identifier: Apache-2.0
"""Memory files: they hold the bytes of domains, of hypercall buffers and of domain 0's own shared pages.

This file decides which page of a memory file holds what. The files themselves are made elsewhere: nothing here has
a descriptor.
"""

from __future__ import annotations

import errno
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from privcmdd.model.errors import ModelError

# Pages of a buffer file: room for the arrays of a request for 16 million frames, twice. The file is sparse.
N_PAGES: Final = 65_536


class BufferPages:
    """The pages of one buffer file, in which the hypercall buffers of an address space lie.

    The caller and the hypervisor share the bytes of a hypercall's arguments. A process and the children that it forks
    share one file, as they share such pages on Linux (drivers/xen/privcmd-buf.c). A page is in use as long as a map
    entry of any of these processes maps it.

    Attributes:
        number: The number of the address space that the file was made for; never used twice.
        n_spaces: Address spaces that share the file.
    """

    __slots__ = ("_users", "n_spaces", "number")

    def __init__(self, number: int, n_pages: int = N_PAGES) -> None:
        self.number = number
        self.n_spaces = 1
        self._users = np.zeros(n_pages, dtype=np.uint16)

    def find(self, n_pages: int) -> int:
        """Return the first page of ``n_pages`` unused pages in a row.

        Raises:
            ModelError: ENOMEM.
        """
        used = np.flatnonzero(self._users)
        starts = np.concatenate(([0], used + 1))
        room = np.append(used, len(self._users)) - starts
        fits = np.flatnonzero(room >= n_pages)
        if not len(fits):
            raise ModelError(
                errno.ENOMEM,
                f"no {n_pages} pages in a row are free among the {len(self._users)} for hypercall buffers; unmap some",
                key="len",
            )
        return int(starts[fits[0]])

    def hold(self, page: int, n_pages: int) -> None:
        """Count a map entry that maps these pages."""
        self._users[page : page + n_pages] += 1

    def release(self, page: int, n_pages: int) -> None:
        """Count a map entry less: it no longer maps these pages."""
        self._users[page : page + n_pages] -= 1

    def unused(self, runs: list[tuple[int, int]]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """Return the pages of ``runs`` (first page, number of pages) that no map entry maps."""
        free = [np.flatnonzero(self._users[page : page + n_pages] == 0) + page for page, n_pages in runs]
        return np.concatenate(free).astype(np.uint32)


T = TypeVar("T", bound=np.generic)

NOWHERE: Final = np.zeros(0, dtype=np.uint32)

# Pages at the end of a memory file for frames that are no guest's RAM: grant table, ioreq servers.
RESOURCE_PAGES: Final = 256


class Places(NamedTuple):
    """Pages of a memory file, by the part of the file that they lie in.

    Attributes:
        own: Pages of guest frames that lie at the page of their gfn.
        spill: Pages of guest frames that lie in the spill area, counted from its beginning.
        resources: Pages of resources, counted from the beginning of their part.
    """

    own: npt.NDArray[np.uint32]
    spill: npt.NDArray[np.uint32]
    resources: npt.NDArray[np.uint32]


class FilePages:
    """Which pages of a domain's memory file hold a frame.

    Guest frame g lies at page g, so that runs of guest frames are runs of the file. There is one exception: when a
    guest frame is ballooned out while it is mapped, and then populated again, page g still holds the old frame. The
    new frame then goes to the spill area, behind the page of the last guest frame. Behind the spill area lie the
    resources.
    """

    __slots__ = ("_resources", "_spill", "_taken", "n_gfns", "n_spill")

    def __init__(self, n_gfns: int, n_spill: int) -> None:
        self.n_gfns = n_gfns
        self.n_spill = n_spill
        self._taken = np.zeros(0, dtype=np.bool_)
        self._spill = np.zeros(0, dtype=np.bool_)
        self._resources = np.zeros(RESOURCE_PAGES, dtype=np.bool_)

    @property
    def first_resource(self) -> int:
        """The page at which the resources begin."""
        return self.n_gfns + self.n_spill

    @property
    def n_pages(self) -> int:
        """The size of the file, in pages."""
        return self.first_resource + RESOURCE_PAGES

    def room(self, gfns: npt.NDArray[np.uint32]) -> int:
        """Return for how many of these gfns, from the first on, ``find`` has pages."""
        known = gfns < len(self._taken)
        elsewhere = np.zeros(len(gfns), dtype=np.bool_)
        elsewhere[known] = self._taken[gfns[known]]
        n_free = self.n_spill - int(np.count_nonzero(self._spill))
        over = np.flatnonzero(np.cumsum(elsewhere) > n_free)
        return int(over[0]) if len(over) else len(gfns)

    def find(self, gfns: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """Return pages for guest frames that are about to be populated. Each gfn comes once.

        The pages are free until ``hold`` marks them.
        """
        top = int(gfns.max(initial=0)) + 1
        if top > len(self._taken):
            self._taken = grow(self._taken, top, self.n_gfns)
        pages = gfns.copy()
        elsewhere = np.flatnonzero(self._taken[gfns])
        if len(elsewhere):
            needed = int(np.count_nonzero(self._spill)) + len(elsewhere)
            if needed > len(self._spill):
                self._spill = grow(self._spill, needed, self.n_spill)
            free = np.flatnonzero(~self._spill)[: len(elsewhere)]
            pages[elsewhere] = free + self.n_gfns
        return pages

    def occupy(self, pages: npt.NDArray[np.uint32]) -> None:
        """Mark pages that hold frames which were kept; ``find`` has not been asked for them.

        Raises:
            ValueError: The file has no such page.
        """
        if int(pages.max(initial=0)) >= self.n_pages:
            raise ValueError(f"page {int(pages.max())} of a memory file of {self.n_pages}")
        places = self.places(pages)
        for name, used, limit in (("_taken", places.own, self.n_gfns), ("_spill", places.spill, self.n_spill)):
            if len(used):
                setattr(self, name, grow(getattr(self, name), int(used.max()) + 1, limit))
        self.hold(places)

    def unheld(self, pages: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """Return those of these pages that hold no frame."""
        held = np.zeros(len(pages), dtype=np.bool_)
        for table, first in ((self._taken, 0), (self._spill, self.n_gfns), (self._resources, self.first_resource)):
            index = pages.astype(np.int64) - first
            known = (index >= 0) & (index < len(table))
            held[known] |= table[index[known]]
        return pages[~held]

    def find_resources(self, n_pages: int) -> npt.NDArray[np.uint32] | None:
        """Return free pages for the frames of a resource; None when there are too few."""
        free = np.flatnonzero(~self._resources)[:n_pages]
        return None if len(free) < n_pages else (free + self.first_resource).astype(np.uint32)

    def places(self, pages: npt.NDArray[np.uint32]) -> Places:
        """Return in which part of the file each page lies. ``hold`` and ``release`` then need no memory."""
        spilled = pages >= self.n_gfns
        if not spilled.any():
            return Places(pages, NOWHERE, NOWHERE)
        resource = pages >= self.first_resource
        return Places(pages[~spilled], pages[spilled & ~resource] - self.n_gfns, pages[resource] - self.first_resource)

    def hold(self, places: Places) -> None:
        """Mark pages that hold a frame from now on."""
        self._mark(places, holds=True)

    def release(self, places: Places) -> None:
        """Mark pages that no longer hold a frame."""
        self._mark(places, holds=False)

    def _mark(self, places: Places, *, holds: bool) -> None:
        self._taken[places.own] = holds
        self._spill[places.spill] = holds
        self._resources[places.resources] = holds


def grow(table: npt.NDArray[T], n: int, limit: int) -> npt.NDArray[T]:
    """Return a copy of the table with at least ``n`` rows and at most ``limit``; new rows are zero."""
    grown: npt.NDArray[T] = np.zeros(min(limit, max(n, 2 * len(table))), dtype=table.dtype)
    grown[: len(table)] = table
    return grown
