# SPDX-License-Identifier: Apache-2.0
"""Grants: pages that a guest lets other domains map, by number, as its grant table says.

The table is the guest's memory: what it holds is read when a grant is mapped, as Xen does
(xen/common/grant_table.c, map_grant_ref). The mapper is domain 0. ``pins`` counts those that are in use.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.grants.entry import Read, granted
from privcmdd.model.grants.in_use import Held, pin, unpin
from privcmdd.model.machine.effects import GrantsInUse
from privcmdd.model.mm.vm_map import File
from privcmdd.model.privcmd.requests import Batch, Ready, as_it_is, check_rights, give_up
from privcmdd.model.units import PAGE_SHIFT, PROT_WRITE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmdd.model.mm.syscalls import AddressSpace


def map_grants(
    space: AddressSpace,
    domid: int,
    addr: int,
    refs: Sequence[int],
    read: Read,
    *,
    may_write: bool,
    ready: Ready = as_it_is,
) -> Any:
    """Map grants of a domain into a mapping of the gntdev device, which has none there yet.

    Returns:
        What ``ready`` makes of it, before anything has changed.

    Raises:
        ModelError: EINVAL, the range is no such mapping, or as ``granted``; EPERM; EDQUOT.
    """
    end = addr + (len(refs) << PAGE_SHIFT)
    entry = space.map.lookup(addr)
    if not refs or entry is None or entry.file is not File.GNTDEV or end > entry.end:
        raise ModelError(errno.EINVAL, f"{addr:#x} to {end:#x} is no mapping of the gntdev device", key="addr")
    check_rights(entry.protection, domid, may_write=may_write)
    hypervisor, writes = space.hypervisor, bool(entry.protection & PROT_WRITE)
    domain = hypervisor.domains.get(domid)
    if domain is None:
        raise ModelError(errno.EINVAL, f"there is no domain {domid} that could grant anything", key="dom", dom=domid)
    if domain.grants.version == 2:
        hypervisor.make_status_frames(domain)
    names = [granted(hypervisor, domain, ref, read, writes=writes).frame for ref in refs]
    held = {page: Held(domid, ref, writes) for page, ref in enumerate(refs, addr >> PAGE_SHIFT)}
    space.reserve(addr, end, n_frames=len(refs))
    try:
        mfns, errors = hypervisor.acquire(domid, np.array(names, dtype=np.uint64), entry.protection)
    except BaseException:
        space.abandon()
        raise
    if errors is not None:
        give_up(space, mfns)
        raise ModelError(errno.EINVAL, f"a grant of domain {domid} names a frame that is not there", key="arr")
    try:
        answer = ready(Batch(0, mfns, None, entry.protection))
        pin(domain, refs, names, writes=writes)
        try:
            hypervisor.effects.append(GrantsInUse(domid, list(refs)))
            space.overlay(addr, end, [], mfns)
        except BaseException:
            unpin(hypervisor, held.values())
            raise
    except BaseException:
        give_up(space, mfns)
        raise
    space.grants |= held
    entry.used = True
    entry.domid = domid
    entry.made_by = space.maker
    entry.pte_protection = entry.protection
    return answer
