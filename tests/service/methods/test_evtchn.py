# SPDX-License-Identifier: Apache-2.0
"""Event channels as connections see them: whose a port is, what it costs, who may act for whom."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.service.hypercalls import event_channel_op
from privcmdd.service.settings import AccessRule
from support.desk import OTHER, ROOT, USER, Desk, Refused, result, settings
from support.tool import Tool

if TYPE_CHECKING:
    from privcmdd.service.session import Session

DOM_EXC = 3


def ask(desk: Desk, session: Session, method: str, **params: Any) -> Any:
    """A request about event channels; its descriptors are closed. Raises Refused."""
    reply = desk.reply(session, f"evtchn.{method}", **params)
    for fd in reply.fds:
        os.close(fd)
    return result(reply)


def pair(desk: Desk, session: Session, dom: int) -> tuple[int, int]:
    """A channel between a guest and domain 0: the guest's port, and this connection's."""
    port = ask(desk, session, "alloc_unbound", on=dom, remote=0)["port"]
    return port, ask(desk, session, "bind_interdomain", dom=dom, port=port)["port"]


def test_each_end_hears_the_other_and_not_itself() -> None:
    """A notification raises the event of the other end; events add up to one; the new end has one at once."""
    desk = Desk()
    session = desk.connect()
    dom = desk.domain(session)
    theirs, ours = pair(desk, session, dom)

    assert ask(desk, session, "pending", port=ours) == {"pending": True}
    assert ask(desk, session, "pending", on=dom, port=theirs) == {"pending": False}
    for _ in range(3):
        ask(desk, session, "notify", port=ours)
    assert ask(desk, session, "pending", on=dom, port=theirs) == {"pending": True}
    assert ask(desk, session, "pending", on=dom, port=theirs) == {"pending": False}
    assert ask(desk, session, "pending", port=ours) == {"pending": False}


def test_a_port_of_domain_0_goes_with_its_connection() -> None:
    """Then the guest's end waits for the next one, which gets the same events; they are paid for until it is closed."""
    desk = Desk()
    session, second = desk.connect(), desk.connect()
    dom = desk.domain(second)
    theirs, _ = pair(desk, session, dom)
    assert desk.broker.world.usage()[str(USER)]["fds"] == 4

    desk.broker.disconnect(session)
    desk.broker.check()

    assert desk.broker.world.usage()[str(USER)]["fds"] == 3
    row = ask(desk, second, "list", on=dom)["ports"][0]
    assert (row["state"], row["dom"], row["remote_port"]) == ("unbound", 0, 0)
    ours = ask(desk, second, "bind_interdomain", dom=dom, port=theirs)["port"]
    ask(desk, second, "notify", on=dom, port=theirs)
    assert ask(desk, second, "pending", port=ours) == {"pending": True}


def test_nobody_else_may_use_it() -> None:
    """ENOTCONN, as the driver says to a file that does not have the port; and it is not in its list."""
    desk = Desk()
    session, second = desk.connect(), desk.connect()
    dom = desk.domain(session)
    _, ours = pair(desk, session, dom)

    for method in ("attach", "close", "notify", "pending"):
        with pytest.raises(Refused) as refused:
            ask(desk, second, method, port=ours)
        assert refused.value.name == "ENOTCONN"
    assert ask(desk, second, "list") == {"ports": []}
    assert [row["port"] for row in ask(desk, session, "list")["ports"]] == [ours]


def test_acting_for_a_guest_wants_the_right_to_write_to_it() -> None:
    """Those without may neither take its ports nor bind to them."""
    rules = [AccessRule("admin", uids=(ROOT,)), AccessRule("read", uids=(OTHER,))]
    desk = Desk(settings(access=rules))
    root, other = desk.connect(ROOT), desk.connect(OTHER)
    dom = desk.domain(root)
    port = ask(desk, root, "alloc_unbound", on=dom, remote=0)["port"]

    wanted = (
        ("alloc_unbound", {"on": dom, "remote": 0}),
        ("alloc_unbound", {"remote": dom}),
        ("bind_interdomain", {"dom": dom, "port": port}),
        ("bind_virq", {"virq": DOM_EXC}),
        ("attach", {"on": dom, "port": port}),
        ("notify", {"on": dom, "port": port}),
        ("close", {"on": dom, "port": port}),
    )
    for method, params in wanted:
        with pytest.raises(Refused) as refused:
            ask(desk, other, method, **params)
        assert refused.value.name == "EPERM"
    assert len(ask(desk, other, "list", on=dom)["ports"]) == 1
    assert desk.broker.world.usage()[str(OTHER)]["fds"] == 1


def test_a_restricted_connection_binds_its_domain_alone() -> None:
    """EACCES for all else; a second restriction is EACCES too; what is bound goes on working."""
    desk = Desk()
    session = desk.connect()
    first, second = desk.domain(session), desk.domain(session)
    _, bound = pair(desk, session, second)
    port = {dom: ask(desk, session, "alloc_unbound", on=dom, remote=0)["port"] for dom in (first, second)}

    for dom, name in ((0, "EINVAL"), (0x7FF0, "EINVAL")):
        with pytest.raises(Refused) as refused:
            ask(desk, session, "restrict", dom=dom)
        assert refused.value.name == name
    ask(desk, session, "restrict", dom=first)

    refusals: list[tuple[str, dict[str, int]]] = [
        ("restrict", {"dom": first}),
        ("bind_interdomain", {"dom": second, "port": port[second]}),
        ("alloc_unbound", {"remote": first}),
        ("bind_virq", {"virq": DOM_EXC}),
    ]
    for method, params in refusals:
        with pytest.raises(Refused) as refused:
            ask(desk, session, method, **params)
        assert refused.value.name == "EACCES", method
    ask(desk, session, "bind_interdomain", dom=first, port=port[first])
    ask(desk, session, "notify", port=bound)


def test_a_toolstack_hears_of_a_domain_that_ends() -> None:
    """VIRQ_DOM_EXC: when it begins to die and when it is gone; every toolstack does, each by one port."""
    desk = Desk()
    session = desk.connect()
    dom = desk.domain(session)
    desk.reserve(session, 1)
    port = ask(desk, session, "bind_virq", virq=DOM_EXC)["port"]
    with pytest.raises(Refused) as refused:
        ask(desk, session, "bind_virq", virq=DOM_EXC)
    assert refused.value.name == "EEXIST"
    second = desk.connect()
    other = ask(desk, second, "bind_virq", virq=DOM_EXC)["port"]

    desk.call(session, "privcmd.mmapbatch_v2", dom=dom, addr=0x10_0000_0000, arr=[1])
    assert ask(desk, session, "pending", port=port) == {"pending": False}
    desk.call(session, "domain.destroy", dom=dom)
    assert ask(desk, session, "pending", port=port) == {"pending": True}
    assert ask(desk, second, "pending", port=other) == {"pending": True}
    desk.call(session, "munmap", addr=0x10_0000_0000, len=4096)
    assert ask(desk, session, "pending", port=port) == {"pending": True}


def test_a_domain_takes_its_channels_with_it() -> None:
    """Whoever was bound to it waits for one that never comes; its own ports can no longer be named."""
    desk = Desk()
    session = desk.connect()
    dom = desk.domain(session)
    _, ours = pair(desk, session, dom)

    desk.call(session, "domain.destroy", dom=dom)

    assert ask(desk, session, "list")["ports"][0]["state"] == "unbound"
    ask(desk, session, "notify", port=ours)
    with pytest.raises(Refused) as refused:
        ask(desk, session, "alloc_unbound", on=dom, remote=0)
    assert refused.value.name == "ESRCH"
    ask(desk, session, "close", port=ours)
    assert desk.backing.raised == {}
    assert desk.broker.world.usage()[str(USER)]["fds"] == 1


@pytest.mark.parametrize("on_behalf", [False, True])
def test_without_an_event_there_is_no_port(on_behalf: bool) -> None:
    """When the host has none to give the port is given up again, and nothing is owed."""
    desk = Desk()
    session = desk.connect()
    dom = desk.domain(session)
    desk.backing.broken = ModelError(12, "no descriptor left")

    with pytest.raises(Refused) as refused:
        ask(desk, session, "alloc_unbound", remote=0 if on_behalf else dom, on=dom if on_behalf else 0)

    assert refused.value.name == "ENOMEM"
    assert not desk.broker.world.machine.events.ports(0)
    assert not desk.broker.world.machine.events.ports(dom)
    assert desk.broker.world.usage()[str(USER)]["fds"] == 1


def test_ports_are_paid_for() -> None:
    """Two descriptors a channel, of the connection's and its uid's quota; over it EDQUOT, and nothing is taken."""
    desk = Desk(settings(fds=6))
    session = desk.connect()
    dom = desk.domain(session)
    ask(desk, session, "alloc_unbound", remote=dom)

    with pytest.raises(Refused) as refused:
        ask(desk, session, "alloc_unbound", remote=dom)

    assert refused.value.name == "EDQUOT"
    assert len(ask(desk, session, "list")["ports"]) == 1
    desk.broker.check()


def test_a_toolstack_asks_through_hypercalls() -> None:
    """alloc_unbound, status and reset of event_channel_op; what is domain 0's own is not answered."""
    desk = Desk()
    tool = Tool(desk)
    dom = desk.domain(tool.session)

    def call(command: int, layout: Any, **values: Any) -> tuple[int, dict[str, Any]]:
        tool.put(layout.pack(values))
        ret = tool.call(32, command, 0x20_0000_0000)
        return ret, layout.unpack(tool.get(layout.size))

    assert call(6, event_channel_op.ALLOC_UNBOUND, dom=dom, remote_dom=0x7FF0)[1]["port"] == 1
    assert call(5, event_channel_op.STATUS, dom=dom, port=1)[1]["status"] == 1
    ours = ask(desk, tool.session, "bind_interdomain", dom=dom, port=1)["port"]
    ret, status = call(5, event_channel_op.STATUS, dom=0, port=ours)
    assert (ret, status["status"], status["u"]) == (0, 2, {"first": dom, "second": 1})
    assert call(5, event_channel_op.STATUS, dom=dom, port=2)[1]["status"] == 0
    assert call(5, event_channel_op.STATUS, dom=dom, port=4096)[0] == -22
    assert call(6, event_channel_op.ALLOC_UNBOUND, dom=0, remote_dom=dom)[0] == -38
    assert call(10, event_channel_op.RESET, dom=dom)[0] == 0
    assert call(5, event_channel_op.STATUS, dom=dom, port=1)[1]["status"] == 0


def test_a_reset_leaves_xens_own_ports() -> None:
    """Else an ioreq server would go on with the number of a port that somebody else takes, and close that one."""
    desk = Desk()
    tool = Tool(desk)
    dom = desk.domain(tool.session)
    made = desk.call(tool.session, "privcmd.dm_op", dom=dom, bufs=[bytes([1] + 7 * [0] + [2] + 7 * [0])])
    assert made["ret"] == 0
    ask(desk, tool.session, "alloc_unbound", on=dom, remote=0)

    tool.put(event_channel_op.RESET.pack({"dom": dom}))
    assert tool.call(32, 10, 0x20_0000_0000) == 0

    desk.broker.check()
    (server,) = desk.call(tool.session, "ioreq.servers", dom=dom)["servers"]
    rows = ask(desk, tool.session, "list", on=dom)["ports"]
    assert [row["port"] for row in rows] == [*server["ports"], server["bufioreq_port"]]
