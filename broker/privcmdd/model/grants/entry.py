# SPDX-License-Identifier: Apache-2.0
"""Entries of a grant table: they say which of its pages a guest lets other domains map.

The table lies in the guest's memory. An entry is read when the grant is mapped, as Xen does
(xen/common/grant_table.c, map_grant_ref). The mapper is domain 0.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from privcmdd.model.errors import ModelError
from privcmdd.model.units import PAGE_SIZE

if TYPE_CHECKING:
    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.machine import Machine

Read = Callable[[int, int], bytes]

GTF_TYPE: Final = 3

GTF_PERMIT_ACCESS: Final = 1

GTF_READONLY: Final = 4

GTF_SUB_PAGE: Final = 256

V1: Final = struct.Struct("<HHI")  # flags, domid, frame (struct grant_entry_v1)

V2: Final = struct.Struct("<HHHHQ")  # flags, domid, offset and length of a sub-page grant, frame (grant_entry_v2)


class Status(IntEnum):
    """The GNTST_* that mapping and copying answer (xen/include/public/grant_table.h)."""

    OKAY = 0
    GENERAL_ERROR = -1
    BAD_DOMAIN = -2
    BAD_GNTREF = -3
    BAD_PAGE = -9
    EAGAIN = -12


class Granted(NamedTuple):
    """What a grant gives access to.

    Attributes:
        frame: The frame, by the number that the guest wrote (a gmfn).
        start: The first byte of the frame that is granted.
        end: The byte behind the last one that is granted.
    """

    frame: int
    start: int = 0
    end: int = PAGE_SIZE


def refused(status: Status, text: str, ref: int) -> ModelError:
    """Return EINVAL, the driver's one errno for all refusals of Xen; the details have Xen's own status."""
    return ModelError(errno.EINVAL, f"{text} ({status.name.lower()})", key="arr", ref=ref, status=int(status))


def granted(machine: Machine, domain: Domain, ref: int, read: Read, *, writes: bool, whole: bool = True) -> Granted:
    """Find out what a grant gives to domain 0.

    Args:
        machine: The machine.
        domain: The domain that grants.
        ref: The grant's number.
        read: Reads the domain's memory file: takes the first byte and the number of bytes.
        writes: Domain 0 wants to write to the grant.
        whole: The grant must be a whole frame, because only a whole frame can be mapped.

    Returns:
        What the grant gives. If the grant is mapped already, this is what it gave when it was mapped first.

    Raises:
        ModelError: EINVAL, the grant is not one to domain 0, or it is read-only.
    """
    held = domain.grants.pins.get(ref)
    if held is not None and (held.n_writable or not writes):
        return Granted(held.frame)
    layout = V1 if domain.grants.version == 1 else V2
    index, rest = divmod(ref, PAGE_SIZE // layout.size)
    if index >= len(domain.grants.shared):
        raise refused(Status.BAD_GNTREF, f"domain {domain.domid} has no grant {ref}", ref)
    page = int(machine.frames.page[domain.grants.shared[index]])
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
