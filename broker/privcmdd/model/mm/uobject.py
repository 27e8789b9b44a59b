# SPDX-License-Identifier: Apache-2.0
"""The uvm object behind one foreign mapping (``struct privcmd_object`` of the seed).

The object has the gmfns that were asked for, with a marker in place of each that failed, so that a later page fault
enters the right frame or answers EFAULT. Map entries refer to the object; it is freed with the last reference.
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
    """Counts objects made and freed; ``peak`` is the most that existed at one time. ``total`` counts them as well."""

    total: ObjectCounters | None = None
    made: int = 0
    freed: int = 0
    peak: int = 0

    @property
    def alive(self) -> int:
        """The number of objects that exist now."""
        return self.made - self.freed

    def made_one(self) -> None:
        """Count an object that is made."""
        self.made += 1
        if self.made - self.freed > self.peak:  # noqa: PLR1730 - a call less, on the path of every mapping
            self.peak = self.made - self.freed
        if self.total is not None:
            self.total.made_one()

    def freed_one(self) -> None:
        """Count an object that is freed."""
        self.freed += 1
        if self.total is not None:
            self.total.freed_one()


@dataclass(slots=True, eq=False)
class UvmObject:
    """The frames behind one mapping. The object is complete before an entry refers to it.

    Attributes:
        number: The object's number; never used twice in a space.
        domid: The domain that has the frames.
        gmfns: The gmfns that the caller asked for, one a page; ``INVALID_FRAME`` for a frame that failed.
        refs: The number of map entries that refer to the object.
        resource: The frames are part of a resource, and ``gmfns`` has mfns.
    """

    number: int
    domid: int
    gmfns: Gmfns
    refs: int = 0
    resource: bool = False

    @property
    def n_pages(self) -> int:
        """The number of pages that the object covers."""
        return len(self.gmfns)

    def gmfn(self, index: int) -> int:
        """Return the gmfn of a page, for the page fault routine.

        Raises:
            ModelError: EINVAL, the page is beyond the object; EFAULT, the frame failed when it was mapped.
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
