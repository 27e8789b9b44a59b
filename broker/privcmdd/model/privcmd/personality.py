# SPDX-License-Identifier: Apache-2.0
"""The privcmd ioctls: the interface that every kernel's answers are behind.

A map request is a generator. It yields between slices of frames, and the caller decides whether other requests may
run there. Closing the generator at a yield gives back all that the request took, and nothing has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from privcmdd.model.mm.space import VmOps
from privcmdd.model.privcmd.requests import Batch, MmapEntry, Part, Ready, as_it_is

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from privcmdd.model.machine.frames import Gmfns
    from privcmdd.model.mm.space import AddressSpace


class Personality(VmOps, Protocol):
    """How one kernel answers. It has no state: one object serves any number of address spaces."""

    name: str
    paged_nibble: int
    fills: bool  # something is mapped where a frame failed

    def mmapbatch(
        self,
        space: AddressSpace,
        domid: int,
        addr: int,
        gmfns: Gmfns,
        *,
        may_write: bool = True,
        ready: Ready = as_it_is,
    ) -> Generator[None, None, Any]:
        """MMAPBATCH and MMAPBATCH_V2, which differ only in how the answer is written down.

        Args:
            space: The address space to map in.
            domid: The domain that has the frames.
            addr: The address of the first page.
            gmfns: Frame numbers, one for each page.
            may_write: The caller has the right to map this domain writable.
            ready: Makes the answer, just before the frames are mapped. When it fails, they are not mapped.

        Raises:
            ModelError: EINVAL, EPERM, EDQUOT; nothing has changed.
            MemoryError: Likewise.
        """

    def mmap(
        self, space: AddressSpace, domid: int, entries: Sequence[MmapEntry], *, may_write: bool = True
    ) -> Generator[None, None, Batch]:
        """MMAP: several ranges, in order, until one cannot be mapped.

        Raises:
            Stopped: at the first bad entry, with its errno; the entries before it stay mapped.
            ModelError: EINVAL, EPERM, EDQUOT before the first entry.
            MemoryError: Also when entries are mapped already.
        """

    def reach_of_mmap(self, space: AddressSpace, entries: Sequence[MmapEntry], /) -> int:
        """Return how many pages a call of ``mmap`` maps at most, before it stops at an entry that does not fit."""

    def check_mmap(self) -> None:
        """Check that the kernel has MMAP. Raises ModelError ENOSYS."""

    def mmap_resource(
        self, space: AddressSpace, wanted: Part, addr: int, *, may_write: bool = True, ready: Ready = as_it_is
    ) -> Any:
        """MMAP_RESOURCE: replace what is mapped by part of a resource; ``ready`` as for ``mmapbatch``.

        Raises:
            ModelError: EINVAL, ENOMEM, EPERM, EDQUOT, and as ``resources.mfns_of``.
        """
