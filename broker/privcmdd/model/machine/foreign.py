# SPDX-License-Identifier: Apache-2.0
"""Look-ups of foreign frames, and the references that a mapping takes.

A PV dom0 gets the answers of Xen 4.17 to ``mmu_update`` with a foreign domain, as recorded in
docs/explanation/facts/recorded-host.md, section 4. A PVH dom0 gets the answers of ``XENMAPSPACE_gmfn_foreign``, which
has fewer errors.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from privcmdd.model.findings import FindingKind
from privcmdd.model.machine import page_types, paging, pod
from privcmdd.model.machine.domain import DEVICE, PAGED, POD
from privcmdd.model.machine.frames import FIRST_RAM, FRAME_0, NO_FRAME, ONE
from privcmdd.model.units import DOMID_IO, DOMID_SELF, DOMID_XEN, FRAME_MASK, LAPIC_FRAME, PROT_WRITE

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.frames import Errors, Gmfns, Mfns
    from privcmdd.model.machine.machine import Machine


def get(
    machine: Machine, domid: int, gmfns: Gmfns, protection: int | None = None, *, stop: bool = False
) -> tuple[Mfns, Errors | None]:
    """Look frames up and take a reference to each good one, in one step.

    Args:
        machine: The simulated machine.
        domid: The domain that has the frames.
        gmfns: Frame numbers as the caller wrote them, of which 40 bits count: gfns of an HVM or PVH domain,
            mfns of a PV domain. A list (at most ``FEW``) or (n,) uint64.
        protection: The protection that the frames are to be mapped with: it decides whether Xen's own tables and
            pinned page tables can be mapped. None: only frames of ordinary domains are looked up.
        stop: Stop at the first frame that fails, as one hypercall for all frames does (do_mmu_update): frames behind
            it are not populated on demand, and no pager is told of them.

    Returns:
        The mfns, ``NO_FRAME`` where there is none; and None when all frames are good, else the negative errno of
        each frame (0 for a good one): -ESRCH no such domain, -EINVAL not populated, -ENOENT paged out, -EPERM no
        RAM, -EBUSY not the domain's. Both are in the form of ``gmfns``, and with ``stop`` the first frame that
        fails is the last in both. For a PVH dom0, a frame of DOMID_XEN is
        ``NO_FRAME`` with no error: nothing is mapped for it.
    """
    domain = machine.domains.get(domid)
    guarded = (
        domain is not None
        and domain.tables
        and protection is not None
        and protection & PROT_WRITE
        and machine.host.dom0 == "pv"
    )
    plain = not guarded and machine.injection is None
    if isinstance(gmfns, list) and domain is not None and machine.host.dom0 == "pv" and plain:
        return _get_few(machine, domain, gmfns, stop=stop)
    listed = isinstance(gmfns, list)
    asked = np.asarray(gmfns, dtype=np.uint64)
    mfns: npt.NDArray[np.uint32]
    errors: npt.NDArray[np.int32] | None
    if domain is None and protection is None:
        mfns, errors = np.zeros(len(asked), dtype=np.uint32), np.full(len(asked), -errno.ESRCH, dtype=np.int32)
    elif domain is None:
        assert protection is not None
        mfns, errors = _absent(machine, domid, asked, protection)
    elif machine.host.dom0 == "pv":
        mfns, errors = _look(machine, domain, asked & np.uint64(FRAME_MASK), stop=stop)
    else:
        mfns, errors = _look_translated(machine, domain, asked, stop=stop)
    if guarded and domain is not None:
        mfns, errors = page_types.refuse_tables(domain, mfns, errors)
    if stop and errors is not None:
        end = _end(errors != 0)
        asked, mfns, errors = asked[:end], mfns[:end], errors[:end]
    if machine.injection is not None:
        mfns, errors = machine.injection(domid, asked, mfns, errors, stop=stop)
        asked = asked[: len(mfns)]
    if machine.host.dom0 == "pv" and int(asked.max(initial=0)) > FRAME_MASK:
        cut = asked[(asked > np.uint64(FRAME_MASK)) & (mfns != NO_FRAME)]
        if len(cut):
            _bits_lost(machine, domid, int(cut[0]), len(cut))
    np.add.at(machine.frames.refs, mfns if errors is None and domain is not None else mfns[mfns != NO_FRAME], ONE)
    if listed:
        return mfns.tolist(), None if errors is None else errors.tolist()
    return mfns, errors


def _end(fails: npt.NDArray[np.bool_]) -> int:
    """Return the index behind the first frame that fails; behind the last frame when none does."""
    return int(fails.argmax()) + 1 if fails.any() else len(fails)


def _bits_lost(machine: Machine, domid: int, gmfn: int, n_frames: int = 1) -> None:
    others = f", and so with {n_frames - 1} others of the batch" if n_frames > 1 else ""
    machine.found(
        FindingKind.FRAME_BITS_LOST,
        f"frame {gmfn:#x} of domain {domid} was asked for and frame {gmfn & FRAME_MASK:#x} was mapped{others}: a "
        "page table entry holds 40 bits of a frame number, and those above are dropped without an error",
        dom=domid,
    )


def look(machine: Machine, domid: int, gmfns: Gmfns) -> Errors | None:
    """Find out whether frames could be mapped; no reference is kept.

    Returns:
        The errors, as ``get`` returns them.
    """
    asked = np.asarray(gmfns, dtype=np.uint64)
    if machine.host.dom0 == "pv":
        asked = asked & np.uint64(FRAME_MASK)  # no frame is mapped, so dropped bits are no finding
    mfns, errors = get(machine, domid, asked)
    frames = np.asarray(mfns, dtype=np.uint32)
    machine.put(frames[frames != NO_FRAME])
    return errors


def _absent(
    machine: Machine, domid: int, gmfns: npt.NDArray[np.uint64], protection: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32] | None]:
    """Look up frames of a domid that is no ordinary domain: the caller's, DOMID_IO's, Xen's own, or no domain's."""
    mfns = np.zeros(len(gmfns), dtype=np.uint32)
    errors = np.full(len(gmfns), -errno.ESRCH, dtype=np.int32)
    if machine.host.dom0 == "pvh":
        if domid == 0:
            errors[:] = -errno.EPERM
        elif domid == DOMID_XEN:
            errors[:] = np.where(_is_table(machine, gmfns), 0, -errno.EINVAL)
    elif domid in (DOMID_SELF, DOMID_IO):
        index = gmfns & np.uint64(FRAME_MASK)
        errors[:] = np.where(machine.frames.is_ram(index), -errno.EBUSY, 0)
        errors[(index == LAPIC_FRAME) | (index >= machine.frames.n_frames)] = -errno.EPERM
        mfns[:] = np.where(errors == 0, np.where(index == 0, FRAME_0, index), NO_FRAME)
    elif domid == DOMID_XEN:
        index = gmfns & np.uint64(FRAME_MASK)
        errors[:] = np.where(machine.frames.is_ram(index), -errno.EBUSY, -errno.EPERM)
        if not protection & PROT_WRITE:
            table = _is_table(machine, index)
            errors[table] = 0
            mfns[table] = index[table]
    if machine.host.dom0 == "pv" and domid in (DOMID_SELF, DOMID_IO, DOMID_XEN):
        errors[gmfns & np.uint64(FRAME_MASK) == FRAME_MASK] = -errno.EINVAL
    return mfns, errors if errors.any() else None


def _is_table(machine: Machine, gmfns: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return for each frame whether it holds part of Xen's machine-to-phys table."""
    first, n_frames = machine.frames.machphys
    return (gmfns >= np.uint64(first)) & (gmfns < np.uint64(first + n_frames))


def _look(
    machine: Machine, domain: Domain, gmfns: npt.NDArray[np.uint64], *, stop: bool
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32] | None]:
    index = gmfns.view(np.int64)  # 40 bits: never negative
    if domain.translated:
        p2m = domain.p2m
        if len(p2m) and int(index.max(initial=0)) < len(p2m):
            mfns = p2m[index]
            if int(mfns.min(initial=FIRST_RAM)) >= FIRST_RAM and int(mfns.max(initial=0)) < DEVICE:
                return mfns, None
        return _look_up(machine, domain, index, stop=stop)
    inside = (index >= FIRST_RAM) & (index < machine.frames.n_frames)
    mfns = np.where(inside, index, NO_FRAME).astype(np.uint32)
    own = machine.frames.owner[mfns] == domain.domid
    if own.all():
        return mfns, None
    ram = inside & (machine.frames.owner[mfns] != DOMID_IO)
    errors = np.where(own, 0, np.where(ram, -errno.EBUSY, -errno.EPERM)).astype(np.int32)
    errors[index == FRAME_MASK] = -errno.EINVAL
    mfns[~own] = NO_FRAME
    return mfns, errors


def _look_up(
    machine: Machine, domain: Domain, index: npt.NDArray[np.int64], *, stop: bool
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32] | None]:
    """Look gfns up of which some may be absent, paged out, or to be populated on demand now.

    With ``stop``, the first frame that fails is the last that is looked at.
    """
    mfns = _entries(domain, index)
    waits = mfns == POD
    if stop:
        end = _end(~waits & _unfit(mfns))
        index, mfns, waits = index[:end], mfns[:end], waits[:end]
    if waits.any():
        pod.demand_populate(machine, domain, index[waits])
        mfns = _entries(domain, index)
    errors = np.where(_unfit(mfns), -errno.EINVAL, 0).astype(np.int32)
    if stop:
        end = _end(errors != 0)  # the PoD cache may have been empty
        index, mfns, errors = index[:end], mfns[:end], errors[:end]
    paged = mfns >= PAGED
    if paged.any() and machine.host.dom0 == "pv":  # a PVH dom0 is told EINVAL, and no pager (p2m_add_foreign)
        errors[paged] = -errno.ENOENT
        paging.request(machine, domain, index[paged])
    mfns[errors != 0] = NO_FRAME
    return mfns, errors if errors.any() else None


def _entries(domain: Domain, index: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Return a copy of p2m entries; ``NO_FRAME`` for a gfn past the p2m."""
    known = index < len(domain.p2m)
    mfns = np.zeros(len(index), dtype=np.uint32)
    mfns[known] = domain.p2m[index[known]]
    return mfns


def _unfit(mfns: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Return for each p2m entry whether it has no frame that can be mapped now."""
    return (mfns < FIRST_RAM) | (mfns >= DEVICE)


def _look_translated(
    machine: Machine, domain: Domain, gmfns: npt.NDArray[np.uint64], *, stop: bool
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32] | None]:
    """Look frames up for a PVH dom0: all 64 bits of a gmfn count, and every failure is EINVAL."""
    if domain.translated:
        within = gmfns < np.uint64(len(domain.p2m))
        index = np.where(within, gmfns, np.uint64(len(domain.p2m))).astype(np.int64)
        return _look_up(machine, domain, index, stop=stop)
    inside = gmfns < np.uint64(machine.frames.n_frames)
    mfns = np.where(inside, gmfns, np.uint64(NO_FRAME)).astype(np.uint32)
    own = inside & (machine.frames.owner[mfns] == domain.domid)
    mfns[~own] = NO_FRAME
    return mfns, None if own.all() else np.where(own, 0, -errno.EINVAL).astype(np.int32)


def _get_few(machine: Machine, domain: Domain, gmfns: list[int], *, stop: bool) -> tuple[list[int], list[int] | None]:
    mfns = [NO_FRAME] * len(gmfns)
    errors: list[int] | None = None
    refs = machine.frames.refs_of
    translated = domain.translated
    p2m = domain.p2m_of
    try:
        for i, gmfn in enumerate(gmfns):
            number = gmfn & FRAME_MASK
            error = 0
            if translated:
                mfn = p2m[number] if number < len(p2m) else NO_FRAME
                if mfn == POD:
                    pod.demand_populate(machine, domain, np.array([number], dtype=np.int64))
                    mfn = p2m[number]
                if mfn < FIRST_RAM:
                    error = -errno.EINVAL
                elif mfn >= PAGED:
                    error = -errno.ENOENT
                    paging.request(machine, domain, np.array([number], dtype=np.int64))
                elif mfn >= DEVICE:
                    error = -errno.EINVAL
            else:
                mfn = number
                if not FIRST_RAM <= number < machine.frames.n_frames:
                    error = -errno.EINVAL if number == FRAME_MASK else -errno.EPERM
                elif machine.frames.owner_of[number] != domain.domid:
                    error = -errno.EPERM if machine.frames.owner_of[number] == DOMID_IO else -errno.EBUSY
            if error:
                errors = errors or [0] * len(gmfns)
                errors[i] = error
                if stop:
                    return mfns[: i + 1], errors[: i + 1]
            else:
                refs[mfn] += 1
                mfns[i] = mfn
                if number != gmfn:
                    _bits_lost(machine, domain.domid, gmfn)
    except BaseException:
        machine.put([mfn for mfn in mfns if mfn])
        raise
    return mfns, errors


def get_mfns(machine: Machine, domid: int, mfns: Mfns) -> tuple[Mfns, Errors | None]:
    """Take references to frames that are known by mfn: the frames of a resource.

    Returns:
        As ``get``: the mfns and the errors. The error is -EINVAL for a frame that is no longer the domain's.
    """
    frames = np.asarray(mfns, dtype=np.uint32)
    good = (machine.frames.owner[frames] == domid) & (machine.frames.refs[frames] > 0)
    taken = np.where(good, frames, NO_FRAME).astype(np.uint32)
    errors = None if good.all() else np.where(good, 0, -errno.EINVAL).astype(np.int32)
    if machine.injection is not None:
        taken, errors = machine.injection(domid, None, taken, errors)
    np.add.at(machine.frames.refs, taken[taken != NO_FRAME], ONE)
    return taken, errors
