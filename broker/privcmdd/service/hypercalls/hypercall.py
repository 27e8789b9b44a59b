# SPDX-License-Identifier: Apache-2.0
"""Hypercalls: Xen's own interface, as far as tools and device models ask for it.

Arguments are C structures in the caller's hypercall buffers; they are decoded here and nowhere else. Whatever
bytes a caller puts there, the answer is a value or a negative errno.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.service.hypercalls.call import Call
from privcmdd.service.hypercalls.domctl import domctl as do_domctl
from privcmdd.service.hypercalls.events import event_channel_op as do_event_channel_op
from privcmdd.service.hypercalls.grant_table_op import grant_table_op as do_grant_table_op
from privcmdd.service.hypercalls.hvm_op import hvm_op as do_hvm_op
from privcmdd.service.hypercalls.memory import CallerMemory
from privcmdd.service.hypercalls.memory_op import memory_op as do_memory_op
from privcmdd.service.hypercalls.mmuext_op import mmuext_op as do_mmuext_op
from privcmdd.service.hypercalls.multicall import NUMBER as MULTICALL
from privcmdd.service.hypercalls.multicall import multicall as do_multicall
from privcmdd.service.hypercalls.sched_op import sched_op as do_sched_op
from privcmdd.service.hypercalls.sysctl import sysctl as do_sysctl
from privcmdd.service.hypercalls.version import xen_version as do_xen_version
from privcmdd.service.methods.privcmd import check_file
from privcmdd.wire.limits import HYPERCALL_BYTES

if TYPE_CHECKING:
    from privcmdd.service.broker import Broker
    from privcmdd.service.hypercalls.call import Handler
    from privcmdd.service.processes import Residence
    from privcmdd.service.session import Session

ARGUMENTS: Final = struct.Struct("<5Q")

# __HYPERVISOR_* of xen/include/public/xen.h.
TABLE: Final[dict[int, Handler]] = {
    12: do_memory_op,
    17: do_xen_version,
    20: do_grant_table_op,
    26: do_mmuext_op,
    29: do_sched_op,
    32: do_event_channel_op,
    34: do_hvm_op,
    35: do_sysctl,
    36: do_domctl,
}


def hypercall(broker: Broker, session: Session, params: dict[str, Any]) -> dict[str, Any]:
    """``privcmd.hypercall``: any refusal but that of the driver is the hypercall's value."""
    residence: Residence = broker.residence(session)
    if params["file"]:
        check_file(residence, None, params["file"])
    if session.restricted_to is not None:
        raise ModelError(
            errno.EPERM, f"this connection is restricted to domain {session.restricted_to}: no hypercalls", key="op"
        )
    if len(params["arg"]) != HYPERCALL_BYTES:
        raise ModelError(
            errno.EINVAL, f"arg holds {len(params['arg'])} bytes, expected {HYPERCALL_BYTES}: five u64", key="arg"
        )
    memory = CallerMemory(residence.space, broker.backing, params["lent_addr"], params["lent"] or b"")
    ret = perform(Call(broker, session, memory), params["op"], ARGUMENTS.unpack(params["arg"]))
    if ret == -errno.EFAULT and memory.wanted is not None:
        return {"ret": ret, "want_addr": memory.wanted[0], "want_bytes": memory.wanted[1]}
    return {"ret": ret}


def perform(call: Call, number: int, arguments: tuple[int, ...]) -> int:
    """Do one hypercall.

    Returns:
        Its value, or a negative errno.
    """
    try:
        if number == MULTICALL:
            return do_multicall(call, arguments, perform)
        handler = TABLE.get(number)
        if handler is None:
            raise call.unanswered("hypercall", number)
        return handler(call, arguments)
    except ModelError as refusal:
        return -refusal.errno


HANDLERS: Final = {"privcmd.hypercall": hypercall}
