# SPDX-License-Identifier: Apache-2.0
"""A pager's side of paging: it begins and ends by ``domctl``, and moves frames by ``memory_op``.

A ring tells it which frames are wanted: see ``service.vm_event``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.machine import paging
from privcmdd.model.units import PAGE_SIZE
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from privcmdd.model.machine.domain import Domain
    from privcmdd.service.hypercalls.context import Hypercall

EVENT_OP: Final = Layout("struct xen_domctl_vm_event_op", ("op", "u32"), ("mode", "u32"), ("u", "u32"))
PAGING_OP: Final = Layout(
    "struct xen_mem_paging_op", ("op", "u8"), ("domain", "u16"), ("buffer", "u64"), ("gfn", "u64")
)
PAGING_MODE: Final = 1
RING_PARAM: Final = 27  # HVM_PARAM_PAGING_RING_PFN


def event_op(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_vm_event_op``, for a pager: the answer is an event channel."""
    if values["mode"] != PAGING_MODE:
        raise call.unanswered(f" of mode {values['mode']}")
    machine = call.machine
    if values["op"] == 0:
        return {**values, "u": paging.enable(machine, domain.domid, domain.traits.params.get(RING_PARAM, 0))}
    if values["op"] == 1:
        paging.disable(machine, domain.domid)
    elif values["op"] == 2:
        paging.pager_of(machine, domain.domid)
    else:
        raise call.unanswered(f" {values['op']}")
    return values


def paging_op(call: Hypercall, address: int) -> int:
    """``XENMEM_paging_op``: nominate a frame, evict it, or load it, from a page of the caller's when it gives one."""
    asked = call.memory.get(PAGING_OP, address)
    domain = call.domain(asked["domain"])
    machine, gfn = call.machine, asked["gfn"]
    paging.pager_of(machine, domain.domid)
    if asked["op"] == 0:
        paging.nominate(machine, domain.domid, gfn)
    elif asked["op"] == 1:
        paging.evict(machine, domain.domid, gfn)
    elif asked["op"] == 2:
        content = call.memory.read(asked["buffer"], PAGE_SIZE) if asked["buffer"] else None
        page = paging.load(machine, domain.domid, gfn)
        if content is not None:
            call.world.backing.write(domain.domid, page, 0, content)
    else:
        raise call.unanswered(f" {asked['op']}")
    return 0
