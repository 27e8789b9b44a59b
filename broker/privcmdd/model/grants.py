# SPDX-License-Identifier: Apache-2.0
"""Grants: pages that a guest lets other domains map, by number, as its grant table says.

The table is the guest's memory: what it holds is read when a grant is mapped, as Xen does
(xen/common/grant_table.c, map_grant_ref). The mapper is domain 0. ``pins`` counts those that are in use.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from privcmdd.model import pins
from privcmdd.model.errors import ModelError
from privcmdd.model.pins import Held
from privcmdd.model.privcmd import Batch, Ready, as_it_is, check_rights, give_up
from privcmdd.model.units import PAGE_SHIFT, PAGE_SIZE, PROT_WRITE
from privcmdd.model.vm_map import File

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from privcmdd.model.domain import Domain
    from privcmdd.model.hypervisor import Hypervisor
    from privcmdd.model.space import AddressSpace

    Read = Callable[[int, int], bytes]

GTF_TYPE: Final = 3
GTF_PERMIT_ACCESS: Final = 1
GTF_READONLY: Final = 4
GTF_SUB_PAGE: Final = 256
V1: Final = struct.Struct("<HHI")  # flags, domid, frame (struct grant_entry_v1)
V2: Final = struct.Struct("<HHIQ")  # flags, domid, padding, frame (struct grant_entry_v2, full_page)


class Entry(NamedTuple):
    """An entry of a grant table, of either version of the interface."""

    flags: int
    mapper: int
    frame: int


def entry_of(hypervisor: Hypervisor, domain: Domain, ref: int, read: Read) -> Entry | None:
    """What a domain's table says of a grant; None past its end."""
    layout = V1 if domain.grants.version == 1 else V2
    index, rest = divmod(ref, PAGE_SIZE // layout.size)
    if index >= len(domain.grants.shared):
        return None
    page = int(hypervisor.frames.page[domain.grants.shared[index]])
    values = layout.unpack(read(page * PAGE_SIZE + rest * layout.size, layout.size))
    return Entry(values[0], values[1], values[-1])


def granted(hypervisor: Hypervisor, domain: Domain, refs: Sequence[int], read: Read, *, writes: bool) -> list[int]:
    """The frames that grants give to domain 0.

    Args:
        hypervisor: The machine.
        domain: Who granted.
        refs: Numbers of its grants.
        read: Reads the domain's memory file: from a byte of the file on, so many bytes.
        writes: They are to be mapped writable.

    Returns:
        As the guest names them; of one that is mapped already what it named then.

    Raises:
        ModelError: EINVAL, one of them is no grant to domain 0, or read-only; the driver has one errno for all that
            Xen may say.
    """
    frames = []
    for ref in refs:
        held = domain.grants.pins.get(ref)
        if held is not None and (held.n_writable or not writes):
            frames.append(held.frame)
            continue
        entry = entry_of(hypervisor, domain, ref, read)
        if entry is None:
            raise ModelError(errno.EINVAL, f"domain {domain.domid} has no grant {ref}", key="arr", ref=ref)
        if entry.flags & (GTF_TYPE | GTF_SUB_PAGE) != GTF_PERMIT_ACCESS or entry.mapper != 0:
            raise ModelError(
                errno.EINVAL, f"grant {ref} of domain {domain.domid} lets domain 0 map nothing", key="arr", ref=ref
            )
        if entry.flags & GTF_READONLY and writes:
            raise ModelError(errno.EINVAL, f"grant {ref} of domain {domain.domid} is read-only", key="arr", ref=ref)
        frames.append(entry.frame if held is None else held.frame)
    return frames


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
    names = granted(hypervisor, domain, refs, read, writes=writes)
    space.reserve(addr, end, n_frames=len(refs))
    try:
        mfns, errors = hypervisor.acquire(domid, np.array(names, dtype=np.uint64), entry.protection)
    except BaseException:
        space.abandon()
        raise
    if errors is not None:
        give_up(space, mfns)
        raise ModelError(errno.EINVAL, f"a grant of domain {domid} names a frame that is not there", key="arr")
    held = {page: Held(domain, ref, writes) for page, ref in enumerate(refs, addr >> PAGE_SHIFT)}
    try:
        answer = ready(Batch(0, mfns, None, entry.protection))
        pins.pin(hypervisor, domain, refs, names, writes=writes)
        try:
            space.overlay(addr, end, [], mfns)
        except BaseException:
            pins.unpin(hypervisor, held.values())
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
