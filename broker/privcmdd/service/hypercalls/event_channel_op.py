# SPDX-License-Identifier: Apache-2.0
"""``event_channel_op``: what a toolstack does for domains, and the state of any port.

Only its kernel takes and closes ports of domain 0; processes use /dev/xen/evtchn for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.machine.evtchn import PortState
from privcmdd.model.units import DOMID_SELF
from privcmdd.service.hypercalls.context import is_self
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.service.hypercalls.context import Hypercall

ALLOC_UNBOUND: Final = Layout("struct evtchn_alloc_unbound", ("dom", "u16"), ("remote_dom", "u16"), ("port", "u32"))
STATUS: Final = Layout(
    "struct evtchn_status",
    ("dom", "u16"),
    ("port", "u32"),
    ("status", "u32"),
    ("vcpu", "u32"),
    ("u", Layout("", ("first", "u32"), ("second", "u32"))),
)
RESET: Final = Layout("struct evtchn_reset", ("dom", "u16"))
# EVTCHNSTAT_*; a port that is not in use has 0.
STATUSES: Final = {PortState.UNBOUND: 1, PortState.INTERDOMAIN: 2, PortState.VIRQ: 4}


def event_channel_op(call: Hypercall, arguments: tuple[int, ...]) -> int:
    """The subcommand is the first argument.

    Raises:
        ModelError: As the subcommand; EFAULT; ENOSYS.
    """
    command, address = arguments[:2]
    layout, do = call.find("event_channel_op", command, COMMANDS)
    asked = call.memory.get(layout, address)
    call.memory.check(address, layout.size)
    call.memory.put(layout, address, do(call, asked))
    return 0


def alloc_unbound(call: Hypercall, asked: dict[str, Any]) -> dict[str, Any]:
    """``EVTCHNOP_alloc_unbound``: the port is the answer."""
    if is_self(asked["dom"]):
        raise call.unanswered(" of dom0")
    domain = call.domain(asked["dom"])
    remote = 0 if asked["remote_dom"] == DOMID_SELF else asked["remote_dom"]
    return {**asked, "port": call.machine.events.alloc_unbound(domain.domid, remote)}


def status(call: Hypercall, asked: dict[str, Any]) -> dict[str, Any]:
    """``EVTCHNOP_status``: what a port is for."""
    domid = 0 if is_self(asked["dom"]) else call.domain(asked["dom"]).domid
    port = call.machine.events.ports(domid).get(asked["port"])
    if port is None:
        call.machine.events.check_number(asked["port"])
        return {**asked, "status": 0}
    told = {"first": port.virq if port.state is PortState.VIRQ else port.remote, "second": port.remote_port}
    return {**asked, "status": STATUSES[port.state], "vcpu": port.vcpu, "u": told}


def reset(call: Hypercall, asked: dict[str, Any]) -> dict[str, Any]:
    """``EVTCHNOP_reset``: close all ports of a domain."""
    if is_self(asked["dom"]):
        raise call.unanswered(" of dom0")
    call.machine.events.reset(call.domain(asked["dom"]).domid)
    return asked


# EVTCHNOP_* of xen/include/public/event_channel.h: the structure, and what is done.
COMMANDS: Final[dict[int, tuple[Layout, Callable[[Hypercall, dict[str, Any]], dict[str, Any]]]]] = {
    5: (STATUS, status),
    6: (ALLOC_UNBOUND, alloc_unbound),
    10: (RESET, reset),
}
