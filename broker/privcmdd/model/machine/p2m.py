# SPDX-License-Identifier: Apache-2.0
"""The p2m of a translated domain: which frame is where, which type each guest frame has, and which content changed."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.files import grow
from privcmdd.model.machine.domain import DEVICE, FLAGS, PAGED
from privcmdd.model.machine.frames import FIRST_RAM, NO_FRAME, NOTHING

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.machine import Machine

# HVMMEM_* of xen/include/public/hvm/hvm_op.h.
MEM_RAM: Final = 0
MEM_READ_ONLY: Final = 1
MEM_MMIO: Final = 2
# XEN_DMOP_MEM_CACHEATTR_* of xen/include/public/hvm/dm_op.h: UC, WC, WT, WP, WB, UC-; and the one that forgets.
CACHE_ATTRIBUTES: Final = frozenset({0, 1, 4, 5, 6, 7})
NO_ATTRIBUTE: Final = (1 << 32) - 1
MOST_ATTRIBUTES: Final = 64
# Bits of a gfn on an x86 processor with 48 bits of physical address.
GFN_BITS: Final = 36


def remove(machine: Machine, domid: int, gfn: int) -> None:
    """Take a frame out of a translated domain's p2m (XENMEM_remove_from_physmap).

    The domain goes on owning the frame, which nothing can reach, until the domain is destroyed. A frame of a resource
    stays in its resource.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying or PV, or has no such frame.
    """
    domain = machine.translated(domid)
    mfn = mfn_of(domain, gfn)
    if machine.frames.page[mfn] < domain.file.first_resource:
        domain.detached.append(mfn)
        domain.enter(gfn, NO_FRAME)
    else:
        domain.enter(gfn, NO_FRAME)
        machine.put([mfn])


def set_mem_type(machine: Machine, domid: int, kind: int, first: int, n_pages: int) -> None:
    """Set the type of guest frames (HVMMEM_*): 0 RAM, 1 read-only for the guest, 2 emulated by the device model.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying or PV, has no such frame, or there is no such type.
    """
    domain = machine.translated(domid)
    if kind > MEM_MMIO:
        raise ModelError(errno.EINVAL, f"there is no type of memory {kind}", dom=domid)
    part = slice(first, first + n_pages)
    mfns = domain.p2m[part] if part.stop <= len(domain.p2m) else NOTHING
    if len(mfns) < n_pages or ((mfns < FIRST_RAM) | (mfns >= PAGED)).any():
        raise ModelError(errno.EINVAL, f"not all of {n_pages} guest frames from {first:#x} are there", dom=domid)
    frames = mfns & ~np.uint32(FLAGS)
    if kind == MEM_READ_ONLY and part.stop > len(domain.read_only):
        domain.read_only = grow(domain.read_only, part.stop, machine.max_gfns)
    domain.read_only[part] = kind == MEM_READ_ONLY
    domain.enter(part, frames | np.uint32(DEVICE) if kind == MEM_MMIO else frames)


def mem_type(machine: Machine, domid: int, gfn: int) -> int:
    """Return the type of a guest frame; it is 2 where no frame is, because accesses then go to the device model.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying or PV.
    """
    domain = machine.translated(domid)
    mfn = int(domain.p2m[gfn]) if gfn < len(domain.p2m) else NO_FRAME
    if mfn == NO_FRAME or mfn & FLAGS == DEVICE:
        return MEM_MMIO
    is_read_only = gfn < len(domain.read_only) and domain.read_only[gfn]
    return MEM_READ_ONLY if is_read_only else MEM_RAM


def present(machine: Machine, domid: int, first: int, n_pages: int) -> npt.NDArray[np.uint32]:
    """Return the mfns of guest frames, (n_pages,) uint32; ``NO_FRAME`` where there is none.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying or PV.
    """
    known = machine.translated(domid).p2m[first : first + n_pages]
    mfns = np.full(n_pages, NO_FRAME, dtype=np.uint32)
    mfns[: len(known)] = np.where((known >= FIRST_RAM) & (known < PAGED), known & ~np.uint32(FLAGS), NO_FRAME)
    return mfns


def move(machine: Machine, domid: int, source: int, target: int, n_pages: int = 1) -> None:
    """Move frames of a translated domain to other guest frames, one after the other; frames that were there are put.

    XENMAPSPACE_gmfn and XEN_DMOP_relocate_memory do this.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying or PV, or has no such frame: the frames before it have moved.
    """
    domain = machine.translated(domid)
    if max(source, target) + n_pages > machine.max_gfns:
        raise ModelError(errno.EINVAL, f"guest frames end at {machine.max_gfns:#x}", dom=domid)
    # As far as they do not overlap, moving one after the other is moving all at once.
    stride = abs(target - source)
    for at in range(0, n_pages, stride) if stride else ():
        _move_at_once(machine, domain, source + at, target + at, min(stride, n_pages - at))


def _move_at_once(machine: Machine, domain: Domain, source: int, target: int, n_pages: int) -> None:
    domain.reach(max(source, target) + n_pages)
    old = domain.p2m[source : source + n_pages]
    good = (old >= FIRST_RAM) & (old < DEVICE)
    n_good = n_pages if good.all() else int(np.argmin(good))
    mfns = old[:n_good].copy()
    gone = domain.vacate(slice(target, target + n_good))
    domain.enter(slice(source, source + n_good), NO_FRAME)
    domain.enter(slice(target, target + n_good), mfns)
    machine.frames.gfn[mfns] = np.arange(target, target + n_good, dtype=np.uint32)
    if n_good:
        domain.top_gfn = max(domain.top_gfn, target + n_good - 1)
    machine.put(gone)
    if n_good < n_pages:
        raise ModelError(errno.EINVAL, f"there is no guest frame {source + n_good:#x} to be moved", dom=domain.domid)


def pin_cache_attribute(machine: Machine, domid: int, first: int, last: int, kind: int) -> None:
    """Pin how a range of guest frames is cached, or take that back (XEN_DMOP_pin_memory_cacheattr).

    Raises:
        ModelError: ESRCH; EINVAL, there is no such kind or no such guest frame; ENOENT, exactly this range is not
            pinned; EBUSY, part of the range is pinned as another range; ENOSPC.
    """
    said = machine.translated(domid).cache_attributes
    if last < first or last >> GFN_BITS or (kind not in CACHE_ATTRIBUTES and kind != NO_ATTRIBUTE):
        raise ModelError(errno.EINVAL, f"type {kind:#x} for guest frames {first:#x} to {last:#x}", dom=domid)
    if kind == NO_ATTRIBUTE:
        if said.pop((first, last), None) is None:
            raise ModelError(errno.ENOENT, f"nothing was said of guest frames {first:#x} to {last:#x}", dom=domid)
        return
    if (first, last) not in said:
        if any(start <= last and first <= end for start, end in said):
            raise ModelError(errno.EBUSY, f"part of {first:#x} to {last:#x} is pinned otherwise", dom=domid)
        if len(said) >= MOST_ATTRIBUTES:
            raise ModelError(errno.ENOSPC, f"at most {MOST_ATTRIBUTES} ranges can be pinned", dom=domid)
    said[first, last] = kind


def mfn_of(domain: Domain, gfn: int) -> int:
    """Return the mfn of a guest frame that is plain RAM.

    Raises:
        ModelError: EINVAL, there is no such frame.
    """
    mfn = int(domain.p2m[gfn]) if gfn < len(domain.p2m) else NO_FRAME
    if not FIRST_RAM <= mfn < DEVICE:
        raise ModelError(errno.EINVAL, f"guest frame {gfn:#x} of domain {domain.domid} is not there", gfn=gfn)
    return mfn


def compare_vram(machine: Machine, domid: int, first: int, digests: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Find the guest frames whose content has changed since the last call (XEN_DMOP_track_dirty_vram).

    Args:
        machine: The simulated machine.
        domid: The domain.
        first: The first guest frame.
        digests: (n,) uint64, a digest of the content of each frame.

    Returns:
        (n,) bool, whether each frame has changed; all True at the first call, and when the range is another one.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying.
    """
    domain = machine.living(domid)
    followed = domain.vram
    if followed is None or followed[:2] != (first, len(digests)):
        dirty = np.ones(len(digests), dtype=np.bool_)
    else:
        dirty = digests != followed[2]
    domain.vram = (first, len(digests), digests)
    return dirty


def forget_vram(machine: Machine, domid: int) -> None:
    """Forget which guest frames a device model follows.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying.
    """
    machine.living(domid).vram = None
