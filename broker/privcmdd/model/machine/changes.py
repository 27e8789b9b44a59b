# SPDX-License-Identifier: Apache-2.0
"""Which domains, and which parts of their physmaps, may have changed since the state of the machine was last kept.

The notes may name more than what has changed, and never less: whoever looks a domain up to change it is noted, and
whoever writes to the physmap. They are made only where the state is kept (``Machine.changes``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    # Where a table that has a row for each guest frame was written to.
    Where = int | slice | npt.NDArray[np.integer]

# Guest frames of one part: a change of one frame has its whole part kept anew, some microseconds of work.
PART_GFNS: Final = 16_384


class Changes:
    """What may have changed.

    Attributes:
        domains: The domids of domains that came, went, or may have changed.
        parts: The parts of tables of guest frames that were written to, by domid: part k begins with guest frame
            k * ``PART_GFNS``.
    """

    __slots__ = ("domains", "parts")

    def __init__(self) -> None:
        self.domains: set[int] = set()
        self.parts: dict[int, set[int]] = {}

    def note(self, domid: int, where: Where) -> None:
        """Note that tables of a domain's guest frames were written to."""
        self.domains.add(domid)
        parts = self.parts.setdefault(domid, set())
        if isinstance(where, slice):
            if where.start < where.stop:
                parts.update(range(where.start // PART_GFNS, (where.stop - 1) // PART_GFNS + 1))
        elif isinstance(where, np.ndarray):
            if len(where):
                parts.update(_parts(where))
        else:
            parts.add(int(where) // PART_GFNS)

    def clear(self) -> None:
        """Forget everything: it is kept now."""
        self.domains.clear()
        self.parts.clear()


def _parts(gfns: npt.NDArray[np.integer]) -> Iterable[int]:
    """Return the parts of guest frames; where there is no memory to find out, all from the first to the last one."""
    try:
        found: list[int] = np.flatnonzero(np.bincount(gfns.astype(np.int64) // PART_GFNS)).tolist()
    except MemoryError:
        return range(int(gfns.min()) // PART_GFNS, int(gfns.max()) // PART_GFNS + 1)
    return found
