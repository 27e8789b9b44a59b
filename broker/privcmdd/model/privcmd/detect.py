# SPDX-License-Identifier: Apache-2.0
"""Findings about Linux's driver: requests that it accepts although they do harm.

See docs/explanation/facts/recorded-host.md, section 2.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from privcmdd.model.findings import FindingKind, pages_of
from privcmdd.model.mm.vm_map import File
from privcmdd.model.units import PAGE_SHIFT, PROT_NONE, PROT_WRITE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmdd.model.machine.frames import Errors, Gmfns
    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.model.mm.vm_map import Entry


def unchecked(space: AddressSpace, domid: int, start: int, n_pages: int) -> None:
    """Find frames that are mapped without access: Xen does not check them."""
    space.machine.found(
        FindingKind.FRAMES_UNCHECKED,
        f"{pages_of(n_pages)} at {start:#x} allow no access, and frames of domain {domid} were mapped there: nothing "
        "was looked at and nothing is held, so that their errors of 0 say nothing; map them readable",
        dom=domid,
        addr=start,
    )


def enoent_lost(space: AddressSpace, domid: int, start: int, gmfns: Gmfns, errors: Errors) -> None:
    """Find a batch that returned 0 although frames of it are paged out."""
    try:
        paged = np.flatnonzero(np.asarray(errors) == -errno.ENOENT)
    except MemoryError:  # the frames are mapped already; without memory the finding is lost
        return
    if not len(paged):
        return
    first = int(paged[0])
    space.machine.found(
        FindingKind.ENOENT_LOST,
        f"frame {int(gmfns[first]):#x} of domain {domid}, at index {first} of {len(gmfns)}, is paged out, and the call "
        f"returned 0: only a last frame that is paged out makes it ENOENT; {len(paged)} holes stay unless the errors "
        "of the frames are looked at",
        dom=domid,
        addr=start + (first << PAGE_SHIFT),
    )


def mmap_elsewhere(space: AddressSpace, vma: Entry | None, va: int, n_pages: int) -> None:
    """Find an MMAP at the start of memory that is not the device's, which the driver does not check."""
    if vma is not None and vma.file is not File.PRIVCMD and vma.start == va and 0 < n_pages <= vma.n_pages:
        space.machine.found(
            FindingKind.KERNEL_OOPS,
            f"MMAP at {va:#x}, which is {vma.file} memory and not the device's: a real kernel stops there with a BUG "
            "(xen_remap_pfn), and the process can no longer be killed; mmap the device first",
            addr=va,
        )


def second_resource(space: AddressSpace, domid: int, addr: int) -> None:
    """Find an MMAP_RESOURCE over a VMA that is filled already, in a PVH dom0."""
    space.machine.found(
        FindingKind.KERNEL_OOPS,
        f"a second MMAP_RESOURCE over the mapping at {addr:#x}: a real kernel in a PVH dom0 stops there with a BUG "
        "(alloc_empty_pages); mmap the device anew for each resource",
        dom=domid,
        addr=addr,
    )


def partial_resource(space: AddressSpace, domid: int, vma: Entry, n_pages: int) -> None:
    """Find an MMAP_RESOURCE of fewer pages than the VMA has, in a PVH dom0: unmapping that VMA oopses a real kernel."""
    if n_pages < vma.n_pages:
        space.machine.found(
            FindingKind.KERNEL_OOPS,
            f"a resource of {pages_of(n_pages)} was mapped over {pages_of(vma.n_pages)} at {vma.start:#x}: when those "
            "are unmapped, at the latest at exit, a real kernel in a PVH dom0 oopses (xen_free_unpopulated_pages); "
            "mmap as many pages as the resource has",
            dom=domid,
            addr=vma.start,
        )


def resource_strays(space: AddressSpace, domid: int, vma: Entry, strays: Sequence[Entry]) -> None:
    """Find pages of a resource that lie outside the VMAs of the device."""
    if not strays:
        return
    n_outside = sum(stray.n_pages for stray in strays)
    space.machine.found(
        FindingKind.RESOURCE_PAST_VMA,
        f"{pages_of(n_outside)} of a resource of domain {domid} lie outside the mapping {vma.start:#x} to "
        f"{vma.end:#x}, from {strays[0].start:#x} on: no munmap of that mapping takes them away; mmap as many pages as "
        "are asked for, and pass the address that mmap returned",
        dom=domid,
        addr=strays[0].start,
    )
    replaced = [other for stray in strays for other in space.map.touching(stray.start, stray.end)]
    if replaced:
        space.machine.found(
            FindingKind.OTHER_MEMORY_REPLACED,
            f"a resource of domain {domid} was mapped over {replaced[0].file} memory at {replaced[0].start:#x}, which "
            "is not the device's: what was there is gone, and the guest's pages stay when the mapping is unmapped",
            dom=domid,
            addr=max(replaced[0].start, strays[0].start),
        )


def protected(space: AddressSpace, part: Entry, held: int, protection: int) -> None:
    """Find an mprotect over mapped frames: Linux writes new page table entries, and Xen refuses them.

    Args:
        space: The address space.
        part: The part of an entry that mprotect changes.
        held: The protection that the page table entries have.
        protection: The protection that mprotect asks for.
    """
    if protection == PROT_NONE:
        space.machine.found(
            FindingKind.MAPPING_LOST,
            f"mprotect to no access took the frames of domain {part.domid} at {part.start:#x} "
            f"({pages_of(part.n_pages)}) away for good: no later mprotect brings them back, and an access will "
            "fault again for ever",
            dom=part.domid,
            addr=part.start,
        )
    elif (protection ^ held) & PROT_WRITE and not part.private:
        stays, writes = ("writable", "still go through") if held & PROT_WRITE else ("read-only", "fault for ever")
        space.machine.found(
            FindingKind.MPROTECT_WITHOUT_EFFECT,
            f"mprotect at {part.start:#x} returned 0, and the {pages_of(part.n_pages)} of domain {part.domid} "
            f"there stay {stays}: writes {writes}; unmap them and map them anew with the protection that is wanted",
            dom=part.domid,
            addr=part.start,
        )


def failed_touched(space: AddressSpace, entry: Entry, address: int, *, filled: bool) -> None:
    """Find an access to a page whose frame failed.

    Args:
        space: The address space.
        entry: The mapping.
        address: The address of the access.
        filled: The host maps something in the place of a failed frame: the page is no hole.
    """
    space.machine.found(
        FindingKind.FAILED_FRAME_TOUCHED,
        f"the frame at {address:#x} failed when it was mapped, and was touched: "
        + ("reads give ones there and writes are dropped" if filled else "that is SIGBUS")
        + "; look at the error of each frame before it is used",
        dom=entry.domid,
        addr=address,
    )
