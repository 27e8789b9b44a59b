# SPDX-License-Identifier: Apache-2.0
"""Paging guest frames out and in (``xen/arch/x86/mm/mem_paging.c``).

Mapping a frame that is paged out answers ENOENT. A pager is a helper in the toolstack that empties and fills frames.
With a pager, a frame is nominated first, and evicted only if it is not mapped by then; the pager is told when an
evicted frame is looked up. Without a pager, ``page_out`` and ``page_in`` work in one step, and frames keep their
content.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from privcmdd.model.errors import ModelError, Unanswered
from privcmdd.model.lists import repeated
from privcmdd.model.machine import memory, p2m
from privcmdd.model.machine.domain import DEVICE, FLAGS, PAGED
from privcmdd.model.machine.effects import FrameWanted
from privcmdd.model.machine.frames import NO_FRAME
from privcmdd.model.machine.machine import Machine, as_array
from privcmdd.model.machine.records import Pager

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.frames import Gmfns


def page_out(machine: Machine, domid: int, gfns: Gmfns) -> npt.NDArray[np.int32]:
    """Page frames out; mapping one answers ENOENT until it is paged in. The content is kept.

    Returns:
        (n,) int32: 0, -EBUSY for a frame that is mapped, -EINVAL for one that is not populated.

    Raises:
        ModelError: ESRCH; ENODEV, only translated domains can be paged; EINVAL, it is dying.
    """
    domain, asked, mfns, errors = _pageable(machine, domid, gfns)
    errors[mfns >= DEVICE] = -errno.EINVAL
    frames = mfns & ~np.uint32(FLAGS)
    errors[machine.frames.page[frames] >= domain.file.first_resource] = -errno.EINVAL
    good = errors == 0
    errors[np.flatnonzero(good)[machine.frames.refs[mfns[good]] > 1]] = -errno.EBUSY
    errors[(errors == 0) & repeated(asked)] = -errno.EINVAL  # the first mention paged it out
    good = errors == 0
    there = asked[good].astype(np.int64)
    domain.enter(there, domain.p2m[there] | np.uint32(PAGED))
    n_moved = int(np.count_nonzero(good))
    domain.tot_pages -= n_moved
    domain.n_paged += n_moved
    return errors


def page_in(machine: Machine, domid: int, gfns: Gmfns) -> npt.NDArray[np.int32]:
    """Page frames in again, with the content they had.

    Returns:
        (n,) int32: 0, -EINVAL for a frame that is not paged out, -ENOMEM for a frame that the reservation has no room
        for: a paged-out frame does not count for the reservation (p2m_mem_paging_prep).

    Raises:
        ModelError: ESRCH; ENODEV, only translated domains can be paged; EINVAL, it is dying.
    """
    domain, asked, mfns, errors = _pageable(machine, domid, gfns)
    errors[mfns < PAGED] = -errno.EINVAL
    errors[(errors == 0) & repeated(asked)] = -errno.EINVAL  # the first mention paged it in
    errors[np.flatnonzero(errors == 0)[memory.room(domain) :]] = -errno.ENOMEM
    good = errors == 0
    there = asked[good].astype(np.int64)
    domain.enter(there, domain.p2m[there] & ~np.uint32(PAGED))
    n_moved = int(np.count_nonzero(good))
    domain.tot_pages += n_moved
    domain.n_paged -= n_moved
    return errors


def _pageable(
    machine: Machine, domid: int, gfns: Gmfns
) -> tuple[Domain, npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[np.int32]]:
    domain = machine.living(domid)
    if not domain.kind.translated:
        raise ModelError(errno.ENODEV, f"domain {domid} is PV: only HVM and PVH domains can be paged", dom=domid)
    asked = as_array(gfns)
    mfns = memory.mfns_of(machine, domain, asked)
    errors = np.zeros(len(asked), dtype=np.int32)
    errors[mfns == NO_FRAME] = -errno.EINVAL
    return domain, asked, mfns, errors


def enable(machine: Machine, domid: int, ring: int) -> int:
    """Enable a pager: it is told of wanted frames through the ring at guest frame ``ring``.

    Returns:
        The guest's port to which the pager binds.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying, or has no such frame; EOPNOTSUPP, the domain is PV; EBUSY, it
            has a pager; ENOSYS, ``ring`` is 0: the ring's place was never set; ENOSPC, there is no port left.
    """
    domain = machine.living(domid)
    if not domain.kind.translated:
        raise ModelError(errno.EOPNOTSUPP, f"domain {domid} is PV: only HVM and PVH domains can be paged", dom=domid)
    if domain.pager is not None:
        raise ModelError(errno.EBUSY, f"domain {domid} has a pager", dom=domid)
    if not ring:
        raise Unanswered(
            "vm_event_op without a ring", "HVM_PARAM_PAGING_RING_PFN does not say where the ring is", dom=domid
        )
    pager = Pager(int(machine.frames.page[p2m.mfn_of(domain, ring)]))
    pager.port = machine.events.alloc_unbound(domid, 0, for_xen=True)
    domain.pager = pager
    return pager.port


def disable(machine: Machine, domid: int) -> None:
    """Disable the pager; frames that it has paged out stay paged out.

    Raises:
        ModelError: ESRCH.
    """
    domain = machine.domain(domid)
    if domain.pager is not None:
        machine.events.close_for_xen(domid, domain.pager.port)
        domain.pager = None


def pager_of(machine: Machine, domid: int) -> tuple[Domain, Pager]:
    """Return a domain and its pager.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying; ENODEV, it has no pager.
    """
    domain = machine.living(domid)
    if domain.pager is None:
        raise ModelError(errno.ENODEV, f"domain {domid} has no pager", dom=domid)
    return domain, domain.pager


def nominate(machine: Machine, domid: int, gfn: int) -> None:
    """Nominate a frame, so that it can be evicted.

    Raises:
        ModelError: As ``pager_of``; EINVAL, there is no such frame; EBUSY, it is mapped.
    """
    domain, pager = pager_of(machine, domid)
    mfn = p2m.mfn_of(domain, gfn)
    if machine.frames.refs[mfn] > 1 or machine.frames.page[mfn] >= domain.file.first_resource:
        raise ModelError(errno.EBUSY, f"guest frame {gfn:#x} is mapped", gfn=gfn)
    pager.nominated.add(gfn)


def evict(machine: Machine, domid: int, gfn: int) -> None:
    """Page a nominated frame out.

    Raises:
        ModelError: As ``pager_of``; EBUSY, the frame was not nominated, or is mapped now.
    """
    _, pager = pager_of(machine, domid)
    error = 0 if gfn in pager.nominated else -errno.EBUSY
    error = error or int(page_out(machine, domid, [gfn])[0])
    if error:
        raise ModelError(-error, f"guest frame {gfn:#x} is mapped, or was not nominated", gfn=gfn)
    pager.nominated.discard(gfn)


def load(machine: Machine, domid: int, gfn: int) -> int:
    """Page a frame in.

    Returns:
        The frame's page in the memory file, where its content is to be written.

    Raises:
        ModelError: As ``pager_of``; ENOENT, the frame is not paged out; ENOMEM, the reservation is used up.
    """
    domain, pager = pager_of(machine, domid)
    error = int(page_in(machine, domid, [gfn])[0])
    if error == -errno.ENOMEM:
        raise ModelError(errno.ENOMEM, f"the reservation of {domain.max_pages} pages is used up", gfn=gfn)
    if error:
        raise ModelError(errno.ENOENT, f"guest frame {gfn:#x} is not paged out", gfn=gfn)
    pager.asked.discard(gfn)
    return int(machine.frames.page[domain.p2m[gfn]])


def note_asked(machine: Machine, domid: int, gfn: int) -> None:
    """Note that the pager was told of a wanted frame; it is not told again until the frame is loaded.

    Raises:
        ModelError: ESRCH.
    """
    pager = machine.domain(domid).pager
    if pager is not None:
        pager.asked.add(gfn)


def request(machine: Machine, domain: Domain, gfns: npt.NDArray[np.int64]) -> None:
    """Have the pager told that frames which are paged out were looked up."""
    if domain.pager is not None:
        machine.effects += [FrameWanted(domain.domid, gfn) for gfn in gfns.tolist()]
