# SPDX-License-Identifier: Apache-2.0
"""The uvm object behind one foreign mapping (``struct privcmd_object`` of the seed).

It remembers which frames were asked for, by gmfn, with a marker for those that failed, so that a later page fault
enters the right frame or answers EFAULT. Map entries refer to it; when the last one lets go it is freed.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from privcmdd.model.errors import ModelError
from privcmdd.model.units import INVALID_FRAME

if TYPE_CHECKING:
    from privcmdd.model.machine.frames import Gmfns


@dataclass(slots=True)
class ObjectCounters:
    """Objects made and freed; ``peak`` is the most alive at one time. Counts for ``total`` as well."""

    total: ObjectCounters | None = None
    made: int = 0
    freed: int = 0
    peak: int = 0

    @property
    def alive(self) -> int:
        """Objects that exist now."""
        return self.made - self.freed

    def made_one(self) -> None:
        """An object came into being."""
        self.made += 1
        if self.made - self.freed > self.peak:  # noqa: PLR1730 - a call less, on the path of every mapping
            self.peak = self.made - self.freed
        if self.total is not None:
            self.total.made_one()

    def freed_one(self) -> None:
        """An object went."""
        self.freed += 1
        if self.total is not None:
            self.total.freed_one()


@dataclass(slots=True, eq=False)
class UvmObject:
    """The frames behind one mapping; complete before anything can see it.

    Attributes:
        number: Never used twice in a space.
        domid: Whose frames they are.
        gmfns: What the caller asked for, an entry a page; ``INVALID_FRAME`` for one that failed.
        refs: Map entries that point here.
        resource: They are part of a resource, and ``gmfns`` are machine frames.
    """

    number: int
    domid: int
    gmfns: Gmfns
    refs: int = 0
    resource: bool = False

    @property
    def n_pages(self) -> int:
        """Pages it covers."""
        return len(self.gmfns)

    def gmfn(self, index: int) -> int:
        """The gmfn behind a page, as the pager's fault routine needs it.

        Raises:
            ModelError: EINVAL, beyond the object; EFAULT, the frame failed when it was mapped.
        """
        if not 0 <= index < len(self.gmfns):
            raise ModelError(errno.EINVAL, f"page {index} is beyond the object's {len(self.gmfns)}", index=index)
        gmfn = int(self.gmfns[index])
        if gmfn == INVALID_FRAME:
            raise ModelError(
                errno.EFAULT,
                f"page {index} of this mapping has no frame: it failed when it was mapped (see the batch's errors)",
                index=index,
                signal="SIGBUS",
            )
        return gmfn
