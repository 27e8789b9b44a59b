# SPDX-License-Identifier: Apache-2.0
"""Grants: pages that a guest lets other domains map, by number, as its grant table says.

The table is the guest's memory: what it holds is read when a grant is mapped, as Xen does
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


def granted(machine: Machine, domain: Domain, ref: int, read: Read, *, writes: bool, whole: bool = True) -> Granted:
    """What a grant gives to domain 0.

    Args:
        machine: The machine.
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
