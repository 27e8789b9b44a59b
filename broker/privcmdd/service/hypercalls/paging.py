# SPDX-License-Identifier: Apache-2.0
"""A pager's side of paging: it begins and ends by ``domctl``, moves frames by ``memory_op``, and reads its ring.

The ring is a page of the guest that the pager has mapped (xen/include/public/io/ring.h, vm_event.h): requests for
frames go in, as many as it has room for, and those that find no room are made again when the frame is looked for
once more.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.units import PAGE_SIZE
from privcmdd.service.hypercalls.layout import Bytes, Layout

if TYPE_CHECKING:
    from privcmdd.model.machine.domain import Domain
    from privcmdd.service.broker import Broker
    from privcmdd.service.hypercalls.call import Call

EVENT_OP: Final = Layout("struct xen_domctl_vm_event_op", ("op", "u32"), ("mode", "u32"), ("u", "u32"))
PAGING_OP: Final = Layout(
    "struct xen_mem_paging_op", ("op", "u8"), ("domain", "u16"), ("buffer", "u64"), ("gfn", "u64")
)
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
PAGING_MODE: Final = 1
RING_PARAM: Final = 27  # HVM_PARAM_PAGING_RING_PFN
INDEXES: Final = struct.Struct("<4I")  # req_prod, req_event, rsp_prod, rsp_event


def event_op(call: Call, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_vm_event_op``, for a pager: the answer is an event channel."""
    if values["mode"] != PAGING_MODE:
        raise call.unanswered("domctl", 56, f" of mode {values['mode']}")
    hypervisor = call.hypervisor
    if values["op"] == 0:
        return {**values, "u": hypervisor.enable_paging(domain.domid, domain.traits.params.get(RING_PARAM, 0))}
    if values["op"] == 1:
        hypervisor.disable_paging(domain.domid)
    elif values["op"] == 2:
        hypervisor.pager(domain.domid)
    else:
        raise ModelError(errno.ENOSYS, f"there is no vm_event_op {values['op']}")
    return values


def paging_op(call: Call, address: int) -> int:
    """``XENMEM_paging_op``: nominate a frame, evict it, or load it, from a page of the caller's when it gives one."""
    asked = call.memory.get(PAGING_OP, address)
    domain = call.domain(asked["domain"])
    hypervisor, gfn = call.hypervisor, asked["gfn"]
    hypervisor.pager(domain.domid)
    if asked["op"] == 0:
        hypervisor.nominate(domain.domid, gfn)
    elif asked["op"] == 1:
        hypervisor.evict(domain.domid, gfn)
    elif asked["op"] == 2:
        content = call.memory.read(asked["buffer"], PAGE_SIZE) if asked["buffer"] else None
        page = hypervisor.load(domain.domid, gfn)
        if content is not None:
            call.broker.backing.write(domain.domid, page, 0, content)
    else:
        raise ModelError(errno.ENOSYS, f"there is no paging_op {asked['op']}")
    return 0


def tell(broker: Broker, domid: int, gfn: int) -> None:
    """Put a request into the ring, unless the frame is asked for already or the ring is full."""
    domain = broker.hypervisor.domains.get(domid)
    if domain is None or domain.pager is None or gfn in domain.pager.asked:
        return
    page = domain.pager.ring_page
    produced, _, answered, _ = INDEXES.unpack(broker.backing.read(domid, page, 0, INDEXES.size))
    if (produced - answered) & 0xFFFF_FFFF >= RING_REQUESTS:
        return
    request = REQUEST.pack({"version": REQUEST_VERSION, "reason": REASON_PAGING}) + FRAME.pack({"gfn": gfn})
    offset = RING_OFFSET + produced % RING_REQUESTS * REQUEST_BYTES
    broker.backing.write(domid, page, offset, request)
    broker.backing.write(domid, page, 0, struct.pack("<I", (produced + 1) & 0xFFFF_FFFF))
    domain.pager.asked.add(gfn)
