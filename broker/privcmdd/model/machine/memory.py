# SPDX-License-Identifier: Apache-2.0
"""A domain's memory: populated, given back, paged, moved about in its physmap (``xen/common/memory.c``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.lists import repeated
from privcmdd.model.machine.domain import DEVICE, FLAGS, PAGED, POD
from privcmdd.model.machine.frames import NO_FRAME, NOTHING
from privcmdd.model.machine.machine import Machine, as_array

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.frames import Gmfns

    Array = npt.NDArray[np.uint32]
    Allocate = Callable[[int, Array, Array], Array | None]

# Extents of contiguous machine frames that one call makes: other requests wait for it, some tenths of a second.
MOST_RUNS: Final = 4096


@dataclass(frozen=True, slots=True)
class Extents:
    """How many extents of a list were done, from the first on, and why no more.

    Xen's memory operations answer so: with the number of extents done before the first one that failed.

    Attributes:
        n_done: Extents done.
        why: Why no more; None when all are done.
        mfns: The frames that were given or taken.
        gmfns: The same frames, by the names that the caller has for them.
    """

    n_done: int
    why: str | None
    mfns: npt.NDArray[np.uint32]
    gmfns: npt.NDArray[np.uint64]


def set_max_pages(machine: Machine, domid: int, max_pages: int) -> None:
    """Change the maximum reservation of a domain (XEN_DOMCTL_max_mem); the domain keeps frames above it.

    Raises:
        ModelError: ESRCH.
    """
    machine.domain(domid).max_pages = max_pages


def populate(machine: Machine, domid: int, gfns: Gmfns, order: int = 0) -> Extents:
    """Populate guest frames (XENMEM_populate_physmap), in order, until one cannot be populated.

    The call stops at a guest frame that is populated already, where Xen would silently replace the frame.

    Args:
        machine: The simulated machine.
        domid: The domain.
        gfns: Guest frames.
        order: The guest frames are extents of ``1 << order`` frames; no extent is populated in part.

    Raises:
        ModelError: ESRCH; EINVAL, it is dying.
    """
    domain = machine.living(domid)
    asked = as_array(gfns)
    beyond = asked >= machine.max_gfns
    known = asked < len(domain.p2m)
    there = np.zeros(len(asked), dtype=np.bool_)
    there[known] = domain.p2m[asked[known].astype(np.int64)] > POD
    n_done, why = first_stop(
        len(asked),
        (beyond, "is past the guest frames a domain may have (machine.gfns_per_domain)", asked),
        (there | repeated(asked), "is populated already", asked),
    )
    if n_done > room(domain):
        n_done, why = room(domain), f"the reservation of {domain.max_pages} pages is used up"
    if n_done > machine.frames.n_free:
        n_done, why = machine.frames.n_free, "the machine has no free frame left (machine.memory_mib)"
    n_room = domain.file.room(asked[:n_done].astype(np.uint32))
    if n_done > n_room:
        n_done, why = n_room, "too many frames are mapped still that were taken away before"
    n_done = n_done >> order << order
    return Extents(n_done, why, allocate(machine, domain, asked[:n_done]), asked[:n_done])


def populate_runs(machine: Machine, domid: int, gfns: Gmfns, order: int) -> npt.NDArray[np.uint32]:
    """Populate extents of several guest frames, in order, until one cannot be populated; none is populated in part.

    The frames of a PV domain's extent are contiguous in the machine, and a call makes at most ``MOST_RUNS`` extents.

    Args:
        machine: The simulated machine.
        domid: The domain.
        gfns: The first guest frame of each extent.
        order: An extent has ``1 << order`` frames.

    Returns:
        The first mfn of each extent that was populated.

    Raises:
        ModelError: ESRCH; EINVAL, it is dying.
    """
    domain = machine.living(domid)
    if domain.kind.translated:
        return populate(machine, domid, pages_of(as_array(gfns), order), order).mfns[:: 1 << order]
    firsts = as_array(gfns)[:MOST_RUNS].tolist()
    made = np.zeros(len(firsts), dtype=np.uint32)
    for n_done, gfn in enumerate(firsts):
        extent = _populate_run(machine, domain, gfn, 1 << order)
        if extent is None:
            return made[:n_done]
        made[n_done] = extent[0]
    return made


def _populate_run(machine: Machine, domain: Domain, first: int, n_pages: int) -> npt.NDArray[np.uint32] | None:
    if first + n_pages > machine.max_gfns or n_pages > min(room(domain), machine.frames.n_free):
        return None
    try:
        domain.reach(first + n_pages)
        numbers = np.arange(first, first + n_pages, dtype=np.uint32)
        if (domain.p2m[numbers] > POD).any() or domain.file.room(numbers) < n_pages:
            return None
        return _enter(domain, numbers, machine.frames.allocate_run)
    except MemoryError:
        return None  # as when the machine has no such frames: what was done before stays done


def increase_reservation(machine: Machine, domid: int, n_extents: int, order: int) -> npt.NDArray[np.uint32]:
    """Give a PV domain machine frames for the lowest guest frames that are not populated.

    Returns:
        The first mfn of each extent that was populated; nothing for a translated domain.

    Raises:
        ModelError: ESRCH; EINVAL, it is dying.
    """
    domain = machine.living(domid)
    if domain.kind.translated:
        return NOTHING
    empty = np.flatnonzero(domain.p2m == NO_FRAME)
    beyond = np.arange(len(domain.p2m), min(machine.max_gfns, len(domain.p2m) + (n_extents << order)))
    places = np.concatenate((empty, beyond))
    if order == 0:
        return populate(machine, domid, places[:n_extents].astype(np.uint64)).mfns
    return populate_runs(machine, domid, _runs(places, 1 << order)[:n_extents].astype(np.uint64), order)


def _runs(places: npt.NDArray[np.int64], n_pages: int) -> npt.NDArray[np.int64]:
    """Return the first place of each run of ``n_pages`` consecutive places; runs do not overlap."""
    edges = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    lengths = np.diff(edges, append=len(places))
    each = lengths // n_pages
    within = np.arange(int(each.sum())) - np.repeat(np.cumsum(each) - each, each)
    starts: npt.NDArray[np.int64] = np.repeat(places[edges], each) + within * n_pages
    return starts


def room(domain: Domain) -> int:
    """Return how many more frames the reservation allows."""
    return max(0, domain.max_pages - domain.tot_pages - domain.n_cached)


def allocate(machine: Machine, domain: Domain, wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """Populate guest frames that are known to be empty and to fit; each is listed once.

    Returns:
        (n,) uint32, their mfns.
    """
    gfns = wanted.astype(np.uint32)
    domain.reach(int(gfns.max(initial=0)) + 1)
    mfns = _enter(domain, gfns, machine.frames.allocate)
    assert mfns is not None
    return mfns


def _enter(domain: Domain, gfns: npt.NDArray[np.uint32], allocate: Allocate) -> npt.NDArray[np.uint32] | None:
    """Populate guest frames and return their mfns; None when there are no frames.

    ``allocate`` is the last step that needs memory, so that nothing fails half way.
    """
    n_demanded = int(np.count_nonzero(domain.p2m[gfns] == POD))
    pages = domain.file.find(gfns)
    places = domain.file.places(pages)
    mfns = allocate(domain.domid, gfns, pages)
    if mfns is None:
        return None
    domain.file.hold(places)
    domain.n_pod -= n_demanded
    domain.enter(gfns, mfns)
    domain.tot_pages += len(gfns)
    domain.top_gfn = max(domain.top_gfn, int(gfns.max(initial=0)))
    return mfns


def decrease_reservation(machine: Machine, domid: int, gmfns: Gmfns) -> Extents:
    """Take frames from a domain (XENMEM_decrease_reservation), in order, until a frame is not there.

    A frame that is mapped keeps its content for its mappers, and counts for the domain until the last reference is
    put (docs/explanation/facts/recorded-host.md, section 10). A PoD guest frame becomes an empty one. As long as there
    are more PoD guest frames than frames in the PoD cache, frames that are given back go to the cache
    (p2m_pod_decrease_reservation), except those that are mapped.

    Raises:
        ModelError: ESRCH; EINVAL, it is dying.
    """
    domain = machine.living(domid)
    asked = as_array(gmfns)
    mfns = mfns_of(machine, domain, asked)
    waits = _waiting(domain, asked)
    absent = (mfns == NO_FRAME) & ~waits | repeated(asked)
    n_done, why = first_stop(len(asked), (absent, "is not populated", asked))
    waits = waits[:n_done]
    mfns = mfns[:n_done][~waits]
    n_paged = int(np.count_nonzero(mfns >= PAGED))
    is_ram = mfns < DEVICE
    mfns &= ~np.uint32(FLAGS)
    gfns = machine.frames.gfn[mfns]
    taken = asked[:n_done][~waits]
    if domain.n_pod:
        _reclaim(machine, domain, asked[:n_done][waits].astype(np.int64), mfns[is_ram])
    domain.n_paged -= n_paged
    domain.tot_pages += n_paged  # as if paged in: giving a frame back counts down here
    domain.enter(gfns, NO_FRAME)
    for mfn in domain.tables.keys() & set(mfns.tolist()) if domain.tables else ():
        del domain.tables[mfn]
    machine.put(mfns)
    return Extents(n_done, why, mfns, taken)


def _waiting(domain: Domain, gmfns: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return for each guest frame whether it is a PoD one."""
    waits = np.zeros(len(gmfns), dtype=np.bool_)
    if domain.n_pod:
        known = gmfns < len(domain.p2m)
        waits[known] = domain.p2m[gmfns[known].astype(np.int64)] == POD
    return waits


def _reclaim(machine: Machine, domain: Domain, waiting: npt.NDArray[np.int64], mfns: npt.NDArray[np.uint32]) -> None:
    """Make PoD guest frames empty, and let the PoD cache keep RAM that is given back, as far as it lacks frames.

    Each PoD guest frame that becomes empty, and each frame given back, makes the cache lack one frame less.
    """
    n_given = int(np.count_nonzero(machine.frames.refs[mfns] == 1))
    n_lacking = domain.n_pod - domain.n_cached
    domain.enter(waiting, NO_FRAME)
    domain.n_pod -= len(waiting)
    domain.n_cached = domain.n_pod - max(0, n_lacking - len(waiting) - n_given)


def mfns_of(machine: Machine, domain: Domain, gmfns: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """Return what the p2m has for gmfns, ``NO_FRAME`` and ``PAGED`` included; all 64 bits of a gmfn count."""
    mfns = np.zeros(len(gmfns), dtype=np.uint32)
    if domain.kind.translated:
        known = gmfns < len(domain.p2m)
        mfns[known] = domain.p2m[gmfns[known].astype(np.int64)]
        mfns[mfns == POD] = NO_FRAME
        return mfns
    known = gmfns < machine.frames.n_frames
    mfns[known] = gmfns[known]
    mfns[machine.frames.owner[mfns] != domain.domid] = NO_FRAME
    # A frame that was ballooned out and is still mapped is the domain's, but no longer in its p2m. A frame of a
    # resource is not in the p2m either.
    own = mfns != NO_FRAME
    gfns = machine.frames.gfn[mfns]
    own &= gfns < len(domain.p2m)
    own[own] = domain.p2m[gfns[own]] == mfns[own]
    return np.where(own, mfns, NO_FRAME).astype(np.uint32)


def pages_of(extents: npt.NDArray[np.uint64], order: int) -> npt.NDArray[np.uint64]:
    """Return all pages of extents; ``extents`` has the first page of each."""
    pages: npt.NDArray[np.uint64] = np.add.outer(extents, np.arange(1 << order, dtype=np.uint64)).reshape(-1)
    return pages


def first_stop(n: int, *reasons: tuple[npt.NDArray[np.bool_], str, npt.NDArray[np.uint64]]) -> tuple[int, str | None]:
    """Return how much of a list can be done before the first reason to stop, and that reason."""
    n_done, why = n, None
    for stops, text, gmfns in reasons:
        hits = np.flatnonzero(stops[:n_done])
        if len(hits):
            n_done = int(hits[0])
            why = f"frame {int(gmfns[n_done]):#x} {text}"
    return n_done, why
