# SPDX-License-Identifier: Apache-2.0
"""``event_channel_op``: ports of domains, as domain builders make them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.service.hypercalls.call import is_self
from privcmdd.service.hypercalls.layout import Layout

if TYPE_CHECKING:
    from privcmdd.service.hypercalls.call import Call

ALLOC_UNBOUND: Final = Layout("struct evtchn_alloc_unbound", ("dom", "u16"), ("remote_dom", "u16"), ("port", "u32"))
# Ports of a domain (EVTCHN_2L_NR_CHANNELS).
MOST_PORTS: Final = 4096


def event_channel_op(call: Call, arguments: tuple[int, ...]) -> int:
    """The subcommand is the first argument.

    Raises:
        ModelError: As the subcommand; ENOSYS.
    """
    command, address = arguments[:2]
    if command != 6:
        raise call.unanswered(f"event_channel_op {command}")
    asked = call.memory.get(ALLOC_UNBOUND, address)
    if is_self(asked["dom"]):
        raise call.unanswered("event_channel_op 6 of dom0")
    domain = call.domain(asked["dom"])
    call.memory.check(address, ALLOC_UNBOUND.size)
    if domain.traits.n_ports >= MOST_PORTS - 1:
        raise ModelError(errno.ENOSPC, f"domain {domain.domid} has {MOST_PORTS} event channels, the most there may be")
    domain.traits.n_ports += 1
    call.memory.put(ALLOC_UNBOUND, address, {**asked, "port": domain.traits.n_ports})
    return 0
