# SPDX-License-Identifier: Apache-2.0
"""``dm_op``: what a device model asks of its domain, a structure in the first of its buffers."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.service.hypercalls.layout import Bytes, Layout
from privcmdd.wire.limits import DM_OP_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from privcmdd.service.broker import Broker

HEAD: Final = Layout("struct xen_dm_op", ("op", "u32"), ("pad", "u32"))
CREATE: Final = Layout(
    "struct xen_dm_op_create_ioreq_server", ("handle_bufioreq", "u8"), ("pad", Bytes(3)), ("id", "u16")
)
DESTROY: Final = Layout("struct xen_dm_op_destroy_ioreq_server", ("id", "u16"), ("pad", "u16"))
MEM_TYPE: Final = Layout(
    "struct xen_dm_op_set_mem_type", ("nr", "u32"), ("mem_type", "u16"), ("pad", "u16"), ("first_pfn", "u64")
)
MODIFIED: Final = Layout("struct xen_dm_op_modified_memory", ("nr_extents", "u32"), ("opaque", "u32"))
EXTENT: Final = Layout("struct xen_dm_op_modified_memory_extent", ("nr", "u32"), ("pad", "u32"), ("first_pfn", "u64"))
N_VCPUS: Final = Layout("struct xen_dm_op_nr_vcpus", ("vcpus", "u32"))


def device_model(broker: Broker, domid: int, op: bytearray, more: Sequence[bytes] = ()) -> int:
    """Do what the first buffer says, and write the answer into it; ``more`` are the others.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is PV, or padding is not 0; EFAULT, the buffer is too short for what it
            asks; EOPNOTSUPP, there is no such request.
    """
    domain = broker.hypervisor.domain(domid)
    if not domain.kind.translated:
        raise ModelError(errno.EINVAL, f"domain {domid} is PV: it has no device model", dom=domid)
    if len(op) < HEAD.size:
        raise ModelError(errno.EFAULT, f"the first buffer has {len(op)} bytes, too few for a request", key="bufs")
    head = HEAD.unpack(op)
    if head["pad"]:
        raise ModelError(errno.EINVAL, f"pad of struct xen_dm_op is {head['pad']}, expected 0", key="bufs")
    found = REQUESTS.get(head["op"])
    if found is None:
        raise ModelError(errno.EOPNOTSUPP, f"there is no DM_OP {head['op']}", op=head["op"])
    layout, do = found
    if len(op) < HEAD.size + layout.size:
        raise ModelError(errno.EFAULT, f"the first buffer is too short for DM_OP {head['op']}", key="bufs")
    values = layout.unpack(op, HEAD.size)
    if any(values["pad"]) if isinstance(values.get("pad"), bytes) else values.get("pad"):
        raise ModelError(errno.EINVAL, f"padding of DM_OP {head['op']} is not 0", key="bufs")
    op[HEAD.size : HEAD.size + layout.size] = layout.pack(do(broker, domid, {**values, "more": more}))
    return 0


def create_ioreq_server(broker: Broker, domid: int, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DMOP_create_ioreq_server``: the id is the answer."""
    return {**values, "id": broker.hypervisor.create_ioreq_server(domid, values["handle_bufioreq"])}


def destroy_ioreq_server(broker: Broker, domid: int, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DMOP_destroy_ioreq_server``."""
    broker.hypervisor.destroy_ioreq_server(domid, values["id"])
    return values


def set_mem_type(broker: Broker, domid: int, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DMOP_set_mem_type``."""
    if values["nr"] > broker.settings.limits.frames_per_batch:
        raise ModelError(errno.E2BIG, f"{values['nr']} pages in one request", key="bufs")
    broker.hypervisor.set_mem_type(domid, values["mem_type"], values["first_pfn"], values["nr"])
    return values


def modified_memory(broker: Broker, domid: int, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DMOP_modified_memory``: what the device model wrote, for log-dirty mode; extents in the second buffer."""
    n, more = values["nr_extents"], values["more"]
    if values["opaque"] or n * EXTENT.size > DM_OP_BYTES:
        raise ModelError(errno.EINVAL, f"{n} extents, or opaque is {values['opaque']} and not 0", key="bufs")
    if not more or len(more[0]) < n * EXTENT.size:
        raise ModelError(errno.EINVAL, f"there are no {n} extents in the second buffer", key="bufs")
    extents = [EXTENT.unpack(more[0], index * EXTENT.size) for index in range(n)]
    if any(extent["pad"] or extent["first_pfn"] + extent["nr"] > 1 << 52 for extent in extents):
        raise ModelError(errno.EINVAL, "padding of an extent is not 0, or it ends nowhere", key="bufs")
    for extent in extents:
        broker.hypervisor.mark_dirty(domid, extent["first_pfn"], extent["nr"])
    return values


def count_vcpus(broker: Broker, domid: int, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DMOP_nr_vcpus``."""
    return {**values, "vcpus": broker.hypervisor.domain(domid).traits.max_vcpus}


# XEN_DMOP_* of xen/include/public/hvm/dm_op.h: the structure, and what is done.
REQUESTS: Final[dict[int, tuple[Layout, Callable[[Broker, int, dict[str, Any]], dict[str, Any]]]]] = {
    1: (CREATE, create_ioreq_server),
    6: (DESTROY, destroy_ioreq_server),
    11: (MODIFIED, modified_memory),
    12: (MEM_TYPE, set_mem_type),
    20: (N_VCPUS, count_vcpus),
}
