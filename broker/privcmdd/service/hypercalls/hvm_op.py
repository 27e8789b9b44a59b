# SPDX-License-Identifier: Apache-2.0
"""``hvm_op``: parameters of HVM and PVH domains."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import lifecycle, p2m
from privcmdd.service.hypercalls.names import named
from privcmdd.service.layout import Bytes, Layout

if TYPE_CHECKING:
    from privcmdd.service.hypercalls.context import Hypercall

PARAM: Final = Layout("struct xen_hvm_param", ("domid", "u16"), ("pad", "u16"), ("index", "u32"), ("value", "u64"))
MEM_TYPE: Final = Layout(
    "struct xen_hvm_get_mem_type", ("domid", "u16"), ("mem_type", "u16"), ("pad", Bytes(4)), ("pfn", "u64")
)
SET_PARAM: Final = 0
GET_PARAM: Final = 1
GET_MEM_TYPE: Final = 15
N_PARAMS: Final = 39  # HVM_NR_PARAMS


def hvm_op(call: Hypercall, arguments: tuple[int, ...]) -> int:
    """The subcommand is the first argument.

    Raises:
        ModelError: EFAULT; EPERM; ESRCH; EINVAL, the domain is PV, or there is no such parameter; ENOSYS.
    """
    command, address = arguments[:2]
    call.operation = named("hvm_op", command)
    if command in (SET_PARAM, GET_PARAM):
        return param(call, address, is_set=command == SET_PARAM)
    if command == GET_MEM_TYPE:
        return mem_type(call, address)
    raise call.unanswered()


def param(call: Hypercall, address: int, *, is_set: bool) -> int:
    """``HVMOP_set_param`` and ``HVMOP_get_param``."""
    asked = call.memory.get(PARAM, address)
    if asked["index"] >= N_PARAMS:
        raise ModelError(errno.EINVAL, f"there are {N_PARAMS} parameters, asked for {asked['index']}")
    domain = call.domain(asked["domid"])
    if not domain.kind.translated:
        raise ModelError(errno.EINVAL, f"domain {domain.domid} is PV: it has no such parameters")
    if is_set:
        lifecycle.set_param(call.machine, domain.domid, asked["index"], asked["value"])
    else:
        call.memory.put(PARAM, address, {**asked, "value": domain.traits.params.get(asked["index"], 0)})
    return 0


def mem_type(call: Hypercall, address: int) -> int:
    """``HVMOP_get_mem_type``: RAM, or left to the device model."""
    asked = call.memory.get(MEM_TYPE, address)
    domain = call.domain(asked["domid"])
    if not domain.kind.translated:
        raise ModelError(errno.EINVAL, f"domain {domain.domid} is PV: its memory has no types")
    call.memory.put(MEM_TYPE, address, {**asked, "mem_type": p2m.mem_type(call.machine, domain.domid, asked["pfn"])})
    return 0
