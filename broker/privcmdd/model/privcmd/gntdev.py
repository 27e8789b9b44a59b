# SPDX-License-Identifier: Apache-2.0
"""The gntdev device: it maps grants of guests, and domain 0's own, into an address space.

A guest's grant table is read when a grant is mapped, as Xen does (xen/common/grant_table.c, map_grant_ref). The mapper
is domain 0. ``grants.in_use`` counts the grants that are in use.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.grants.entry import Read, granted
from privcmdd.model.grants.in_use import Held, pin, unpin
from privcmdd.model.machine import foreign, resources
from privcmdd.model.machine.effects import GrantsInUse
from privcmdd.model.machine.gntalloc import Holder, Shared, UnmapNotify
from privcmdd.model.mm.vm_map import File
from privcmdd.model.privcmd.linux import VmaData
from privcmdd.model.privcmd.requests import Batch, Ready, as_it_is, check_rights, give_up
from privcmdd.model.units import PAGE_MASK, PAGE_SHIFT, PROT_WRITE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmdd.model.file_keys import SharedFile
    from privcmdd.model.mm.space import AddressSpace


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
    """Map grants of a domain into a mapping of the gntdev device; its pages map no grants yet.

    Returns:
        The answer that ``ready`` makes, before anything has changed.

    Raises:
        ModelError: EINVAL, the range is no mapping of gntdev, or as ``granted``; EPERM; EDQUOT.
    """
    end = addr + (len(refs) << PAGE_SHIFT)
    entry = space.map.lookup(addr)
    if not refs or entry is None or entry.file is not File.GNTDEV or end > entry.end:
        raise ModelError(errno.EINVAL, f"{addr:#x} to {end:#x} is no mapping of the gntdev device", key="addr")
    check_rights(entry.protection, domid, may_write=may_write)
    machine, writes = space.machine, bool(entry.protection & PROT_WRITE)
    domain = machine.domains.get(domid)
    if domain is None:
        raise ModelError(errno.EINVAL, f"there is no domain {domid} that could grant anything", key="dom", dom=domid)
    if domain.grants.version == 2:
        resources.make_status_frames(machine, domain)
    gmfns = [granted(machine, domain, ref, read, writes=writes).frame for ref in refs]
    data = VmaData(pte_protection=entry.protection)
    held = {page: Held(domid, ref, writes) for page, ref in enumerate(refs, addr >> PAGE_SHIFT)}
    space.reserve(addr, end, n_frames=len(refs))
    try:
        mfns, errors = foreign.get(machine, domid, np.array(gmfns, dtype=np.uint64), entry.protection)
    except BaseException:
        space.abandon()
        raise
    if errors is not None:
        give_up(space, mfns)
        raise ModelError(errno.EINVAL, f"a grant of domain {domid} names a frame that is not there", key="arr")
    try:
        answer = ready(Batch(0, mfns, None, entry.protection))
        pin(domain, refs, gmfns, writes=writes)
        try:
            machine.effects.append(GrantsInUse(domid, list(refs)))
            space.overlay(addr, end, [], mfns)
        except BaseException:
            unpin(machine, held.values())
            raise
    except BaseException:
        give_up(space, mfns)
        raise
    space.granted.refs |= held
    entry.private_data = data
    entry.domid = domid
    entry.made_by = space.maker
    return answer


def notify(space: AddressSpace, addr: int, event: tuple[int, int] | None, *, clear: bool) -> None:
    """Set what is done when a page is unmapped, in place of what was set before.

    Raises:
        ModelError: ENOENT, the page maps no grant; EINVAL, a byte is to be cleared and the page is mapped read-only.
    """
    page, offset = addr >> PAGE_SHIFT, addr & PAGE_MASK
    held = space.granted.refs.get(page)
    if held is None:
        raise ModelError(errno.ENOENT, f"no grant is mapped at {addr:#x}", key="addr")
    file: int | SharedFile
    if isinstance(held, Shared):
        share = space.machine.shares.share(held.ref)
        file, file_page = share.file, share.page
    else:
        file, file_page = held.domid, int(space.machine.frames.page[space.pmap.get(page)])
    if clear and not held.writes:
        raise ModelError(errno.EINVAL, f"a byte is to be cleared at {addr:#x}, which is mapped read-only", key="addr")
    space.granted.notices[page] = UnmapNotify((file, file_page, offset) if clear else None, event)


def share(space: AddressSpace, addr: int, refs: Sequence[int], prot: int, *, owned: bool) -> None:
    """Let pages of a mapping of the gntdev device hold domain 0's own grants. The client maps the bytes itself.

    Raises:
        ModelError: EINVAL, the range is no mapping of gntdev, or it allows more than ``prot``.
    """
    end = addr + (len(refs) << PAGE_SHIFT)
    entry = space.map.lookup(addr)
    if entry is None or entry.file is not File.GNTDEV or end > entry.end or addr & PAGE_MASK:
        raise ModelError(errno.EINVAL, f"{addr:#x} to {end:#x} is no mapping of the gntdev device", key="addr")
    writes = bool(entry.protection & PROT_WRITE)
    if writes and not prot & PROT_WRITE:
        raise ModelError(errno.EINVAL, "one of these grants is read-only, and the mapping is not", key="refs")
    first = addr >> PAGE_SHIFT
    if any(page in space.granted.refs for page in range(first, first + len(refs))):
        raise ModelError(errno.EINVAL, f"{addr:#x} to {end:#x} maps grants already", key="addr")
    for page, ref in enumerate(refs, first):
        held = space.machine.shares.share(ref)
        (held.owners if owned else held.mappers).add(Holder("page", space.number, page))
        space.granted.refs[page] = Shared(ref, writes)
    entry.private_data = entry.private_data or VmaData()
    entry.domid = 0
    entry.made_by = space.maker
