# SPDX-License-Identifier: Apache-2.0
"""The frame table: one row for each machine frame, with its owner and its reference count.

A row has the owner, the reference count, the gfn that the frame was allocated for (Xen's machine-to-phys table) and
the frame's page in the owner's memory file. That is 14 bytes, so that tens of millions of rows fit. Frames below
``FIRST_RAM`` are the first MiB of a PC and never a guest's, so that frame 0 can mean "no frame" everywhere. They and
the devices' hole below 4 GiB belong to DOMID_IO, Xen's own tables to DOMID_XEN.

Lists of frames are numpy arrays, or plain lists when they are short: below about two dozen frames a loop over
memoryviews is faster than numpy, above that numpy is much faster (``FEW``). Both forms give the same answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.lists import distinct
from privcmdd.model.units import DOMID_FIRST_RESERVED, DOMID_INVALID, DOMID_IO, DOMID_XEN, MMIO_END, MMIO_FIRST

if TYPE_CHECKING:
    import numpy.typing as npt

    Gmfns = list[int] | npt.NDArray[np.uint64]
    Mfns = list[int] | npt.NDArray[np.uint32]
    Errors = list[int] | npt.NDArray[np.int32]

FEW: Final = 24
FIRST_RAM: Final = 256
NO_FRAME: Final = 0
FRAME_0: Final = FIRST_RAM - 1  # stands for machine frame 0, which can be mapped while 0 means "no frame" here
CHUNK_FRAMES: Final = 512  # a part of the machine-to-phys table: 2 MiB, the rows of 1 GiB of frames
ONE: Final = np.array(1, dtype=np.uint32)  # an array of this type: numpy adds it without memory, and fast


class FrameTable:
    """All frames of the simulated machine.

    Attributes:
        owner: (n_frames,) uint16, the domid; ``DOMID_INVALID`` for a free frame.
        machphys: The first frame of Xen's machine-to-phys table, and the number of its frames; 0 frames in a machine
            of less than 1 GiB.
        refs: (n_frames,) uint32, references: page table entries, the p2m's own, resources.
        gfn: (n_frames,) uint32, the gfn in the owner's p2m (machine-to-phys).
        page: (n_frames,) uint32, the page in the owner's memory file.
    """

    __slots__ = (
        "_freed",
        "_fresh",
        "_n_freed",
        "_top",
        "gfn",
        "machphys",
        "n_frames",
        "owner",
        "owner_of",
        "page",
        "page_of",
        "refs",
        "refs_of",
    )

    def __init__(self, n_frames: int) -> None:
        self.n_frames = n_frames
        self.owner = np.full(n_frames, DOMID_INVALID, dtype=np.uint16)
        self.refs = np.zeros(n_frames, dtype=np.uint32)
        self.gfn = np.zeros(n_frames, dtype=np.uint32)
        self.page = np.zeros(n_frames, dtype=np.uint32)
        # The same tables for loops over few frames: a memoryview gives a plain int three times as fast.
        self.owner_of = self.owner.data
        self.refs_of = self.refs.data
        self.page_of = self.page.data
        n_table = -(-n_frames // (1 << 18)) * CHUNK_FRAMES if n_frames >= 1 << 18 else 0
        self._top = n_frames - n_table
        self.machphys = (self._top, n_table)
        for first, end, owner, page in (
            (0, FIRST_RAM, DOMID_IO, 0),
            (MMIO_FIRST, MMIO_END, DOMID_IO, MMIO_FIRST),
            (self._top, n_frames, DOMID_XEN, 0),
        ):
            own = slice(first, min(end, n_frames))
            self.owner[own] = owner
            self.page[own] = np.arange(page, page + len(self.page[own]), dtype=np.uint32)
        if n_frames >= FIRST_RAM:
            self.page[FRAME_0] = 0
        self._fresh = min(FIRST_RAM, n_frames)  # frames from here on were never used
        # A stack of frames that were used and freed. It has room for all, so that freeing needs no memory; the host
        # gives it pages as they are used.
        self._freed = np.empty(n_frames, dtype=np.uint32)
        self._n_freed = 0

    @property
    def n_free(self) -> int:
        """The number of frames that can still be allocated."""
        n_fresh = self._top - self._fresh
        if self._fresh <= MMIO_FIRST:
            n_fresh -= max(0, min(self._top, MMIO_END) - MMIO_FIRST)
        return n_fresh + self._n_freed

    def is_ram(self, gmfns: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Return for each frame number whether it is RAM, with or without an owner."""
        inside = gmfns < np.uint64(self.n_frames)
        ram = np.zeros(len(gmfns), dtype=np.bool_)
        ram[inside] = self.owner[gmfns[inside].astype(np.int64)] != DOMID_IO
        return ram

    def allocate(
        self, domid: int, gfns: npt.NDArray[np.uint32], pages: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.uint32]:
        """Give frames to a domain, each with one reference (the p2m's).

        Args:
            domid: The new owner.
            gfns: (n,) uint32, the gfns that the frames are allocated for; n is at most ``n_free``.
            pages: (n,) uint32, the frames' pages in the owner's file.

        Returns:
            (n,) uint32, the mfns, in the order of ``gfns``.
        """
        n = len(gfns)
        n_fresh = min(n, self.n_free - self._n_freed)
        n_reused = n - n_fresh
        mfns = np.empty(n, dtype=np.uint32)
        mfns[:n_fresh] = self._next_fresh(n_fresh)
        mfns[n_fresh:] = self._freed[self._n_freed - n_reused : self._n_freed]
        if n_fresh:
            self._fresh = int(mfns[n_fresh - 1]) + 1
        self._n_freed -= n_reused
        return self._assign(domid, mfns, gfns, pages)

    def allocate_run(
        self, domid: int, gfns: npt.NDArray[np.uint32], pages: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.uint32] | None:
        """As ``allocate``, but the n frames are contiguous and begin at a multiple of n.

        Returns:
            The mfns; None when no such frames are free.
        """
        n = len(gfns)
        first = -(-self._fresh // n) * n
        if first < MMIO_END and first + n > MMIO_FIRST:
            first = MMIO_END
        if first + n <= self._top:
            before = self._next_fresh(int(self.is_ram(np.arange(self._fresh, first, dtype=np.uint64)).sum()))
            mfns = np.arange(first, first + n, dtype=np.uint32)
            self._push(before)
            self._fresh = first + n
            return self._assign(domid, mfns, gfns, pages)
        freed = np.sort(self._freed[: self._n_freed])
        starts = freed[(freed % n == 0) & (np.searchsorted(freed, freed + n) - np.arange(len(freed)) == n)]
        if not len(starts):
            return None
        mfns = np.arange(starts[0], starts[0] + n, dtype=np.uint32)
        left = freed[(freed < mfns[0]) | (freed > mfns[-1])]
        self._n_freed -= n
        self._freed[: self._n_freed] = left
        return self._assign(domid, mfns, gfns, pages)

    def claim(
        self, domid: int, mfns: npt.NDArray[np.uint32], gfns: npt.NDArray[np.uint32], pages: npt.NDArray[np.uint32]
    ) -> None:
        """Give frames back to the domain that has had them before. They get no reference here.

        The frames may be the domain's still. After free ones ``settle`` or ``withdraw`` has to follow.

        Raises:
            ValueError: A frame is not in the machine, belongs to another domain, or is listed twice.
        """
        if int(mfns.max(initial=0)) >= self._top:
            raise ValueError(f"a frame of domain {domid} is none of the machine's")
        owners = self.owner[mfns]
        if ((owners != DOMID_INVALID) & (owners != domid)).any():
            raise ValueError(f"a frame of domain {domid} belongs to another domain")
        self.owner[mfns] = domid
        self.gfn[mfns] = gfns
        self.page[mfns] = pages
        if (self.gfn[mfns] != gfns).any():
            raise ValueError(f"a frame of domain {domid} is there twice")

    def withdraw(self) -> None:
        """Take frames that have an owner again from the stack of freed frames."""
        freed = self._freed[: self._n_freed]
        left = freed[self.owner[freed] == DOMID_INVALID]
        self._n_freed = 0
        self._push(left)

    def settle(self) -> None:
        """Find out anew which frames are free."""
        used = np.flatnonzero(self.owner[: self._top] < DOMID_FIRST_RESERVED)
        self._fresh = max(self._fresh, int(used[-1]) + 1 if len(used) else 0)
        free = np.flatnonzero(self.owner[: self._fresh] == DOMID_INVALID).astype(np.uint32)
        self._n_freed = 0
        self._push(free)

    def _next_fresh(self, n: int) -> npt.NDArray[np.uint32]:
        """Return the next ``n`` frames that were never used; the devices' hole is left out."""
        first = self._fresh
        mfns = np.arange(first, first + n, dtype=np.uint32)
        if first <= MMIO_FIRST < first + n:
            mfns[mfns >= MMIO_FIRST] += np.uint32(MMIO_END - MMIO_FIRST)
        return mfns

    def _assign(
        self,
        domid: int,
        mfns: npt.NDArray[np.uint32],
        gfns: npt.NDArray[np.uint32],
        pages: npt.NDArray[np.uint32],
    ) -> npt.NDArray[np.uint32]:
        """Write the rows of frames that get an owner. This needs no memory, so it cannot fail half way."""
        self.owner[mfns] = domid
        self.refs[mfns] = 1
        self.gfn[mfns] = gfns
        self.page[mfns] = pages
        return mfns

    def free(self, mfns: npt.NDArray[np.uint32]) -> None:
        """Take frames without references back from their owners; each is listed at most once. This needs no memory."""
        self._push(mfns)
        self.owner[mfns] = DOMID_INVALID

    def _push(self, mfns: npt.NDArray[np.uint32]) -> None:
        """Put frames on the stack of freed frames."""
        self._freed[self._n_freed : self._n_freed + len(mfns)] = mfns
        self._n_freed += len(mfns)

    def put(self, mfns: Mfns) -> npt.NDArray[np.uint32]:
        """Put one reference for each time that a frame is listed.

        Args:
            mfns: Frames; a frame may be listed several times, ``NO_FRAME`` never.

        Returns:
            (k,) uint32, the frames that have no reference any more, each once.

        Raises:
            MemoryError: Nothing has changed.
        """
        if isinstance(mfns, list):
            refs = self.refs_of
            gone = []
            for mfn in mfns:
                left = refs[mfn] - 1
                refs[mfn] = left
                if not left:
                    gone.append(mfn)
            try:
                return np.array(gone, dtype=np.uint32) if gone else NOTHING
            except MemoryError:
                self.get(mfns)
                raise
        index = mfns.astype(np.intp)
        np.subtract.at(self.refs, index, ONE)
        try:
            return distinct(mfns[self.refs[index] == 0])
        except MemoryError:
            self.get(mfns)
            raise

    def get(self, mfns: Mfns) -> None:
        """Get one reference for each time that a frame is listed: this undoes ``put``. It needs no memory."""
        if isinstance(mfns, list):
            for mfn in mfns:
                self.refs_of[mfn] += 1
        else:
            np.add.at(self.refs, mfns, ONE)


NOTHING: Final = np.zeros(0, dtype=np.uint32)
NOTHING.flags.writeable = False


# In a page table: an entry that is there and not present; see ``mm.pmap``.
BARRED: Final = (1 << 32) - 1
