# SPDX-License-Identifier: Apache-2.0
"""Grants: pages that a guest lets other domains map, by number, as its grant table says.

The table is the guest's memory: what it holds is read when a grant is mapped, as Xen does
(xen/common/grant_table.c, map_grant_ref). The mapper is domain 0. ``pins`` counts those that are in use.
"""

from __future__ import annotations

import errno
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.machine.effects import GrantsInUse
from privcmdd.model.mm.granted import Held, pin, unpin
from privcmdd.model.mm.vm_map import File
from privcmdd.model.privcmd.personality import Batch, Ready, as_it_is, check_rights, give_up
from privcmdd.model.units import PAGE_SHIFT, PAGE_SIZE, PROT_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.lifecycle import Hypervisor
    from privcmdd.model.mm.syscalls import AddressSpace

    Read = Callable[[int, int], bytes]

GTF_TYPE: Final = 3
GTF_PERMIT_ACCESS: Final = 1
GTF_READONLY: Final = 4
GTF_SUB_PAGE: Final = 256
V1: Final = struct.Struct("<HHI")  # flags, domid, frame (struct grant_entry_v1)
V2: Final = struct.Struct("<HHHHQ")  # flags, domid, of a part: where it begins, its bytes; frame (grant_entry_v2)


class Status(IntEnum):
    """GNTST_*, as far as mapping and copying answer them (xen/include/public/grant_table.h)."""

    OKAY = 0
    GENERAL_ERROR = -1
    BAD_DOMAIN = -2
    BAD_GNTREF = -3
    BAD_PAGE = -9
    EAGAIN = -12


class Granted(NamedTuple):
    """What a grant gives.

    Attributes:
        frame: As the guest names it.
        start: The first byte of it.
        end: The one behind the last.
    """

    frame: int
    start: int = 0
    end: int = PAGE_SIZE


def refused(status: Status, text: str, ref: int) -> ModelError:
    """EINVAL, the one errno that the driver has for all that Xen may say; the details have Xen's own word."""
    return ModelError(errno.EINVAL, f"{text} ({status.name.lower()})", key="arr", ref=ref, status=int(status))


def granted(
    hypervisor: Hypervisor, domain: Domain, ref: int, read: Read, *, writes: bool, whole: bool = True
) -> Granted:
    """What a grant gives to domain 0.

    Args:
        hypervisor: The machine.
        domain: Who granted.
        ref: The grant's number.
        read: Reads the domain's memory file: from a byte of the file on, so many bytes.
        writes: It is to be written to.
        whole: It must be a whole frame: that is what can be mapped.

    Returns:
        Of a grant that is mapped already what it gave then.

    Raises:
        ModelError: EINVAL, it is no grant to domain 0, or read-only.
    """
    held = domain.grants.pins.get(ref)
    if held is not None and (held.n_writable or not writes):
        return Granted(held.frame)
    layout = V1 if domain.grants.version == 1 else V2
    index, rest = divmod(ref, PAGE_SIZE // layout.size)
    if index >= len(domain.grants.shared):
        raise refused(Status.BAD_GNTREF, f"domain {domain.domid} has no grant {ref}", ref)
    page = int(hypervisor.frames.page[domain.grants.shared[index]])
    values = layout.unpack(read(page * PAGE_SIZE + rest * layout.size, layout.size))
    flags, mapper, frame = values[0], values[1], values[-1]
    part = layout is V2 and flags & GTF_SUB_PAGE
    if flags & GTF_TYPE != GTF_PERMIT_ACCESS or mapper != 0 or (part and whole):
        raise refused(
            Status.GENERAL_ERROR,
            f"grant {ref} of domain {domain.domid} (flags {flags:#x}, to domain {mapper}) gives domain 0 no "
            f"{'frame' if whole else 'access'}",
            ref,
        )
    if flags & GTF_READONLY and writes:
        raise refused(Status.GENERAL_ERROR, f"grant {ref} of domain {domain.domid} is read-only", ref)
    if held is not None:
        return Granted(held.frame)
    return Granted(frame, values[2], values[2] + values[3]) if part else Granted(frame)


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
