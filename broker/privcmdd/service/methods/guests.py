# SPDX-License-Identifier: Apache-2.0
"""Methods for a program that plays a guest: where the guest's requests go, and its interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.machine.records import RangeType

if TYPE_CHECKING:
    from privcmdd.model.machine.records import IoreqServer
    from privcmdd.service.session import Session
    from privcmdd.service.world import World

    Params = dict[str, Any]


def servers(world: World, session: Session, params: Params) -> Params:
    """``ioreq.servers``: the ioreq servers of a domain, by number."""
    session.check("read", params["dom"])
    known = world.machine.domain(params["dom"]).ioreq_servers
    return {"servers": [server_row(number, known[number]) for number in sorted(known)]}


def server_row(number: int, server: IoreqServer) -> Params:
    """An ioreq server as lists show it."""
    ranges = {kind.name.lower(): [list(pair) for pair in server.ranges[kind]] for kind in RangeType}
    return {
        "id": number,
        "enabled": server.enabled,
        "bufioreq": server.bufioreq,
        "bufioreq_port": server.bufioreq_port,
        "ports": server.ports,
        "ranges": ranges,
    }


def interrupts(world: World, session: Session, params: Params) -> Params:
    """``guest.interrupts``: the interrupt lines of a domain, and the message-signalled interrupts it was sent."""
    session.check("read", params["dom"])
    lines = world.machine.domain(params["dom"]).interrupts
    return {
        "n_changes": lines.n_changes,
        "isa": lines.asserted(),
        "intx": [{"device": device, "pin": pin} for device, pin in sorted(lines.intx)],
        "routes": lines.routes,
        "msis": [msi._asdict() for msi in lines.msis if msi.number > params["after"]],
    }


HANDLERS: Final = {"ioreq.servers": servers, "guest.interrupts": interrupts}
