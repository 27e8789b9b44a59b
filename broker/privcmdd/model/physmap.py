# SPDX-License-Identifier: Apache-2.0
"""The physmap of a translated domain: what is where in it, what it is for, and what was written to it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.domain import DEVICE, FLAGS, ON_DEMAND, PAGED, grow
from privcmdd.model.errors import ModelError
from privcmdd.model.frames import FIRST_RAM, NO_FRAME, NOTHING
from privcmdd.model.on_demand import OnDemand

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.domain import Domain

# HVMMEM_* of xen/include/public/hvm/hvm_op.h.
MEM_RAM: Final = 0
MEM_READ_ONLY: Final = 1
MEM_MMIO: Final = 2


class Physmap(OnDemand):
    """Changes and looks at single places of a physmap."""

    def move(self, domid: int, gfn: int, to: int) -> None:
        """Move a frame within a translated domain (XENMAPSPACE_gmfn); what was at the new place is let go.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying, PV, or has no such frame.
        """
        domain = self._translated(domid)
        mfn = self._gfn(domain, gfn)
        if to >= self.max_gfns:
            raise ModelError(errno.EINVAL, f"guest frame {to:#x} is past those a domain may have", dom=domid)
        if to == gfn:
            return
        domain.reach(to + 1)
        if FIRST_RAM <= domain.p2m[to] < DEVICE:
            self.remove(domid, to)
        domain.p2m[gfn] = NO_FRAME
        domain.p2m[to] = mfn
        self.frames.gfn[mfn] = to
        domain.top_gfn = max(domain.top_gfn, to)

    def remove(self, domid: int, gfn: int) -> None:
        """Take a frame out of a translated domain's physmap (XENMEM_remove_from_physmap).

        Xen leaves it with the domain, out of reach; here it is given back once nobody maps it.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying, PV, or has no such frame.
        """
        domain = self._translated(domid)
        mfn = self._gfn(domain, gfn)
        domain.p2m[gfn] = NO_FRAME
        self.give([mfn])

    def set_mem_type(self, domid: int, kind: int, first: int, n_pages: int) -> None:
        """Say what guest frames are for (HVMMEM_*): 0 RAM, 1 read-only for the guest, 2 left to the device model.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying or PV, has no such frame, or there is no such type.
        """
        domain = self._translated(domid)
        if kind > MEM_MMIO:
            raise ModelError(errno.EINVAL, f"there is no type of memory {kind}", dom=domid)
        part = slice(first, first + n_pages)
        mfns = domain.p2m[part] if part.stop <= len(domain.p2m) else NOTHING
        if len(mfns) < n_pages or ((mfns < FIRST_RAM) | (mfns >= PAGED)).any():
            raise ModelError(errno.EINVAL, f"not all of {n_pages} guest frames from {first:#x} are there", dom=domid)
        frames = mfns & ~np.uint32(FLAGS)
        domain.p2m[part] = frames | np.uint32(DEVICE) if kind == MEM_MMIO else frames
        if kind == MEM_READ_ONLY and part.stop > len(domain.read_only):
            domain.read_only = grow(domain.read_only, part.stop, self.max_gfns)
        domain.read_only[part] = kind == MEM_READ_ONLY

    def mem_type(self, domid: int, gfn: int) -> int:
        """What a guest frame is for; where there is none, accesses go to the device model.

        Raises:
            ModelError: ESRCH; EINVAL, the domain is dying or PV.
        """
        domain = self._translated(domid)
        mfn = int(domain.p2m[gfn]) if gfn < len(domain.p2m) else NO_FRAME
        if mfn == NO_FRAME or mfn & FLAGS == DEVICE:
            return MEM_MMIO
        is_read_only = gfn < len(domain.read_only) and domain.read_only[gfn]
        return MEM_READ_ONLY if is_read_only else MEM_RAM

    def _translated(self, domid: int) -> Domain:
        domain = self.living(domid)
        if not domain.kind.translated:
            raise ModelError(errno.EINVAL, f"domain {domid} is PV: it has no physmap", dom=domid)
        return domain

    def _gfn(self, domain: Domain, gfn: int) -> int:
        mfn = int(domain.p2m[gfn]) if gfn < len(domain.p2m) else NO_FRAME
        if not FIRST_RAM <= mfn < DEVICE:
            raise ModelError(errno.EINVAL, f"guest frame {gfn:#x} of domain {domain.domid} is not there", gfn=gfn)
        return mfn

    # Log-dirty mode

    def log_dirty(self, domid: int, *, on: bool) -> None:
        """Begin or end to note which guest frames are written to.

        Writes through foreign mappings are never noted (oracle/RESULTS.md, section 10); what a device model tells is.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying, or begins and has begun already.
        """
        domain = self.living(domid)
        if on and domain.dirty is not None:
            raise ModelError(errno.EINVAL, f"domain {domid} is in log-dirty mode", dom=domid)
        domain.dirty = np.zeros(0, dtype=np.bool_) if on else None

    def mark_dirty(self, domid: int, first: int, n_pages: int) -> None:
        """A device model has written to guest frames; those that are not there are left out.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying.
        """
        domain = self.living(domid)
        end = min(first + n_pages, len(domain.p2m))
        if domain.dirty is None or first >= end:
            return
        if end > len(domain.dirty):
            domain.dirty = grow(domain.dirty, end, self.max_gfns)
        domain.dirty[first:end] |= domain.p2m[first:end] > ON_DEMAND

    def take_dirty(self, domid: int, n_pages: int, *, clean: bool) -> npt.NDArray[np.bool_]:
        """Which of the first guest frames were written to.

        Args:
            domid: The domain.
            n_pages: How many to tell.
            clean: Forget what is told.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying, or not in log-dirty mode.
        """
        domain = self.living(domid)
        if domain.dirty is None:
            raise ModelError(errno.EINVAL, f"domain {domid} is not in log-dirty mode", dom=domid)
        found = np.zeros(n_pages, dtype=np.bool_)
        known = domain.dirty[:n_pages]
        found[: len(known)] = known
        if clean:
            known[:] = False
        return found
