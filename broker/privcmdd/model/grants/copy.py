# SPDX-License-Identifier: Apache-2.0
"""Copying from and to grants without mapping them: GNTTABOP_copy, which gntdev's GRANT_COPY calls.

Each segment is copied, or its status says why not (xen/common/grant_table.c, acquire_grant_for_copy and
gnttab_copy_buf). One end of a segment may be the caller's own bytes; they travel in the request and in its answer.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from privcmdd.model.errors import ModelError
from privcmdd.model.grants.entry import Granted, Status, granted, refused
from privcmdd.model.machine import foreign, log_dirty
from privcmdd.model.machine.frames import NO_FRAME
from privcmdd.model.units import PAGE_SIZE, PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmdd.model.machine.machine import Machine

SOURCE_GREF: Final = 1  # GNTCOPY_*
DEST_GREF: Final = 2


class Segment(NamedTuple):
    """Bytes to copy. An end that is no grant is the caller's own memory; its three numbers are not looked at."""

    flags: int
    len: int
    source_dom: int
    source_ref: int
    source_offset: int
    dest_dom: int
    dest_ref: int
    dest_offset: int


class FileBytes(Protocol):
    """The bytes of domains' memory files."""

    def read(self, domid: int, at: int, size: int) -> bytes:
        """Return ``size`` bytes of a domain's file, from byte ``at`` on."""

    def write(self, domid: int, at: int, data: bytes) -> None:
        """Write bytes to a domain's file, from byte ``at`` on."""


def check(segments: Sequence[Segment]) -> None:
    """Check segments as the driver does before anything is copied (gntdev_grant_copy_seg).

    Raises:
        ModelError: EINVAL, neither end of a segment is a grant, or an end runs over the end of its page.
    """
    for index, segment in enumerate(segments):
        if not segment.flags & (SOURCE_GREF | DEST_GREF):
            raise ModelError(
                errno.EINVAL, f"segments[{index}]: flags is {segment.flags}: neither end is a grant", key="segments"
            )
        ends = ((SOURCE_GREF, segment.source_offset), (DEST_GREF, segment.dest_offset))
        for flag, offset in ends:
            if segment.flags & flag and offset + segment.len > PAGE_SIZE:
                raise ModelError(
                    errno.EINVAL,
                    f"segments[{index}]: bytes {offset} to {offset + segment.len}, and a page has {PAGE_SIZE}",
                    key="segments",
                )


def copy(machine: Machine, segment: Segment, own: bytes, memory: FileBytes) -> bytes:
    """Copy one segment.

    Args:
        machine: The machine.
        segment: A segment that ``check`` has accepted.
        own: The caller's bytes, when the source is no grant.
        memory: The guests' memory.

    Returns:
        The copied bytes when the destination is no grant, else no bytes.

    Raises:
        ModelError: EINVAL, a grant does not give it; the details have the status.
    """
    data = own
    if not segment.len:
        return b""
    if segment.flags & SOURCE_GREF:
        at = place(machine, segment, memory, writes=False)
        data = memory.read(segment.source_dom, at, segment.len)
    if segment.flags & DEST_GREF:
        memory.write(segment.dest_dom, place(machine, segment, memory, writes=True), data)
        data = b""
    return data


def place(machine: Machine, segment: Segment, memory: FileBytes, *, writes: bool) -> int:
    """Return at which byte of its domain's file an end of a segment lies.

    The reference to the frame is put before this returns, because no other request runs until the bytes are copied.
    """
    domid, ref, offset = segment[5:8] if writes else segment[2:5]
    domain = machine.domains.get(domid)
    if domain is None:
        raise refused(Status.BAD_DOMAIN, f"there is no domain {domid}", ref)
    gives: Granted = granted(
        machine, domain, ref, lambda at, size: memory.read(domid, at, size), writes=writes, whole=False
    )
    if offset < gives.start or offset + segment.len > gives.end:
        raise refused(Status.GENERAL_ERROR, f"grant {ref} gives bytes {gives.start} to {gives.end} of its page", ref)
    (mfn,), errors = foreign.get(machine, domid, [gives.frame], PROT_READ | (PROT_WRITE if writes else 0))
    if mfn == NO_FRAME or errors is not None:
        paged = errors is not None and errors[0] == -errno.ENOENT
        raise refused(
            Status.EAGAIN if paged else Status.BAD_PAGE, f"frame {gives.frame:#x} of domain {domid} is not there", ref
        )
    at = int(machine.frames.page[mfn]) * PAGE_SIZE + offset
    try:
        if writes and domain.alive:
            log_dirty.mark(machine, domid, int(machine.frames.gfn[mfn]), 1)
    finally:
        machine.put([mfn])
    return at
