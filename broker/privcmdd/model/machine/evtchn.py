# SPDX-License-Identifier: Apache-2.0
"""Event channels: the ports of every domain, domain 0 included (xen/common/event_channel.c).

A channel has two events, one for each end. The other end raises a port's own event. When the other end is closed and
a third port binds in its place, that port gets the same two events. So a client that notifies needs only the event,
and no notification passes through here.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine.effects import ChannelGone, Raised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from privcmdd.model.machine.effects import Effect

# Port numbers of a domain; number 0 is never used (EVTCHN_2L_NR_CHANNELS).
MOST_PORTS: Final = 4096
N_VIRQS: Final = 24
VIRQ_DOM_EXC: Final = 3
# The virtual interrupts that each vcpu binds for itself: timer, debug, profiler, PMU (virq_is_global).
VCPU_VIRQS: Final = frozenset({0, 1, 7, 13})


class PortState(StrEnum):
    """The states of a port that is not free."""

    UNBOUND = "unbound"
    INTERDOMAIN = "interdomain"
    VIRQ = "virq"


@dataclass(slots=True, eq=False)
class Port:
    """One end of a channel.

    Attributes:
        state: Its state.
        channel: The number of its channel; never used twice.
        side: Which of the channel's two events is the port's own.
        remote: The domain at the other end, or the domain that may bind there.
        remote_port: The port at the other end; 0 when there is none.
        virq: The virtual interrupt, when ``state`` is VIRQ.
        vcpu: The vcpu that is told of events.
        for_xen: The port is Xen's own, for a device model or a pager: the domain can neither close it nor send.
    """

    state: PortState
    channel: int
    side: int = 0
    remote: int = 0
    remote_port: int = 0
    virq: int = 0
    vcpu: int = 0
    for_xen: bool = False

    def is_virq(self, virq: int, vcpu: int) -> bool:
        """Return whether the port is bound to this virtual interrupt."""
        return self.state is PortState.VIRQ and (self.virq, self.vcpu) == (virq, vcpu)


class EventChannels:
    """The ports of all domains.

    Attributes:
        changes: Ports that were changed since the state was last kept, in order: the domid, the number, and the port as
            it was, None if it was free. None where no state is kept.
    """

    def __init__(self, emit: Callable[[Effect], None]) -> None:
        """Begin with the ports of domain 0, none of them in use.

        Args:
            emit: Takes the effects.
        """
        self._emit = emit
        self._last_channel = 0
        self.changes: list[tuple[int, int, Port | None]] | None = None
        self._tables: dict[int, dict[int, Port]] = {0: {}}
        self._entered: set[int] = set()

    def add(self, domid: int) -> None:
        """Make the empty port table of a new domain."""
        self._tables[domid] = {}

    def kept(self, domid: int) -> dict[int, Port]:
        """Return the ports of a domain as they are when the connections of domain 0 have ended."""
        return {
            number: replace(port, state=PortState.UNBOUND, remote_port=0)
            if port.state is PortState.INTERDOMAIN and port.remote == 0
            else port
            for number, port in self.ports(domid).items()
        }

    def enter(self, domid: int, ports: dict[int, Port]) -> None:
        """Make the port table of a domain, with the ports that it had before."""
        self._tables[domid] = ports
        self._entered.update(port.channel for port in ports.values())
        self._last_channel = max(self._last_channel, *(port.channel for port in ports.values()), 0)

    def first_used(self, channel: int) -> None:
        """Raise both events of a channel that was entered; they are new, and an event may have been sent before."""
        if channel in self._entered:
            self._entered.discard(channel)
            self._emit(Raised(channel, 0))
            self._emit(Raised(channel, 1))

    def remove(self, domid: int) -> None:
        """Close the ports of a domain that dies; no port of it can be bound from now on."""
        for number in list(self.ports(domid)):
            self._close(domid, number)
        del self._tables[domid]

    def reset(self, domid: int) -> None:
        """Close all ports of a domain except Xen's own (EVTCHNOP_reset).

        Raises:
            ModelError: ESRCH.
        """
        for number in [number for number, port in self.ports(domid).items() if not port.for_xen]:
            self._close(domid, number)

    def ports(self, domid: int) -> dict[int, Port]:
        """Return the ports of a domain that are in use, by number.

        Raises:
            ModelError: ESRCH, there is no such domain, or it is dying.
        """
        found = self._tables.get(domid)
        if found is None:
            raise ModelError(errno.ESRCH, f"there is no domain {domid} that could have event channels", dom=domid)
        return found

    def check_number(self, number: int) -> None:
        """Check a port's number.

        Raises:
            ModelError: EINVAL, no port has such a number.
        """
        if not 0 <= number < MOST_PORTS:
            raise ModelError(errno.EINVAL, f"port is {number}, a domain has ports below {MOST_PORTS}", key="port")

    def port(self, domid: int, number: int) -> Port:
        """Return a port that is in use.

        Raises:
            ModelError: ESRCH; EINVAL, the port is not in use.
        """
        found = self.ports(domid).get(number)
        if found is None:
            raise ModelError(errno.EINVAL, f"port {number} of domain {domid} is not in use", key="port", dom=domid)
        return found

    def alloc_unbound(self, domid: int, remote: int, vcpu: int = 0, *, for_xen: bool = False) -> int:
        """Take a port that another domain may bind to (EVTCHNOP_alloc_unbound), and return its number.

        Raises:
            ModelError: ESRCH; ENOSPC.
        """
        return self._take(domid, Port(PortState.UNBOUND, 0, remote=remote, vcpu=vcpu, for_xen=for_xen))

    def bind_interdomain(self, domid: int, remote: int, remote_port: int) -> int:
        """Take a port for the other end of an unbound port (EVTCHNOP_bind_interdomain), and return its number.

        The new port has an event at once, because an event may have been sent before it was bound.

        Raises:
            ModelError: ESRCH; EINVAL, the unbound port is not in use, bound already, or for another domain; ENOSPC.
        """
        there = self.port(remote, remote_port)
        if there.state is not PortState.UNBOUND or there.remote != domid:
            whom = f"domain {there.remote}" if there.state is PortState.UNBOUND else "nobody: it is in use"
            raise ModelError(
                errno.EINVAL, f"port {remote_port} of domain {remote} waits for {whom}", key="port", dom=remote
            )
        here = Port(PortState.INTERDOMAIN, there.channel, 1 - there.side, remote, remote_port)
        number = self._take(domid, here)
        self._note(remote, remote_port, replace(there))
        there.state = PortState.INTERDOMAIN
        there.remote_port = number
        self._emit(Raised(here.channel, here.side))
        return number

    def bind_virq(self, domid: int, virq: int, vcpu: int = 0) -> int:
        """Take a port for a virtual interrupt (EVTCHNOP_bind_virq), and return its number.

        In domain 0 several processes may bind the same interrupt, where Xen lets one bind it: several toolstacks may
        share a broker.

        Raises:
            ModelError: ESRCH; EINVAL, no such interrupt, or a global one on a vcpu other than 0; EEXIST; ENOSPC.
        """
        if not 0 <= virq < N_VIRQS or (virq not in VCPU_VIRQS and vcpu):
            raise ModelError(errno.EINVAL, f"there is no virtual interrupt {virq} of vcpu {vcpu}", key="virq")
        if domid and any(self._bound(domid, virq, vcpu)):
            raise ModelError(errno.EEXIST, f"virtual interrupt {virq} of domain {domid} is bound already", key="virq")
        return self._take(domid, Port(PortState.VIRQ, 0, virq=virq, vcpu=vcpu))

    def close(self, domid: int, number: int) -> None:
        """Close a port; the other end becomes unbound again (EVTCHNOP_close).

        Raises:
            ModelError: ESRCH; EINVAL, the port is not in use, or Xen's own.
        """
        if self.port(domid, number).for_xen:
            raise ModelError(errno.EINVAL, f"port {number} of domain {domid} is Xen's own", key="port")
        self._close(domid, number)

    def close_for_xen(self, domid: int, number: int) -> None:
        """Close a port that is Xen's own. A dying domain has no ports any more: then nothing happens."""
        if number in self._tables.get(domid, {}):
            self._close(domid, number)

    def send(self, domid: int, number: int) -> None:
        """Notify the other end (EVTCHNOP_send); when the port is unbound, nothing happens.

        Raises:
            ModelError: ESRCH; EINVAL, the port is not in use, Xen's own, or for a virtual interrupt.
        """
        port = self.port(domid, number)
        if port.for_xen or port.state is PortState.VIRQ:
            raise ModelError(
                errno.EINVAL, f"nobody can be notified through port {number} of domain {domid}", key="port"
            )
        if port.state is PortState.INTERDOMAIN:
            self._emit(Raised(port.channel, 1 - port.side))

    def raise_virq(self, domid: int, virq: int) -> None:
        """Raise the event of each port that a domain has bound to a virtual interrupt."""
        for port in self._bound(domid, virq, 0):
            self._emit(Raised(port.channel, port.side))

    def _bound(self, domid: int, virq: int, vcpu: int) -> Iterator[Port]:
        """Return the ports of a domain that are bound to a virtual interrupt."""
        return (port for port in self.ports(domid).values() if port.is_virq(virq, vcpu))

    def _take(self, domid: int, port: Port) -> int:
        table = self.ports(domid)
        if len(table) >= MOST_PORTS - 1:
            raise ModelError(errno.ENOSPC, f"domain {domid} has {MOST_PORTS} event channels, the most there may be")
        number = next(number for number in count(1) if number not in table)
        self._note(domid, number, None)
        if not port.channel:
            self._last_channel += 1
            port.channel = self._last_channel
        table[number] = port
        return number

    def _close(self, domid: int, number: int) -> None:
        port = self._tables[domid].pop(number)
        self._note(domid, number, port)
        if port.state is PortState.INTERDOMAIN:
            there = self._tables[port.remote][port.remote_port]
            self._note(port.remote, port.remote_port, replace(there))
            there.state = PortState.UNBOUND
            there.remote, there.remote_port = domid, 0
        else:
            self._emit(ChannelGone(port.channel))

    def has_channel(self, channel: int) -> bool:
        """Return whether a port belongs to this channel."""
        return any(port.channel == channel for table in self._tables.values() for port in table.values())

    def take_back(self, there: set[int], gone: set[int]) -> None:
        """Take back what is noted in ``changes``, the last change first.

        Args:
            there: Domains that are there again, with all their ports.
            gone: Domains that were made meanwhile, and are not there any more.
        """
        assert self.changes is not None
        made: set[int] = set()
        for domid in there:
            self._tables.setdefault(domid, {})
        for domid, number, before in reversed(self.changes):
            table = self._tables.get(domid, {})
            if before is not None:
                table[number] = before
            elif number in table:
                made.add(table.pop(number).channel)
        for domid in gone:
            self._tables.pop(domid, None)
        for channel in sorted(made):
            if not self.has_channel(channel):
                self._emit(ChannelGone(channel))

    def _note(self, domid: int, number: int, before: Port | None) -> None:
        """Note how a port was before it is changed; None: it was not in use."""
        if self.changes is not None:
            self.changes.append((domid, number, before))
