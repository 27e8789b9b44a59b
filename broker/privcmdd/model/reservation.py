# SPDX-License-Identifier: Apache-2.0
"""A domain's memory: populated, given back, paged, moved about in its physmap (``xen/common/memory.c``)."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.domain import DEVICE, FLAGS, ON_DEMAND, PAGED, grow
from privcmdd.model.errors import ModelError
from privcmdd.model.frames import FIRST_RAM, NO_FRAME, NOTHING
from privcmdd.model.machine import Machine, as_array

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.domain import Domain
    from privcmdd.model.frames import Names

# SHUTDOWN_crash of xen/include/public/sched.h: what a domain without memory for its demands comes to.
CRASHED: Final = 3

# Extents of contiguous machine frames made in one go: others wait meanwhile, some tenths of a second.
MOST_RUNS: Final = 4096

# HVMMEM_* of xen/include/public/hvm/hvm_op.h.
MEM_RAM: Final = 0
MEM_READ_ONLY: Final = 1
MEM_MMIO: Final = 2


@dataclass(frozen=True, slots=True)
class Extents:
    """How many of a list of frames were done, from the first on, and why not more.

    As Xen's memory operations answer: the number of extents done before the first that could not be.
    """

    n_done: int
    why: str | None
    mfns: npt.NDArray[np.uint32]


class Reservation(Machine):
    """Memory operations."""

    def populate(self, domid: int, gfns: Names) -> Extents:
        """Give a domain frames (XENMEM_populate_physmap, order 0), in order, until one cannot be had.

        A guest frame that is populated already stops it, where Xen would silently replace the frame.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying.
        """
        domain = self.living(domid)
        names = as_array(gfns)
        beyond = names >= self.max_gfns
        known = names < len(domain.p2m)
        there = np.zeros(len(names), dtype=np.bool_)
        there[known] = domain.p2m[names[known].astype(np.int64)] > ON_DEMAND
        n_done, why = first_stop(
            len(names),
            (beyond, "is past the guest frames a domain may have (machine.gfns_per_domain)", names),
            (there | repeated(names), "is populated already", names),
        )
        if n_done > self._room(domain):
            n_done, why = self._room(domain), f"the reservation of {domain.max_pages} pages is used up"
        if n_done > self.frames.n_free:
            n_done, why = self.frames.n_free, "the machine has no free frame left (machine.memory_mib)"
        n_room = domain.file.room(names[:n_done].astype(np.uint32))
        if n_done > n_room:
            n_done, why = n_room, "too many frames are mapped still that were taken away before"
        return Extents(n_done, why, self._populate(domain, names[:n_done]))

    def populate_runs(self, domid: int, gfns: Names, order: int) -> npt.NDArray[np.uint32]:
        """Give a domain extents of several frames, in order, until one cannot be had; none is given in part.

        Those of a PV domain follow each other in the machine, and a call makes at most ``MOST_RUNS`` of them.

        Args:
            domid: The domain.
            gfns: The first guest frame of each.
            order: Each has two to the power of this.

        Returns:
            The first machine frame of each.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying.
        """
        domain = self.living(domid)
        if domain.kind.translated:
            done = self.populate(domid, pages_of(as_array(gfns), order))
            n_whole = done.n_done >> order << order
            if n_whole < done.n_done:
                self.decrease_reservation(domid, pages_of(as_array(gfns), order)[n_whole : done.n_done])
            return done.mfns[: n_whole : 1 << order]
        made = []
        for gfn in as_array(gfns)[:MOST_RUNS].tolist():
            extent = self._populate_run(domain, gfn, 1 << order)
            if extent is None:
                break
            made.append(int(extent[0]))
        return np.array(made, dtype=np.uint32)

    def _populate_run(self, domain: Domain, first: int, n_pages: int) -> npt.NDArray[np.uint32] | None:
        if first + n_pages > self.max_gfns or n_pages > min(self._room(domain), self.frames.n_free):
            return None
        domain.reach(first + n_pages)
        numbers = np.arange(first, first + n_pages, dtype=np.uint32)
        if (domain.p2m[numbers] > ON_DEMAND).any() or domain.file.room(numbers) < n_pages:
            return None
        pages = domain.file.take(numbers)
        mfns = self.frames.allocate_run(domain.domid, numbers, pages)
        if mfns is None:
            domain.file.give(pages)
            return None
        return self._enter(domain, numbers, mfns)

    def increase(self, domid: int, n_extents: int, order: int) -> npt.NDArray[np.uint32]:
        """Give a PV domain machine frames for no guest frame in particular: for the first that it has not.

        Returns:
            The first frame of each extent, as many as could be had; none of a translated domain.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying.
        """
        domain = self.living(domid)
        if domain.kind.translated:
            return NOTHING
        empty = np.flatnonzero(domain.p2m == NO_FRAME)
        beyond = np.arange(len(domain.p2m), min(self.max_gfns, len(domain.p2m) + (n_extents << order)))
        places = np.concatenate((empty, beyond))
        if order == 0:
            return self.populate(domid, places[:n_extents].astype(np.uint64)).mfns
        return self.populate_runs(domid, self._runs(places, 1 << order)[:n_extents].astype(np.uint64), order)

    def _runs(self, places: npt.NDArray[np.int64], n_pages: int) -> npt.NDArray[np.int64]:
        """Where so many places follow each other, one such run after the other."""
        edges = np.flatnonzero(np.diff(places, prepend=-2) != 1)
        lengths = np.diff(edges, append=len(places))
        each = lengths // n_pages
        within = np.arange(int(each.sum())) - np.repeat(np.cumsum(each) - each, each)
        starts: npt.NDArray[np.int64] = np.repeat(places[edges], each) + within * n_pages
        return starts

    def _room(self, domain: Domain) -> int:
        return max(0, domain.max_pages - domain.tot_pages - domain.n_paged - domain.n_cached)

    def _populate(self, domain: Domain, names: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
        gfns = names.astype(np.uint32)
        domain.reach(int(gfns.max(initial=0)) + 1)
        return self._enter(domain, gfns, self.frames.allocate(domain.domid, gfns, domain.file.take(gfns)))

    def _enter(
        self, domain: Domain, gfns: npt.NDArray[np.uint32], mfns: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.uint32]:
        domain.n_on_demand -= int(np.count_nonzero(domain.p2m[gfns] == ON_DEMAND))
        domain.p2m[gfns] = mfns
        domain.tot_pages += len(gfns)
        domain.top_gfn = max(domain.top_gfn, int(gfns.max(initial=0)))
        return mfns

    def decrease_reservation(self, domid: int, names: Names) -> Extents:
        """Take frames away from a domain (XENMEM_decrease_reservation), in order, until one is not there.

        A frame that is mapped keeps its content for those who hold it and counts for the domain until the
        last of them lets go (RESULTS.md, section 10).

        Raises:
            ModelError: ESRCH; EINVAL, it is dying.
        """
        domain = self.living(domid)
        asked = as_array(names)
        mfns = self._populated(domain, asked)
        absent = (mfns == NO_FRAME) | repeated(asked)
        n_done, why = first_stop(len(asked), (absent, "is not populated", asked))
        n_paged = int(np.count_nonzero(mfns[:n_done] >= PAGED))
        domain.n_paged -= n_paged
        domain.tot_pages += n_paged  # as if paged in: giving a frame back counts down here
        mfns = mfns[:n_done] & ~np.uint32(FLAGS)
        domain.p2m[self.frames.gfn[mfns]] = NO_FRAME
        for mfn in domain.tables.keys() & set(mfns.tolist()) if domain.tables else ():
            del domain.tables[mfn]
        self.give(mfns)
        return Extents(n_done, why, mfns)

    # On demand

    def demand(self, domid: int, gfns: Names) -> int:
        """Mark guest frames as to be populated on demand (XENMEMF_populate_on_demand), in order.

        Returns:
            How many, from the first on; one that is populated stops it.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying, or PV.
        """
        domain = self.living(domid)
        if not domain.kind.translated:
            raise ModelError(errno.EINVAL, f"domain {domid} is PV: nothing is populated on demand there", dom=domid)
        names = as_array(gfns)
        beyond = np.flatnonzero(names >= self.max_gfns)
        numbers = names[: int(beyond[0]) if len(beyond) else len(names)].astype(np.int64)
        domain.reach(int(numbers.max(initial=-1)) + 1)
        there = np.flatnonzero(domain.p2m[numbers] > ON_DEMAND)
        numbers = numbers[: int(there[0]) if len(there) else len(numbers)]
        fresh = np.unique(numbers)
        domain.n_on_demand += int(np.count_nonzero(domain.p2m[fresh] == NO_FRAME))
        domain.p2m[numbers] = ON_DEMAND
        domain.top_gfn = max(domain.top_gfn, int(numbers.max(initial=0)))
        return len(numbers)

    def set_pod_target(self, domid: int, target_pages: int) -> None:
        """Set how many frames a domain is to have, those kept for its demands included (p2m_pod_set_mem_target).

        Raises:
            ModelError: ESRCH; EINVAL, it is dying, PV, or more is asked for than it may have; ENOMEM.
        """
        domain = self.living(domid)
        if not domain.kind.translated or target_pages > domain.max_pages:
            raise ModelError(
                errno.EINVAL,
                f"target is {target_pages} pages, expected at most {domain.max_pages}, of an HVM or PVH domain",
                dom=domid,
            )
        if not domain.n_on_demand:
            return
        cached = min(max(0, target_pages - domain.tot_pages), domain.n_on_demand)
        if cached > self.frames.n_free:
            raise ModelError(errno.ENOMEM, f"the machine has {self.frames.n_free} free frames, {cached} are asked for")
        domain.n_cached = cached

    def populate_demanded(self, domain: Domain, gfns: npt.NDArray[np.int64]) -> None:
        """Populate guest frames that are looked up for the first time; a domain that has no frame left crashes."""
        wanted = np.unique(gfns).astype(np.uint64) if len(np.unique(gfns)) < len(gfns) else gfns.astype(np.uint64)
        n_done = min(len(wanted), domain.n_cached, self.frames.n_free)
        self._populate(domain, wanted[:n_done])
        domain.n_cached -= n_done
        if n_done < len(wanted):
            domain.shutdown = CRASHED

    # The physmap

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

    def _populated(self, domain: Domain, names: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
        """What the p2m has under names, ``NO_FRAME`` and ``PAGED`` as there; no bit of a name is dropped here."""
        mfns = np.zeros(len(names), dtype=np.uint32)
        if domain.kind.translated:
            known = names < len(domain.p2m)
            mfns[known] = domain.p2m[names[known].astype(np.int64)]
            mfns[mfns == ON_DEMAND] = NO_FRAME
            return mfns
        known = names < self.frames.n_frames
        mfns[known] = names[known]
        mfns[self.frames.owner[mfns] != domain.domid] = NO_FRAME
        # A frame that was ballooned out but is still mapped is the domain's, yet no longer in its p2m; nor is one
        # of a resource.
        own = mfns != NO_FRAME
        gfns = self.frames.gfn[mfns]
        own &= gfns < len(domain.p2m)
        own[own] = domain.p2m[gfns[own]] == mfns[own]
        return np.where(own, mfns, NO_FRAME).astype(np.uint32)


def pages_of(extents: npt.NDArray[np.uint64], order: int) -> npt.NDArray[np.uint64]:
    """All pages of extents, which are given by their first."""
    pages: npt.NDArray[np.uint64] = np.add.outer(extents, np.arange(1 << order, dtype=np.uint64)).reshape(-1)
    return pages


def repeated(names: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which names stand earlier in the list as well."""
    again = np.ones(len(names), dtype=np.bool_)
    again[np.unique(names, return_index=True)[1]] = False
    return again


def first_stop(n: int, *reasons: tuple[npt.NDArray[np.bool_], str, npt.NDArray[np.uint64]]) -> tuple[int, str | None]:
    """How far a list is done before the first reason to stop, and the reason."""
    n_done, why = n, None
    for stops, text, names in reasons:
        hits = np.flatnonzero(stops[:n_done])
        if len(hits):
            n_done = int(hits[0])
            why = f"frame {int(names[n_done]):#x} {text}"
    return n_done, why
