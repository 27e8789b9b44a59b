# SPDX-License-Identifier: Apache-2.0
"""A domain: its kind, its p2m, its reservation, its life.

The p2m names a machine frame for each guest frame: ``NO_FRAME`` where nothing is populated, the frame with
``PAGED`` set where it is paged out. PV guests name frames by mfn and keep the p2m themselves; here it says
which pseudo-physical frame a machine frame stands for.
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

    from privcmdd.model.machine.records import IoreqServer


PAGED: Final = 1 << 31
# In the p2m: the frame is the domain's still, and accesses go to the device model (p2m_mmio_dm).
DEVICE: Final = 1 << 30
FLAGS: Final = PAGED | DEVICE
# In the p2m: nothing yet, to be populated from the domain's cache when it is first looked up.
POD: Final = 1


class DomainKind(StrEnum):
    """How a guest is virtualised, which decides by what its frames are named."""

    PV = "pv"
    HVM = "hvm"
    PVH = "pvh"

    @property
    def translated(self) -> bool:
        """Frames are named by gfn and looked up in the p2m; otherwise by mfn."""
        return self is not DomainKind.PV


class DomainState(StrEnum):
    """A domain's life. A dying domain stays until the last reference to its frames goes."""

    PAUSED = "paused"
    RUNNING = "running"
    DYING = "dying"
    GONE = "gone"


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
        n_pod: Guest frames that wait to be populated on demand.
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
        return self.state in (DomainState.PAUSED, DomainState.RUNNING)

    def reach(self, n_gfns: int) -> None:
        """Make room in the p2m for guest frames below ``n_gfns``."""
        if n_gfns > len(self.p2m):
            self.p2m = grow(self.p2m, n_gfns, self.max_gfns)
            self.p2m_of = self.p2m.data

    def gmfns(self, start: int, n: int) -> npt.NDArray[np.uint64]:
        """By what a foreign mapping asks for the guest frames ``start`` to ``start + n``.

        Returns:
            (n,) uint64: gfns, or mfns of a PV domain; ``INVALID_FRAME`` where nothing is populated.
        """
        gmfns = np.full(n, INVALID_FRAME, dtype=np.uint64)
        known = self.p2m[start : start + n]
        there = known > POD
        frames = (
            np.arange(start, start + len(known), dtype=np.uint64) if self.kind.translated else known.astype(np.uint64)
        )
        gmfns[: len(known)][there] = frames[there]
        return gmfns
