# SPDX-License-Identifier: Apache-2.0
"""The frame table: one row a machine frame, and who refers to it.

A row is an owner, a reference count, the guest frame number it was given for (Xen's machine-to-phys table)
and its page in the owner's memory file: 14 bytes, so that tens of millions fit. Frames below ``FIRST_RAM``
are the first MiB of a PC, never a guest's; that leaves frame 0 free to mean "no frame" everywhere.

Lists of frames are numpy arrays, or plain lists when they are short: below about two dozen frames a loop
over memoryviews beats numpy, above it numpy wins by far (``FEW``). Both give the same answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.units import DOMID_INVALID

if TYPE_CHECKING:
    import numpy.typing as npt

    Names = list[int] | npt.NDArray[np.uint64]
    Mfns = list[int] | npt.NDArray[np.uint32]
    Errors = list[int] | npt.NDArray[np.int32]

FEW: Final = 24
FIRST_RAM: Final = 256
NO_FRAME: Final = 0
ONE: Final = np.uint32(1)  # np.add.at leaves its fast path for any other type


class FrameTable:
    """All frames of the simulated machine.

    Attributes:
        owner: (n_frames,) uint16, the domid; ``DOMID_INVALID`` for a free frame.
        refs: (n_frames,) uint32, references: page table entries, the p2m's own, resources.
        gfn: (n_frames,) uint32, guest frame number in its owner (machine-to-phys).
        page: (n_frames,) uint32, page in its owner's memory file.
    """

    __slots__ = (
        "_freed",
        "_fresh",
        "_n_freed",
        "gfn",
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
        self._fresh = min(FIRST_RAM, n_frames)  # frames from here on were never used
        self._freed = np.zeros(0, dtype=np.uint32)  # a stack of frames that were
        self._n_freed = 0

    @property
    def n_free(self) -> int:
        """Frames that can still be allocated."""
        return self.n_frames - self._fresh + self._n_freed

    def allocate(
        self, domid: int, gfns: npt.NDArray[np.uint32], pages: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.uint32]:
        """Give a domain frames, each with one reference (the p2m's).

        Args:
            domid: The new owner.
            gfns: (n,) uint32, what they are allocated for; n is at most ``n_free``.
            pages: (n,) uint32, their pages in the owner's file.

        Returns:
            (n,) uint32, the frames, in the order of ``gfns``.
        """
        n = len(gfns)
        n_fresh = min(n, self.n_frames - self._fresh)
        n_reused = n - n_fresh
        mfns = np.empty(n, dtype=np.uint32)
        mfns[:n_fresh] = np.arange(self._fresh, self._fresh + n_fresh, dtype=np.uint32)
        mfns[n_fresh:] = self._freed[self._n_freed - n_reused : self._n_freed]
        self._fresh += n_fresh
        self._n_freed -= n_reused
        self.owner[mfns] = domid
        self.refs[mfns] = 1
        self.gfn[mfns] = gfns
        self.page[mfns] = pages
        return mfns

    def free(self, mfns: npt.NDArray[np.uint32]) -> None:
        """Take frames without references back from their owners; each at most once."""
        needed = self._n_freed + len(mfns)
        if needed > len(self._freed):
            grown = np.zeros(max(needed, 2 * len(self._freed)), dtype=np.uint32)
            grown[: self._n_freed] = self._freed[: self._n_freed]
            self._freed = grown
        self._freed[self._n_freed : needed] = mfns
        self._n_freed = needed
        self.owner[mfns] = DOMID_INVALID

    def give(self, mfns: Mfns) -> npt.NDArray[np.uint32]:
        """Drop one reference for each mention of a frame.

        Args:
            mfns: Frames, possibly repeated, ``NO_FRAME`` not among them.

        Returns:
            (k,) uint32, the frames that nothing refers to any more, each once.
        """
        if isinstance(mfns, list):
            refs = self.refs_of
            gone = []
            for mfn in mfns:
                left = refs[mfn] - 1
                refs[mfn] = left
                if not left:
                    gone.append(mfn)
            return np.array(gone, dtype=np.uint32) if gone else NOTHING
        np.subtract.at(self.refs, mfns, ONE)
        gone_array: npt.NDArray[np.uint32] = np.unique(mfns[self.refs[mfns] == 0])
        return gone_array


NOTHING: Final = np.zeros(0, dtype=np.uint32)
NOTHING.flags.writeable = False
