# SPDX-License-Identifier: Apache-2.0
"""The table of hypercalls, and performing one.

Arguments are C structures in the caller's hypercall buffers; only the files of this directory decode them. Whatever
bytes a caller puts there, the answer is a value or a negative errno.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.service.hypercalls.domctl import domctl as do_domctl
from privcmdd.service.hypercalls.event_channel_op import event_channel_op as do_event_channel_op
from privcmdd.service.hypercalls.grant_table_op import grant_table_op as do_grant_table_op
from privcmdd.service.hypercalls.hvm_op import hvm_op as do_hvm_op
from privcmdd.service.hypercalls.memory_op import memory_op as do_memory_op
from privcmdd.service.hypercalls.mmuext_op import mmuext_op as do_mmuext_op
from privcmdd.service.hypercalls.multicall import NUMBER as MULTICALL
from privcmdd.service.hypercalls.multicall import multicall as do_multicall
from privcmdd.service.hypercalls.sched_op import sched_op as do_sched_op
from privcmdd.service.hypercalls.sysctl import sysctl as do_sysctl
from privcmdd.service.hypercalls.xen_version import xen_version as do_xen_version

if TYPE_CHECKING:
    from privcmdd.service.hypercalls.context import Handler, Hypercall


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


def perform(call: Hypercall, number: int, arguments: tuple[int, ...]) -> int:
    """Perform a hypercall.

    Returns:
        Its value, or a negative errno.
    """
    call.domid = None
    try:
        if number == MULTICALL:
            return do_multicall(call, arguments, perform)
        return call.find("hypercall", number, TABLE)(call, arguments)
    except ModelError as refusal:
        return call.refused(refusal)
