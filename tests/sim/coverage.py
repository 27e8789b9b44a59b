# SPDX-License-Identifier: Apache-2.0
"""The space of faults: which kind can meet which state of a connection at which method, and what of it was met.

A simulation that never kills a client in the middle of a batch proves nothing about that; so what must be met is
stated here, and the fixed seeds of the tests meet all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sim.faults import CLIENT

if TYPE_CHECKING:
    from collections.abc import Iterable

Cell = tuple[str, str, str]
"""A kind of fault, a state, a method; ``*`` where any will do."""

TURN: Final = "waiting for its turn"
PREPARING: Final = "preparing"
DELAYED: Final = "delayed"
STATES: Final = ("idle", "asked", "inside a message", "answers untaken", DELAYED)
"""Those in which the method makes no difference: it has not begun, or the rule that delays it asks for no other."""
SLICED: Final = ("privcmd.mmap", "privcmd.mmapbatch", "privcmd.mmapbatch_v2")
IN_TURN: Final = (*SLICED, "mmap", "munmap", "mprotect", "privcmd.mmap_resource", "gntdev.map")
HOST: Final = {
    "host: create": ("domain.create", "mmap", "space.buffers", "privcmd.hypercall", *SLICED),
    "host: descriptor": ("domain.memory", "space.buffers"),
    "host: events": ("evtchn.alloc_unbound", "evtchn.bind_virq"),
    "host: read": ("read", "privcmd.hypercall", "gntdev.map"),
    "host: discard": ("domain.decrease_reservation", "domain.destroy", "privcmd.hypercall", "munmap"),
}
PAID: Final = ("space.attach", "space.fork", "mmap", "munmap", "mprotect", *SLICED, "privcmd.mmap_resource")


def reachable() -> set[Cell]:
    """All that a sufficient number of runs must meet."""
    cells = {("split", "*", "*")}
    for kind in CLIENT:
        cells |= {(kind, TURN, method) for method in IN_TURN}
        cells |= {(kind, PREPARING, method) for method in SLICED}
        cells |= {(kind, state, "*") for state in STATES}
    cells |= {(kind, "acting", method) for kind, methods in HOST.items() for method in methods}
    return cells | {("EDQUOT", "answering", method) for method in PAID}


def met(cells: Iterable[Cell]) -> set[Cell]:
    """Which of those some runs have met."""
    found = set()
    for kind, state, method in cells:
        found |= {(kind, state, method), (kind, state, "*"), (kind, "*", "*")}
    return found & reachable()
