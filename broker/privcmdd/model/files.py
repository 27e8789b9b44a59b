# SPDX-License-Identifier: Apache-2.0
"""Files of memory: what holds the bytes of domains, of hypercall buffers and of domain 0's own shared pages.

Which page of a file holds what is decided here. The files themselves are made elsewhere: nothing here has a
descriptor.
"""

from __future__ import annotations

import errno
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from privcmdd.model.errors import ModelError

# The size of a buffer file: arrays for 16 million frames and as much again. It is sparse.
N_PAGES: Final = 65_536


class BufferPages:
    """The pages of one buffer file, which an address space's hypercall buffers lie in.

    The caller and the hypervisor share the bytes of a hypercall's arguments. A process and the children it forks share
    one file, as they share such pages on Linux (drivers/xen/privcmd-buf.c); a page is in use as long as a map entry of
    any of them has it.

    Attributes:
        number: Of the address space that it was made for; never used twice.
        n_spaces: Address spaces that share it.
    """

    __slots__ = ("_users", "n_spaces", "number")

    def __init__(self, number: int, n_pages: int = N_PAGES) -> None:
        self.number = number
        self.n_spaces = 1
        self._users = np.zeros(n_pages, dtype=np.uint16)

    def find(self, n_pages: int) -> int:
        """The first of ``n_pages`` unused pages in a row.

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
        """An entry has these pages."""
        self._users[page : page + n_pages] += 1

    def release(self, page: int, n_pages: int) -> None:
        """An entry has these pages no more."""
        self._users[page : page + n_pages] -= 1

    def unused(self, runs: list[tuple[int, int]]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """Those pages of runs (first page, number of pages) that nobody has."""
        free = [np.flatnonzero(self._users[page : page + n_pages] == 0) + page for page, n_pages in runs]
        return np.concatenate(free).astype(np.uint32)


T = TypeVar("T", bound=np.generic)

NOWHERE: Final = np.zeros(0, dtype=np.uint32)

# Pages at the end of a memory file for frames that are no guest's RAM: grant table, ioreq servers.
RESOURCE_PAGES: Final = 256


class Places(NamedTuple):
    """Pages of a memory file, by what they are for.

    Attributes:
        own: Of guest frames, at the page of their number.
        spill: Of guest frames elsewhere, counted from the beginning of that part.
        resources: Of resources, counted likewise.
    """

    own: npt.NDArray[np.uint32]
    spill: npt.NDArray[np.uint32]
    resources: npt.NDArray[np.uint32]


class FilePages:
    """Which pages of a domain's memory file hold a frame.

    Frame g lies at page g, so that runs of guest frames are runs of the file. Only where page g still holds
    an older frame that somebody has mapped (ballooned out, then populated again) does the new one go to the
    spill area behind the last guest frame. Behind that lie the resources.
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
        """Where the resources begin."""
        return self.n_gfns + self.n_spill

    @property
    def n_pages(self) -> int:
        """The size of the file, in pages."""
        return self.first_resource + RESOURCE_PAGES

    def room(self, gfns: npt.NDArray[np.uint32]) -> int:
        """How many of these gfns, from the first on, ``take`` would find pages for."""
        known = gfns < len(self._taken)
        elsewhere = np.zeros(len(gfns), dtype=np.bool_)
        elsewhere[known] = self._taken[gfns[known]]
        n_free = self.n_spill - int(np.count_nonzero(self._spill))
        over = np.flatnonzero(np.cumsum(elsewhere) > n_free)
        return int(over[0]) if len(over) else len(gfns)

    def find(self, gfns: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """Find pages for frames that are about to be populated; each gfn once. They are free until they are held."""
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

    def find_resources(self, n_pages: int) -> npt.NDArray[np.uint32] | None:
        """Find pages for frames of a resource; None when there are not so many."""
        free = np.flatnonzero(~self._resources)[:n_pages]
        return None if len(free) < n_pages else (free + self.first_resource).astype(np.uint32)

    def places(self, pages: npt.NDArray[np.uint32]) -> Places:
        """Where pages of the file lie, for ``hold`` and ``release``, which then need no memory."""
        spilled = pages >= self.n_gfns
        if not spilled.any():
            return Places(pages, NOWHERE, NOWHERE)
        resource = pages >= self.first_resource
        return Places(pages[~spilled], pages[spilled & ~resource] - self.n_gfns, pages[resource] - self.first_resource)

    def hold(self, places: Places) -> None:
        """Pages hold a frame from now on."""
        self._mark(places, holds=True)

    def release(self, places: Places) -> None:
        """Pages hold nothing any more."""
        self._mark(places, holds=False)

    def _mark(self, places: Places, *, holds: bool) -> None:
        self._taken[places.own] = holds
        self._spill[places.spill] = holds
        self._resources[places.resources] = holds


def grow(table: npt.NDArray[T], n: int, limit: int) -> npt.NDArray[T]:
    """Return the table with room for at least ``n`` rows and at most ``limit``, new rows zero."""
    grown: npt.NDArray[T] = np.zeros(min(limit, max(n, 2 * len(table))), dtype=table.dtype)
    grown[: len(table)] = table
    return grown
