# SPDX-License-Identifier: Apache-2.0
"""The ring through which a pager is asked for frames (xen/include/public/io/ring.h, vm_event.h).

The ring is a page of the guest that the pager has mapped. A request that finds the ring full is dropped; it is made
again when the frame is next looked up.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from privcmdd.model.machine import paging
from privcmdd.service.layout import Bytes, Layout

if TYPE_CHECKING:
    from privcmdd.model.machine.machine import Machine
    from privcmdd.service.backing import Backing

FRAME: Final = Layout("struct vm_event_paging", ("gfn", "u64"), ("p2mt", "u32"), ("flags", "u32"))
REQUEST: Final = Layout(
    "struct vm_event_st",
    ("version", "u32"),
    ("flags", "u32"),
    ("reason", "u32"),
    ("vcpu_id", "u32"),
    ("altp2m_idx", "u16"),
    ("_pad", Bytes(6)),
)
REQUEST_BYTES: Final = 400
RING_OFFSET: Final = 64
RING_REQUESTS: Final = 8
REASON_PAGING: Final = 3
REQUEST_VERSION: Final = 7
INDEXES: Final = struct.Struct("<4I")  # req_prod, req_event, rsp_prod, rsp_event


def tell(machine: Machine, backing: Backing, domid: int, gfn: int) -> None:
    """Put a request for a frame into the ring, unless it is there already or the ring is full."""
    domain = machine.domains.get(domid)
    if domain is None or domain.pager is None or gfn in domain.pager.asked:
        return
    page = domain.pager.ring_page
    produced, _, answered, _ = INDEXES.unpack(backing.read(domid, page, 0, INDEXES.size))
    if (produced - answered) & 0xFFFF_FFFF >= RING_REQUESTS:
        return
    request = REQUEST.pack({"version": REQUEST_VERSION, "reason": REASON_PAGING}) + FRAME.pack({"gfn": gfn})
    offset = RING_OFFSET + produced % RING_REQUESTS * REQUEST_BYTES
    backing.write(domid, page, offset, request)
    backing.write(domid, page, 0, struct.pack("<I", (produced + 1) & 0xFFFF_FFFF))
    paging.note_asked(machine, domid, gfn)
