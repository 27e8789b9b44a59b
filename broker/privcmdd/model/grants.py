# SPDX-License-Identifier: Apache-2.0
"""Grants: pages that a guest lets other domains map, by number, as its grant table says.

The table is the guest's memory: what it holds is read when a grant is mapped, as Xen does
(xen/common/grant_table.c, map_grant_ref). The mapper is domain 0. Pins are not counted and the flags
``GTF_reading`` and ``GTF_writing`` not set: a guest cannot see here that a grant of its is in use.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.privcmd import Batch, Ready, as_it_is, check_rights, give_up
from privcmdd.model.units import PAGE_SHIFT, PAGE_SIZE, PROT_WRITE
from privcmdd.model.vm_map import File

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from privcmdd.model.hypervisor import Hypervisor
    from privcmdd.model.space import AddressSpace

    Read = Callable[[int, int], bytes]

GTF_TYPE: Final = 3
GTF_PERMIT_ACCESS: Final = 1
GTF_READONLY: Final = 4
V1: Final = struct.Struct("<HHI")  # flags, domid, frame (struct grant_entry_v1)
V2: Final = struct.Struct("<HHIQ")  # flags, domid, padding, frame (struct grant_entry_v2, full_page)


def granted(hypervisor: Hypervisor, domid: int, refs: Sequence[int], protection: int, read: Read) -> list[int]:
    """The frames that grants give to domain 0.

    Args:
        hypervisor: The machine.
        domid: Who granted.
        refs: Numbers of its grants.
        protection: How they are to be mapped.
        read: Reads a page of the domain's memory file: from a byte of the file on, so many bytes.

    Returns:
        As the guest names them.

    Raises:
        ModelError: EINVAL, there is no such domain or one of them is no grant to domain 0, or read-only; the
            driver has one errno for all that Xen may say.
    """
    domain = hypervisor.domains.get(domid)
    if domain is None:
        raise ModelError(errno.EINVAL, f"there is no domain {domid} that could grant anything", key="dom", dom=domid)
    layout = V1 if domain.grants.version == 1 else V2
    per_frame = PAGE_SIZE // layout.size
    frames = []
    for ref in refs:
        if ref >= len(domain.grants.shared) * per_frame:
            raise ModelError(errno.EINVAL, f"domain {domid} has no grant {ref}", key="arr", ref=ref)
        page = int(hypervisor.frames.page[domain.grants.shared[ref // per_frame]])
        entry = layout.unpack(read(page * PAGE_SIZE + ref % per_frame * layout.size, layout.size))
        flags, mapper, frame = entry[0], entry[1], entry[-1]
        if flags & GTF_TYPE != GTF_PERMIT_ACCESS or mapper != 0:
            raise ModelError(
                errno.EINVAL, f"grant {ref} of domain {domid} lets domain 0 map nothing", key="arr", ref=ref
            )
        if flags & GTF_READONLY and protection & PROT_WRITE:
            raise ModelError(errno.EINVAL, f"grant {ref} of domain {domid} is read-only", key="arr", ref=ref)
        frames.append(frame)
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
    names = granted(space.hypervisor, domid, refs, entry.protection, read)
    space.reserve(addr, end, n_frames=len(refs))
    try:
        mfns, errors = space.hypervisor.acquire(domid, np.array(names, dtype=np.uint64), entry.protection)
    except BaseException:
        space.abandon()
        raise
    if errors is not None:
        give_up(space, mfns)
        raise ModelError(errno.EINVAL, f"a grant of domain {domid} names a frame that is not there", key="arr")
    try:
        answer = ready(Batch(0, mfns, None, entry.protection))
        space.overlay(addr, end, [], mfns)
    except BaseException:
        give_up(space, mfns)
        raise
    entry.used = True
    entry.domid = domid
    entry.made_by = space.maker
    entry.pte_protection = entry.protection
    return answer
