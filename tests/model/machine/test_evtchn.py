# SPDX-License-Identifier: Apache-2.0
"""Event channels beside a naive picture of them: who is at the other end, and whose event is raised."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import evtchn
from privcmdd.model.machine.effects import ChannelGone, Effect, Raised
from privcmdd.model.machine.evtchn import MOST_PORTS, EventChannels, PortState
from support.profiles import PROFILE

domids = st.integers(0, 3)
numbers = st.integers(0, 6)


@dataclass(eq=False)
class End:
    """One end, as people draw it: whose it is, who is at the other end or may come there."""

    dom: int
    port: int
    for_dom: int = 0
    peer: End | None = None
    virq: int | None = None
    for_xen: bool = False


class Channels(RuleBasedStateMachine):
    """Domains come and go, ports are taken and closed, everybody notifies."""

    def __init__(self) -> None:
        super().__init__()
        self.effects: list[Effect] = []
        self.real = EventChannels(self.effects.append)
        self.doms: set[int] = {0}
        self.ends: list[End] = []

    def end(self, dom: int, port: int) -> End | None:
        return next((end for end in self.ends if (end.dom, end.port) == (dom, port)), None)

    def raised(self) -> list[tuple[int, int]]:
        return [(e.channel, e.side) for e in self.effects if isinstance(e, Raised)]

    def taken(self, dom: int, port: int) -> End:
        """The number must be the lowest that is free."""
        assert port == min(set(range(1, 99)) - {end.port for end in self.ends if end.dom == dom})
        made = End(dom, port)
        self.ends.append(made)
        return made

    def ask(self, dom: int, method: str, *args: int, errno: str | None, **named: bool) -> int | None:
        """Do it; the errno must be the expected one, of a domain that is there."""
        self.effects.clear()
        try:
            answer: int | None = getattr(self.real, method)(dom, *args, **named)
        except ModelError as error:
            assert error.name == errno or dom not in self.doms, error
            assert self.effects == []
            return None
        assert dom in self.doms
        assert errno is None
        return answer

    @rule(dom=st.integers(1, 3))
    def make_or_destroy(self, dom: int) -> None:
        if dom not in self.doms:
            self.real.add(dom)
            self.doms.add(dom)
            return
        self.real.remove(dom)
        self.doms.remove(dom)
        for end in [end for end in self.ends if end.dom == dom]:
            self.forget(end)

    def forget(self, end: End) -> None:
        self.ends.remove(end)
        if end.peer is not None:
            end.peer.for_dom, end.peer.peer = end.dom, None

    @rule(dom=domids, remote=domids, for_xen=st.booleans())
    def alloc_unbound(self, dom: int, remote: int, for_xen: bool) -> None:
        port = self.ask(dom, "alloc_unbound", remote, errno=None, for_xen=for_xen)
        if port is not None:
            made = self.taken(dom, port)
            made.for_dom, made.for_xen = remote, for_xen

    @rule(dom=domids, remote=domids, port=numbers)
    def bind(self, dom: int, remote: int, port: int) -> None:
        there = self.end(remote, port)
        free = there is not None and there.peer is None and there.virq is None and there.for_dom == dom
        expected = None if free else "EINVAL" if remote in self.doms else "ESRCH"
        number = self.ask(dom, "bind_interdomain", remote, port, errno=expected)
        if number is not None:
            assert there is not None
            made = self.taken(dom, number)
            made.peer, there.peer = there, made
            here = self.real.port(dom, number)
            assert self.raised() == [(here.channel, here.side)], "the new end is pending, and nobody else"

    @rule(dom=domids, virq=st.sampled_from([0, 3, 24]), vcpu=st.integers(0, 1))
    def bind_virq(self, dom: int, virq: int, vcpu: int) -> None:
        known = virq == 0 or (virq == 3 and not vcpu)
        number = 10 * virq + vcpu
        bound = dom and any(end.dom == dom and end.virq == number for end in self.ends)
        port = self.ask(
            dom, "bind_virq", virq, vcpu, errno=None if known and not bound else "EEXIST" if known else "EINVAL"
        )
        if port is not None:
            self.taken(dom, port).virq = number

    @rule(dom=domids, port=numbers)
    def close(self, dom: int, port: int) -> None:
        end = self.end(dom, port)
        fine = end is not None and not end.for_xen
        was = self.real.ports(dom).get(port) if dom in self.doms else None
        self.ask(dom, "close", port, errno=None if fine else "EINVAL")
        if end is not None and fine:
            assert was is not None
            last = end.peer is None or end.peer is end
            assert (ChannelGone(was.channel) in self.effects) == last, "the events live as long as one end does"
            self.forget(end)

    @rule(dom=domids, port=numbers)
    def send(self, dom: int, port: int) -> None:
        end = self.end(dom, port)
        fine = end is not None and not end.for_xen and end.virq is None
        self.ask(dom, "send", port, errno=None if fine else "EINVAL")
        if end is not None and fine:
            peer = end.peer and self.real.port(end.peer.dom, end.peer.port)
            assert self.raised() == ([(peer.channel, peer.side)] if peer else []), (
                "the other end's event, if it is there"
            )

    @rule(dom=domids, virq=st.sampled_from([0, 3]))
    def interrupt(self, dom: int, virq: int) -> None:
        if dom in self.doms:
            self.effects.clear()
            self.real.raise_virq(dom, virq)
            bound = [end.port for end in self.ends if end.dom == dom and end.virq == 10 * virq]
            ports = [self.real.port(dom, number) for number in bound]
            assert sorted(self.raised()) == sorted((port.channel, port.side) for port in ports)

    @invariant()
    def the_same(self) -> None:
        """Every port is there with its peer; two ends of a channel have one event each, and no two channels share."""
        real = {(dom, number): port for dom in self.doms for number, port in self.real.ports(dom).items()}
        assert real.keys() == {(end.dom, end.port) for end in self.ends}
        sides = [(port.channel, port.side) for port in real.values()]
        assert len(set(sides)) == len(sides)
        for end in self.ends:
            port = real[end.dom, end.port]
            if end.virq is not None:
                assert port.state is PortState.VIRQ
            elif end.peer is None:
                assert (port.state, port.remote) == (PortState.UNBOUND, end.for_dom)
            else:
                assert (port.remote, port.remote_port) == (end.peer.dom, end.peer.port)
                assert real[end.peer.dom, end.peer.port].channel == port.channel
        channels = {port.channel for port in real.values() if port.state is not PortState.INTERDOMAIN}
        assert len(channels) == sum(port.state is not PortState.INTERDOMAIN for port in real.values())


def test_everybody_talks_to_whom_it_should() -> None:
    """Any history of ports: the same ends, the same refusals, the right event."""
    run_state_machine_as_test(Channels, settings=PROFILE.machine)


def test_a_domain_has_as_many_ports_as_xen_gives_it() -> None:
    """4096 with the two-level interface, of which number 0 is none."""
    channels = EventChannels(lambda _: None)
    numbers = [channels.alloc_unbound(0, 1) for _ in range(MOST_PORTS - 1)]

    assert numbers == list(range(1, MOST_PORTS))
    with pytest.raises(ModelError) as full:
        channels.alloc_unbound(0, 1)
    assert full.value.name == "ENOSPC"
    channels.close(0, 77)
    assert channels.alloc_unbound(0, 1) == 77
    assert evtchn.VIRQ_DOM_EXC not in evtchn.VCPU_VIRQS
