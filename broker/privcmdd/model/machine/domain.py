# SPDX-License-Identifier: Apache-2.0
"""A domain: its kind, its p2m, its reservation, its life.

The p2m names a machine frame for each guest frame: ``NO_FRAME`` where nothing is populated, the frame with
``PAGED`` set where it is paged out. PV guests name frames by mfn and keep the p2m themselves; here it says
which pseudo-physical frame a machine frame stands for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np

from privcmdd.model.machine.interrupts import Interrupts
from privcmdd.model.machine.records import GrantTable, Pager, Traits
from privcmdd.model.units import INVALID_FRAME

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.ioreq import IoreqServer

T = TypeVar("T", bound=np.generic)
NOWHERE: Final = np.zeros(0, dtype=np.uint32)

PAGED: Final = 1 << 31
# In the p2m: the frame is the domain's still, and accesses go to the device model (p2m_mmio_dm).
DEVICE: Final = 1 << 30
FLAGS: Final = PAGED | DEVICE
# In the p2m: nothing yet, to be populated from the domain's cache when it is first looked up.
ON_DEMAND: Final = 1
# Pages at the end of a memory file for frames that are no guest's RAM: grant table, ioreq servers.
RESOURCE_PAGES: Final = 256


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
        """Where pages of the file lie, for ``hold`` and ``give``, which then need no memory."""
        spilled = pages >= self.n_gfns
        if not spilled.any():
            return Places(pages, NOWHERE, NOWHERE)
        resource = pages >= self.first_resource
        return Places(pages[~spilled], pages[spilled & ~resource] - self.n_gfns, pages[resource] - self.first_resource)

    def hold(self, places: Places) -> None:
        """Pages hold a frame from now on."""
        self._mark(places, holds=True)

    def give(self, places: Places) -> None:
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


@dataclass(slots=True, eq=False)
class Domain:
    """One simulated guest.

    Attributes:
        domid: Its number.
        max_pages: Most frames it may own at a time (its maximum reservation).
        tot_pages: Frames it owns now, paged-out ones not counted.
        n_paged: Frames that are paged out.
        n_resource: Frames of its resources, mapped or not; no part of ``tot_pages``.
        n_cached: Frames kept for guest frames that are populated on demand; no part of ``tot_pages`` here, while
            Xen counts them in.
        n_on_demand: Guest frames that wait to be populated on demand.
        top_gfn: The highest guest frame ever populated.
        n_pauses: How often control software has paused it; a dying domain may be paused or not.
        shutdown: Why it stopped by itself (Xen's SHUTDOWN codes), or None.
        n_spill: Size of the spill area of its memory file, in pages; as many as ``max_pages`` when None.
        traits: What its maker said about it.
        generation: Another for each domain made, whatever its number.
        pager: Who pages its frames out and in, if anybody.
        detached: Machine frames that were taken out of its physmap and not from it.
        tables: The levels of its machine frames that are pinned as page tables (PV).
        dirty: (gfns so far,) guest frames written to since they were last asked for; None when that is not logged.
        interrupts: The lines that device models drive.
        vram: Guest frames whose changes a device model follows: the first, how many, and what they held.
        cache_attributes: What device models said of the caching of (first, last) guest frames.
        read_only: (gfns so far,) guest frames that the guest itself cannot write to.
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
    n_resource: int = 0
    n_cached: int = 0
    n_on_demand: int = 0
    top_gfn: int = 0
    n_pauses: int = 1
    shutdown: int | None = None
    generation: int = 0
    n_spill: int | None = None
    traits: Traits = field(default_factory=Traits)
    grants: GrantTable = field(default_factory=GrantTable)
    shared_info: list[int] = field(default_factory=list)
    detached: list[int] = field(default_factory=list)
    pager: Pager | None = None
    tables: dict[int, int] = field(default_factory=dict)
    dirty: npt.NDArray[np.bool_] | None = None
    ioreq_servers: dict[int, IoreqServer] = field(default_factory=dict)
    interrupts: Interrupts = field(default_factory=Interrupts)
    vram: tuple[int, int, npt.NDArray[np.uint64]] | None = None
    cache_attributes: dict[tuple[int, int], int] = field(default_factory=dict)
    p2m: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, dtype=np.uint32))
    read_only: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    p2m_of: memoryview = field(init=False)
    file: FilePages = field(init=False)
    translated: bool = field(init=False)

    def __post_init__(self) -> None:
        self.translated = self.kind.translated
        self.p2m_of = self.p2m.data
        self.file = FilePages(self.max_gfns, self.max_pages if self.n_spill is None else self.n_spill)

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
        there = known > ON_DEMAND
        frames = (
            np.arange(start, start + len(known), dtype=np.uint64) if self.kind.translated else known.astype(np.uint64)
        )
        names[: len(known)][there] = frames[there]
        return names
