# SPDX-License-Identifier: Apache-2.0
"""``dm_op``: what a device model asks of its domain, a structure in the first of its buffers."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError, Unanswered
from privcmdd.service.hypercalls import dm_interrupts, dm_ioreq, dm_memory
from privcmdd.service.hypercalls.names import named
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from privcmdd.service.world import World

HEAD: Final = Layout("struct xen_dm_op", ("op", "u32"), ("pad", "u32"))
N_VCPUS: Final = Layout("struct xen_dm_op_nr_vcpus", ("vcpus", "u32"))


def device_model(world: World, domid: int, op: bytearray, more: Sequence[bytearray] = ()) -> int:
    """Perform the request in the first buffer, and write the answer into it; ``more`` are the other buffers. Returns 0.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is PV, or padding is not 0; EFAULT, the buffer is too short for what it
            asks; EOPNOTSUPP, there is no such request.
    """
    domain = world.machine.domain(domid)
    if not domain.kind.translated:
        raise ModelError(errno.EINVAL, f"domain {domid} is PV: it has no device model", dom=domid)
    if len(op) < HEAD.size:
        raise ModelError(errno.EFAULT, f"the first buffer has {len(op)} bytes, too few for a request", key="bufs")
    head = HEAD.unpack(op)
    if head["pad"]:
        raise ModelError(errno.EINVAL, f"pad of struct xen_dm_op is {head['pad']}, expected 0", key="bufs")
    found = REQUESTS.get(head["op"])
    if found is None:
        raise Unanswered(named("dm_op", head["op"]), errno=errno.EOPNOTSUPP)
    layout, do = found
    if len(op) < HEAD.size + layout.size:
        raise ModelError(errno.EFAULT, f"the first buffer is too short for DM_OP {head['op']}", key="bufs")
    values = layout.unpack(op, HEAD.size)
    if any(values["pad"]) if isinstance(values.get("pad"), bytes) else values.get("pad"):
        raise ModelError(errno.EINVAL, f"padding of DM_OP {head['op']} is not 0", key="bufs")
    op[HEAD.size : HEAD.size + layout.size] = layout.pack(do(world, domid, {**values, "more": more}))
    return 0


def operation_of(op: bytearray) -> str:
    """The name of the request in the first buffer, for people."""
    return named("dm_op", HEAD.unpack(op)["op"]) if len(op) >= HEAD.size else "dm_op"


def count_vcpus(world: World, domid: int, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DMOP_nr_vcpus``."""
    return {**values, "vcpus": world.machine.domain(domid).traits.max_vcpus}


# XEN_DMOP_* of xen/include/public/hvm/dm_op.h: the structure, and what is done. Each file has its own.
REQUESTS: Final[dict[int, tuple[Layout, Callable[[World, int, dict[str, Any]], dict[str, Any]]]]] = {
    **dm_ioreq.REQUESTS,
    **dm_interrupts.REQUESTS,
    **dm_memory.REQUESTS,
    20: (N_VCPUS, count_vcpus),
}
