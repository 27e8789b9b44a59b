# SPDX-License-Identifier: Apache-2.0
"""Event channels of domain 0's processes, and of guests for clients that may act for them.

A port of domain 0 belongs to the connection that took it, as a port of /dev/xen/evtchn belongs to an open file, and is
closed with it (drivers/xen/evtchn.c). A guest's port lives as long as the guest. Answers bring the two events of the
channel as descriptors: the port's own, which becomes readable, and that of the other end, to write to. So to notify the
other end takes no request to the broker.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.units import DOMID_FIRST_RESERVED
from privcmdd.service.lasting import Channel
from privcmdd.service.reply import WithDescriptors

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.model.machine.evtchn import EventChannels, Port
    from privcmdd.service.backing import Backing
    from privcmdd.service.session import Session
    from privcmdd.service.world import World

    Params = dict[str, Any]

# Descriptors that the broker holds for a channel: those of its two events.
CHANNEL_FDS: Final = 2


def take(world: World, session: Session, on: int, operation: Callable[[EventChannels], int]) -> WithDescriptors:
    """Take a port for domain 0 or for a guest, and answer with its number and events.

    Raises:
        ModelError: As the operation; EPERM; EDQUOT; ENOMEM, the host has no event to give.
    """
    channels = world.machine.events
    if on:
        session.check("write", on)
    number = operation(channels)
    if not on:
        session.ports.add(number)
    port = channels.port(on, number)
    try:
        make_events(world, session, port)
    except BaseException:
        give_up(world, session, on, number)
        raise
    return with_events(world.backing, port, {"port": number})


def make_events(world: World, session: Session, port: Port) -> None:
    """Make the events of a port's channel, unless they are there; the caller's uid pays while the channel exists.

    Raises:
        ModelError: EDQUOT; ENOMEM, the host has no event to give.
    """
    key = Channel(port.channel)
    if world.lasting.hold(key, session.uid_account, CHANNEL_FDS):
        try:
            world.backing.make_events(port.channel)
        except BaseException:
            world.let_go(key)
            raise
        world.machine.events.first_used(port.channel)


def with_events(backing: Backing, port: Port, result: Params) -> WithDescriptors:
    """An answer that brings a port's own event, and that of the other end, as descriptors."""

    def events() -> tuple[int, ...]:
        pair = backing.events(port.channel)
        return pair if port.side == 0 else pair[::-1]

    return WithDescriptors(result, events)


def own(channels: EventChannels, session: Session, on: int, number: int) -> Port:
    """A port that a connection may use.

    Raises:
        ModelError: EPERM; ESRCH; EINVAL, the port is not in use; ENOTCONN, another connection has it.
    """
    if on:
        session.check("write", on)
    elif number not in session.ports:
        raise ModelError(errno.ENOTCONN, f"port {number} is none of this connection's", key="port")
    return channels.port(on, number)


def give_up(world: World, session: Session, on: int, number: int) -> None:
    """Close a port."""
    world.machine.events.close(on, number)
    if not on:
        session.ports.discard(number)


def leave(world: World, session: Session) -> None:
    """Close the ports of a connection that ends."""
    for number in list(session.ports):
        give_up(world, session, 0, number)


def check_unrestricted(session: Session, domid: int | None) -> None:
    """Check that a connection may bind to ports of a domain: after ``evtchn.restrict`` only to those of one domain.

    Raises:
        ModelError: EACCES, as Linux' driver answers.
    """
    if session.events_of not in (None, domid):
        raise ModelError(
            errno.EACCES, f"this connection is restricted to event channels of domain {session.events_of}", dom=domid
        )


def alloc_unbound(world: World, session: Session, params: Params) -> WithDescriptors:
    """``evtchn.alloc_unbound``: a port that another domain may bind to."""
    on, remote = params["on"], params["remote"]
    if not on:
        check_unrestricted(session, None)
        session.check("write", remote)
    return take(world, session, on, lambda channels: channels.alloc_unbound(on, remote))


def bind_interdomain(world: World, session: Session, params: Params) -> WithDescriptors:
    """``evtchn.bind_interdomain``: bind to a port of another domain."""
    on, dom, port = params["on"], params["dom"], params["port"]
    if not on:
        check_unrestricted(session, dom)
        session.check("write", dom)
    return take(world, session, on, lambda channels: channels.bind_interdomain(on, dom, port))


def bind_virq(world: World, session: Session, params: Params) -> WithDescriptors:
    """``evtchn.bind_virq``: a port for a virtual interrupt."""
    on, virq, vcpu = params["on"], params["virq"], params["vcpu"]
    if not on:
        check_unrestricted(session, None)
        session.check("admin", None)
        ports = world.machine.events.ports(0)
        if any(ports[number].is_virq(virq, vcpu) for number in session.ports):
            raise ModelError(errno.EEXIST, f"this connection has bound virtual interrupt {virq} already", key="virq")
    return take(world, session, on, lambda channels: channels.bind_virq(on, virq, vcpu))


def attach(world: World, session: Session, params: Params) -> WithDescriptors:
    """``evtchn.attach``: the events of a port that exists already."""
    port = own(world.machine.events, session, params["on"], params["port"])
    make_events(world, session, port)
    return with_events(world.backing, port, {})


def close(world: World, session: Session, params: Params) -> Params:
    """``evtchn.close``: close a port."""
    own(world.machine.events, session, params["on"], params["port"])
    give_up(world, session, params["on"], params["port"])
    return {}


def notify(world: World, session: Session, params: Params) -> Params:
    """``evtchn.notify``: raise the event of the other end, for a client without its descriptor."""
    own(world.machine.events, session, params["on"], params["port"])
    world.machine.events.send(params["on"], params["port"])
    return {}


def pending(world: World, session: Session, params: Params) -> Params:
    """``evtchn.pending``: whether the port's event is raised, and clear it; for a client without its descriptor."""
    port = own(world.machine.events, session, params["on"], params["port"])
    return {"pending": world.backing.take_event(port.channel, port.side)}


def list_ports(world: World, session: Session, params: Params) -> Params:
    """``evtchn.list``: the ports of a domain; of domain 0, those of the connection."""
    on = params["on"]
    if on:
        session.check("read", on)
    ports = world.machine.events.ports(on)
    return {"ports": [row(number, port) for number, port in sorted(ports.items()) if on or number in session.ports]}


def row(number: int, port: Port) -> Params:
    """A port as lists show it."""
    return {
        "port": number,
        "state": port.state,
        "dom": port.remote,
        "remote_port": port.remote_port,
        "virq": port.virq,
        "vcpu": port.vcpu,
        "for_xen": port.for_xen,
    }


def restrict(_: World, session: Session, params: Params) -> Params:
    """``evtchn.restrict``: from now on bind only to ports of one domain (IOCTL_EVTCHN_RESTRICT_DOMID)."""
    dom = params["dom"]
    if session.events_of is not None:
        raise ModelError(
            errno.EACCES, f"this connection is restricted to event channels of domain {session.events_of} already"
        )
    if not 0 < dom < DOMID_FIRST_RESERVED:
        raise ModelError(errno.EINVAL, f"dom is {dom:#x}, and only a guest can be restricted to", key="dom")
    session.events_of = dom
    return {}


HANDLERS: Final = {
    "evtchn.alloc_unbound": alloc_unbound,
    "evtchn.bind_interdomain": bind_interdomain,
    "evtchn.bind_virq": bind_virq,
    "evtchn.attach": attach,
    "evtchn.close": close,
    "evtchn.notify": notify,
    "evtchn.pending": pending,
    "evtchn.list": list_ports,
    "evtchn.restrict": restrict,
}
