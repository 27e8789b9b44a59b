# SPDX-License-Identifier: Apache-2.0
"""The privcmd ioctls: what is common to all kernels, and what a kernel's answers differ in.

A map request is a generator. It yields between slices of frames, and the caller decides whether others may run
there; closing it at a yield gives back all that it took and changes nothing.
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
    """How one kernel answers. Stateless: one serves any number of address spaces."""

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
            space: Where to map.
            domid: Whose frames.
            addr: The address of the first page.
            gmfns: Frame numbers, a page each.
            may_write: The caller has the right to map this domain writable.
            ready: Makes what is returned, of frames that are about to be mapped: when that fails, they are not.

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
            MemoryError: When entries are mapped, too.
        """

    def reach_of_mmap(self, space: AddressSpace, entries: Sequence[MmapEntry], /) -> int:
        """How many pages a call of ``mmap`` maps at most, before it stops at an entry that does not fit."""

    def check_mmap(self) -> None:
        """Whether there is an MMAP at all. Raises ModelError ENOSYS."""

    def mmap_resource(
        self, space: AddressSpace, wanted: Part, addr: int, *, may_write: bool = True, ready: Ready = as_it_is
    ) -> Any:
        """MMAP_RESOURCE: put part of a resource in the place of what is mapped; ``ready`` as for ``mmapbatch``.

        Raises:
            ModelError: EINVAL, ENOMEM, EPERM, EDQUOT, and what ``resources.mfns_of`` says.
        """
