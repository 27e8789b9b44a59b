# SPDX-License-Identifier: Apache-2.0
"""A domain: its kind, its p2m, its reservation, its life.

The p2m has an mfn for each gfn: ``NO_FRAME`` where nothing is populated, the mfn with ``PAGED`` set where the frame
is paged out, ``POD`` where it is populated on demand. A PV guest names frames by mfn and keeps its p2m itself; here
the p2m of a PV domain says which mfn stands behind each pseudo-physical frame number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.files import FilePages, grow
from privcmdd.model.machine.interrupts import Interrupts
from privcmdd.model.machine.records import GrantTable, Pager, Traits
from privcmdd.model.units import INVALID_FRAME

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.changes import Changes, Where
    from privcmdd.model.machine.records import IoreqServer


PAGED: Final = 1 << 31
# In the p2m: the domain still has the frame, but accesses go to the device model (p2m_mmio_dm).
DEVICE: Final = 1 << 30
FLAGS: Final = PAGED | DEVICE
# In the p2m: there is no frame yet; the first look-up populates one from the domain's PoD cache.
POD: Final = 1


class DomainKind(StrEnum):
    """How a guest is virtualised. That decides whether its frames are named by gfn or by mfn."""

    PV = "pv"
    HVM = "hvm"
    PVH = "pvh"

    @property
    def translated(self) -> bool:
        """Whether frames are named by gfn and looked up in the p2m; otherwise they are named by mfn."""
        return self is not DomainKind.PV


class DomainState(StrEnum):
    """The states of a domain. A dying domain is gone when the last reference to its frames is put."""

    PAUSED = "paused"
    RUNNING = "running"
    DYING = "dying"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Domain:
    """One simulated guest.

    Attributes:
        domid: Its number.
        max_pages: The most frames that it may own at a time (its maximum reservation).
        tot_pages: Frames that it owns now, paged-out frames not counted.
        n_paged: Frames that are paged out.
        n_resource: Frames of its resources, mapped or not; ``tot_pages`` does not count them.
        n_cached: Frames in its PoD cache; ``tot_pages`` does not count them here, while Xen's does.
        n_pod: Guest frames that are to be populated on demand.
        top_gfn: The highest gfn that was ever populated.
        n_pauses: How often control software has paused it; a dying domain may be paused or not.
        shutdown: Why it stopped by itself (a SHUTDOWN code of Xen's), or None.
        n_spill: Size of the spill area of its memory file, in pages; None when it is made: ``max_pages``.
        traits: What the toolstack that made it set.
        generation: A number that no other domain has or had, also when the domid is used again.
        pager: Its pager, which pages frames out and in; None when there is none.
        detached: Mfns that the domain still owns and that are no longer in its physmap.
        tables: The level of each mfn that is pinned as a page table (PV).
        dirty: (gfns so far,) guest frames written to since the log was last cleaned; None without log-dirty mode.
        interrupts: The interrupt lines that device models drive.
        vram: Guest frames whose changes a device model follows: the first gfn, how many, and digests of their content.
        cache_attributes: The caching that device models set for each range (first, last) of guest frames.
        read_only: (gfns so far,) guest frames that the guest itself cannot write to.
        p2m: (gfns so far,) uint32; see the module's docstring. It is read as an array and written by ``enter`` alone.
        changes: Where changes are noted; None where no state is kept.
    """

    domid: int
    kind: DomainKind
    name: str
    max_pages: int
    max_gfns: int
    state: DomainState = DomainState.PAUSED
    tot_pages: int = 0
    n_paged: int = 0
    n_resource: int = 0
    n_cached: int = 0
    n_pod: int = 0
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
    changes: Changes | None = None
    p2m_of: memoryview = field(init=False)
    file: FilePages = field(init=False)
    translated: bool = field(init=False)

    def __post_init__(self) -> None:
        self.translated = self.kind.translated
        self.p2m_of = self.p2m.data
        self.n_spill = self.max_pages if self.n_spill is None else self.n_spill
        self.file = FilePages(self.max_gfns, self.n_spill)

    @property
    def alive(self) -> bool:
        """Whether the domain is neither dying nor gone."""
        return self.state in (DomainState.PAUSED, DomainState.RUNNING)

    def reach(self, n_gfns: int) -> None:
        """Make room in the p2m for guest frames below ``n_gfns``."""
        if n_gfns > len(self.p2m):
            self.p2m = grow(self.p2m, n_gfns, self.max_gfns)
            self.p2m_of = self.p2m.data

    def enter(self, where: Where, mfns: int | npt.NDArray[np.uint32]) -> None:
        """Write entries of the p2m."""
        self.note(where)
        self.p2m[where] = mfns

    def vacate(self, gfns: slice) -> npt.NDArray[np.uint32]:
        """Count what is at guest frames as given up, before other frames are entered there.

        Returns:
            The frames that are to be put. One that was paged out counts as paged in: putting it counts down there.
        """
        there = self.p2m[gfns]
        n_paged = int(np.count_nonzero(there >= PAGED))
        self.n_pod -= int(np.count_nonzero(there == POD))
        self.n_paged -= n_paged
        self.tot_pages += n_paged
        return there[there > POD] & ~np.uint32(FLAGS)

    def note(self, where: Where) -> None:
        """Note that a table of guest frames is written to."""
        if self.changes is not None:
            self.changes.note(self.domid, where)

    def gmfns(self, start: int, n: int) -> npt.NDArray[np.uint64]:
        """Return the numbers by which a foreign mapping asks for the guest frames ``start`` to ``start + n``.

        Returns:
            (n,) uint64: gfns, or for a PV domain mfns; ``INVALID_FRAME`` where nothing is populated.
        """
        gmfns = np.full(n, INVALID_FRAME, dtype=np.uint64)
        known = self.p2m[start : start + n]
        there = known > POD
        frames = (
            np.arange(start, start + len(known), dtype=np.uint64) if self.kind.translated else known.astype(np.uint64)
        )
        gmfns[: len(known)][there] = frames[there]
        return gmfns
