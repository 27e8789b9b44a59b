# SPDX-License-Identifier: Apache-2.0
"""A domain: its kind, its p2m, its reservation, its life.

The p2m names a machine frame for each guest frame: ``NO_FRAME`` where nothing is populated, the frame with
``PAGED`` set where it is paged out. PV guests name frames by mfn and keep the p2m themselves; here it says
which pseudo-physical frame a machine frame stands for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from privcmdd.model.frames import NO_FRAME
from privcmdd.model.units import INVALID_FRAME

if TYPE_CHECKING:
    import numpy.typing as npt

T = TypeVar("T", bound=np.generic)

PAGED: Final = 1 << 31


class Kind(StrEnum):
    """How a guest is virtualised, which decides by what its frames are named."""

    PV = "pv"
    HVM = "hvm"
    PVH = "pvh"

    @property
    def translated(self) -> bool:
        """Frames are named by gfn and looked up in the p2m; otherwise by mfn."""
        return self is not Kind.PV


class State(StrEnum):
    """A domain's life. A dying domain stays until the last reference to its frames goes."""

    PAUSED = "paused"
    RUNNING = "running"
    DYING = "dying"
    GONE = "gone"


class FilePages:
    """Which pages of a domain's memory file hold a frame.

    Frame g lies at page g, so that runs of guest frames are runs of the file. Only where page g still holds
    an older frame that somebody has mapped (ballooned out, then populated again) does the new one go to the
    spill area behind the last guest frame.
    """

    __slots__ = ("_spill", "_taken", "n_gfns")

    def __init__(self, n_gfns: int, n_spill: int) -> None:
        self.n_gfns = n_gfns
        self._taken = np.zeros(0, dtype=np.bool_)
        self._spill = np.zeros(n_spill, dtype=np.bool_)

    @property
    def n_pages(self) -> int:
        """The size of the file, in pages."""
        return self.n_gfns + len(self._spill)

    def take(self, gfns: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """Find pages for frames that are about to be populated; each gfn once."""
        top = int(gfns.max(initial=0)) + 1
        if top > len(self._taken):
            self._taken = grow(self._taken, top, self.n_gfns)
        pages = gfns.copy()
        elsewhere = np.flatnonzero(self._taken[gfns])
        self._taken[gfns] = True
        if len(elsewhere):
            free = np.flatnonzero(~self._spill)[: len(elsewhere)]
            self._spill[free] = True
            pages[elsewhere] = free + self.n_gfns
        return pages

    def give(self, pages: npt.NDArray[np.uint32]) -> None:
        """Pages hold nothing any more."""
        spilled = pages >= self.n_gfns
        self._taken[pages[~spilled]] = False
        self._spill[pages[spilled] - self.n_gfns] = False


def grow(table: npt.NDArray[T], n: int, limit: int) -> npt.NDArray[T]:
    """Return the table with room for at least ``n`` rows and at most ``limit``, new rows zero."""
    grown: npt.NDArray[T] = np.zeros(min(limit, max(n, 2 * len(table))), dtype=table.dtype)
    grown[: len(table)] = table
    return grown


@dataclass(slots=True, eq=False)
class Domain:
    """One simulated guest.

    Attributes:
        domid: Its number.
        max_pages: Most frames it may own at a time (its maximum reservation).
        tot_pages: Frames it owns now, paged-out ones not counted.
        n_paged: Frames that are paged out.
        p2m: (gfns so far,) uint32; see the module's docstring.
    """

    domid: int
    kind: Kind
    name: str
    max_pages: int
    max_gfns: int
    state: State = State.PAUSED
    tot_pages: int = 0
    n_paged: int = 0
    p2m: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, dtype=np.uint32))
    p2m_of: memoryview = field(init=False)
    file: FilePages = field(init=False)

    def __post_init__(self) -> None:
        self.p2m_of = self.p2m.data
        self.file = FilePages(self.max_gfns, self.max_pages)

    @property
    def alive(self) -> bool:
        """Neither dying nor gone."""
        return self.state in (State.PAUSED, State.RUNNING)

    def reach(self, n_gfns: int) -> None:
        """Make room in the p2m for guest frames below ``n_gfns``."""
        if n_gfns > len(self.p2m):
            self.p2m = grow(self.p2m, n_gfns, self.max_gfns)
            self.p2m_of = self.p2m.data

    def names(self, start: int, n: int) -> npt.NDArray[np.uint64]:
        """By what a foreign mapping asks for the guest frames ``start`` to ``start + n``.

        Returns:
            (n,) uint64: gfns, or mfns of a PV domain; ``INVALID_FRAME`` where nothing is populated.
        """
        names = np.full(n, INVALID_FRAME, dtype=np.uint64)
        known = self.p2m[start : start + n]
        there = known != NO_FRAME
        frames = (
            np.arange(start, start + len(known), dtype=np.uint64) if self.kind.translated else known.astype(np.uint64)
        )
        names[: len(known)][there] = frames[there]
        return names
