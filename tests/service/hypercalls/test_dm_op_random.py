# SPDX-License-Identifier: Apache-2.0
"""Device models and owners of event channels that ask for anything: laws hold, and a refusal has changed nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from privcmdd.service.hypercalls import dm_ioreq, event_channel_op
from privcmdd.service.hypercalls.dm_op import HEAD, REQUESTS
from privcmdd.service.settings import AccessRule
from privcmdd.wire.methods import METHODS
from support.desk import BASE, OTHER, PAGE, USER, Desk, Refused, only_channels, result, settings
from support.profiles import PROFILE
from support.random_arguments import state, values_of
from support.tool import BUFFERS, EVENTS, Tool

if TYPE_CHECKING:
    from privcmdd.service.session import Session

OPERATIONS = st.sampled_from([*REQUESTS, *REQUESTS, 0, 13, 15, 19, 21, 99, 2**31, 2**32 - 1])
SIZES = st.one_of(st.just(None), st.just(None), st.integers(0, 40))
TAILS = st.one_of(st.just(b""), st.binary(max_size=16))
CHANNEL_METHODS = [name for name in METHODS if name.startswith("evtchn.")]
CHANGES = ("server", "destroy server", "reset", "leave")
NUMBERS_OF_PORTS = st.one_of(st.integers(0, 8), st.sampled_from([4095, 4096, 2**32 - 1]))
RELOCATE = 17
DOMAINS = st.sampled_from([0, 0, 1, 1, 1, 2, 2, 3, 0x7FF0])


@st.composite
def device_requests(draw: st.DrawFn) -> list[bytes]:
    """The buffers of a DM_OP: one of Xen's or none, of any length, with padding that is right or wrong."""
    op = draw(OPERATIONS)
    first = HEAD.pack({"op": op, "pad": draw(st.sampled_from([0, 0, 0, 0, 1, 2**31]))})
    if op in REQUESTS:
        first += REQUESTS[op][0].pack(draw(values_of(REQUESTS[op][0])))
    return [first[: draw(SIZES)] + draw(TAILS), *draw(st.lists(st.binary(max_size=64), max_size=3))]


@given(st.lists(st.tuples(st.sampled_from([1, 1, 1, 2, 3, 4, 0x7FF0]), device_requests()), max_size=6))
@PROFILE.law
def test_random_requests_of_a_device_model(requests: list[tuple[int, list[bytes]]]) -> None:
    """One after the other, on a domain that has an ioreq server in use; what the domain had goes with it."""
    desk = Desk(settings(fds=64))
    tool = Tool(desk)
    assert tool.build() == 1
    tool.build("pv")
    create = HEAD.pack({"op": 1}) + dm_ioreq.CREATE.pack({"handle_bufioreq": 2})
    assert desk.call(tool.session, "privcmd.dm_op", dom=1, bufs=[create])["ret"] == 0
    model = desk.connect()
    desk.call(model, "mmap", addr=BASE, len=2 * PAGE, prot=3, fixed=True)
    desk.call(model, "privcmd.mmap_resource", dom=1, type=0, id=0, num=2, addr=BASE)

    for dom, bufs in requests:
        before = state(tool)
        answer = desk.call(tool.session, "privcmd.dm_op", dom=dom, bufs=bufs)
        assert [len(buf) for buf in answer["bufs"]] == list(map(len, bufs))
        if answer["ret"] < 0 and not (bufs and bufs[0].startswith(HEAD.pack({"op": RELOCATE}))):  # pages go one by one
            assert state(tool) == before
        desk.broker.check()

    desk.broker.disconnect(model)
    assert desk.call(tool.session, "domain.destroy", dom=1) == {"state": "gone"}
    desk.broker.check()
    assert desk.backing.raised == {}


def parameters(method: str) -> st.SearchStrategy[dict[str, Any]]:
    """Likely parameters of a method about event channels."""
    kinds = {"domid": DOMAINS, "u32": NUMBERS_OF_PORTS}
    rows = METHODS[method].params
    required = {row.name: kinds[row.type] for row in rows if row.required}
    return st.fixed_dictionaries(required, optional={row.name: kinds[row.type] for row in rows if not row.required})


@st.composite
def channel_requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A request about event channels, or one that takes some away."""
    method = draw(st.sampled_from([*CHANNEL_METHODS, *CHANGES, *CHANGES]))
    return method, draw(parameters(method)) if method in METHODS else {"dom": draw(st.sampled_from([1, 2]))}


class Crowd:
    """Two clients who may do anything, and one who may write to domain 1 only."""

    def __init__(self) -> None:
        rules = (AccessRule("admin", uids=(USER,)), AccessRule("write", uids=(OTHER,), domains=(1,)))
        self.desk = Desk(settings(access=rules, fds=32, paranoid=False))
        self.tool = Tool(self.desk)
        for dom in (1, 2):
            self.desk.domain(self.tool.session, dom=dom)
        self.clients = [self.connect(who) for who in range(3)]

    def connect(self, who: int) -> Session:
        """A client by its place."""
        return self.desk.connect(OTHER if who == 2 else USER)

    def seen(self) -> Any:
        """All ports, and who pays for what."""
        ports = self.desk.broker.world.machine.events
        rows = {dom: sorted(map(repr, ports.ports(dom).items())) for dom in (0, 1, 2)}
        return (
            rows,
            self.desk.broker.world.usage(),
            {channel: tuple(up) for channel, up in self.desk.backing.raised.items()},
        )

    def do(self, who: int, method: str, params: dict[str, Any]) -> None:
        """One request."""
        desk = self.desk
        if method == "leave":
            desk.broker.disconnect(self.clients[who])
            self.clients[who] = self.connect(who)
        elif method == "reset":
            self.tool.put(event_channel_op.RESET.pack(params))
            assert self.tool.call(EVENTS, 10, BUFFERS) == 0
        elif method in ("server", "destroy server"):
            op, layout = (1, dm_ioreq.CREATE) if method == "server" else (6, dm_ioreq.DESTROY)
            first = HEAD.pack({"op": op}) + layout.pack({"handle_bufioreq": 2})
            desk.call(self.tool.session, "privcmd.dm_op", **params, bufs=[first])
        else:
            reply = desk.reply(self.clients[who], method, **params)
            for fd in reply.fds:
                os.close(fd)
            result(reply)


@given(st.lists(st.tuples(st.integers(0, 2), channel_requests()), min_size=4, max_size=16))
@PROFILE.law
def test_random_requests_about_event_channels(requests: list[tuple[int, tuple[str, dict[str, Any]]]]) -> None:
    """Whoever asks for what: channels have two ends (law 10), charges equal use (law 9), nothing is left at the end."""
    crowd = Crowd()
    broker = crowd.desk.broker

    for who, (method, params) in requests:
        before = crowd.seen()
        try:
            crowd.do(who, method, params)
        except Refused:
            assert crowd.seen() == before
        broker.check()

    for session in (*crowd.clients, crowd.tool.session):
        broker.disconnect(session)
    assert only_channels(broker.world.usage())
    assert broker.world.machine.events.ports(0) == {}
    admin = crowd.desk.connect()
    for dom in (1, 2):
        assert crowd.desk.call(admin, "domain.destroy", dom=dom) == {"state": "gone"}
    assert crowd.desk.backing.raised == {}
    broker.check()
