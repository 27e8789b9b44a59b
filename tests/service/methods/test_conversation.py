# SPDX-License-Identifier: Apache-2.0
"""The conversation itself: hello, what cannot be done, counters, the table."""

from __future__ import annotations

from typing import Any

import pytest

from privcmdd import __version__
from privcmdd.service.methods.conversation import table
from privcmdd.service.settings import AccessRule
from privcmdd.wire.codec import decode
from privcmdd.wire.messages import BadRequest, Notification, Request
from support.desk import BASE, OTHER, ROOT, USER, Desk, Refused, finish, result, settings

HOLE = 40
V2 = "privcmd.mmapbatch_v2"


@pytest.fixture
def desk() -> Desk:
    """A broker with an HVM domain 1 (gfns 0 to 31 and 96 to 127) and a PV domain 2."""
    made = Desk(settings(frames_per_batch=200))
    root = made.connect(ROOT)
    made.domain(root, dom=1, max_pages=128, ranges=[{"gfn": 0, "npages": 32}, {"gfn": 96, "npages": 32}])
    made.domain(root, "pv", dom=2, max_pages=16)
    made.broker.disconnect(root)
    return made


def test_hello_agrees_on_what_both_know(desk: Desk) -> None:
    """Features are the intersection; another protocol is refused; errors take the form that was agreed."""
    session = desk.connect()

    said = desk.call(session, "hello", features=["nvim-errors", "time-travel"], client="tester 1")

    assert (said["protocol"], said["features"], said["instance"]) == (1, ["nvim-errors"], "instance-1")
    assert said["version"] == __version__
    assert said["limits"]["frames_per_batch"] == 200
    assert session.client_name == "tester 1"
    message: Any = decode(desk.reply(session, "nonsense").data)
    assert message[2][0] == 0
    assert message[2][1].startswith("ENOSYS: there is no method nonsense")
    with pytest.raises(Refused, match="EPROTONOSUPPORT"):
        desk.call(desk.connect(), "hello", protocol=[2, 3])


def test_what_cannot_be_done_is_said(desk: Desk) -> None:
    """ENOSYS for a method that is not there, with a name fit to print; EINVAL for what is no request of ours."""
    session = desk.connect()
    for method in ("", "Ping", "x" * 5000, "line\nbreak"):
        with pytest.raises(Refused, match="ENOSYS") as refused:
            desk.call(session, method)
        assert len(refused.value.text) < 200
        assert "\n" not in refused.value.text
    for params in ({"dom": "one"}, {"dom": 70000}, {}, {"dom": 1, "surprise": 1}):
        with pytest.raises(Refused, match="EINVAL"):
            desk.call(session, "privcmd.restrict", **params)
    bad = BadRequest(7, "ping", 22, "params: a list of 2", {"key": "params"})
    with pytest.raises(Refused, match="params: a list of 2"):
        result(finish(desk.broker.perform(session, bad)))
    with pytest.raises(Refused, match="EINVAL"):
        desk.call(session, "subscribe", topics=["domain", "weather"])
    assert session.topics == frozenset()


def test_health(desk: Desk) -> None:
    """Ready until the broker is told to stop; then draining, for those who are connected."""
    session = desk.connect()
    assert desk.call(session, "health") == {"state": "ready", "connections": 1}
    desk.broker.world.draining = True
    assert desk.call(session, "health")["state"] == "draining"


def test_a_msgid_comes_back(desk: Desk) -> None:
    """In answers and in refusals."""
    session = desk.connect()
    for method in ("ping", "pong"):
        message: Any = decode(finish(desk.broker.perform(session, Request(4_294_967_295, method, {}))).data)
        assert message[:2] == [1, 4_294_967_295]


def test_counters(desk: Desk) -> None:
    """Requests, refusals, connections, frames; and a space of one's own once there is one."""
    session = desk.connect()
    desk.reserve(session, 3)
    desk.call(session, V2, dom=1, addr=BASE, arr=[5, HOLE, 7])
    with pytest.raises(Refused):
        desk.call(session, "munmap", addr=1, len=1)

    stats = desk.call(session, "stats")

    assert stats["broker"]["refused"] == 1
    assert stats["broker"]["connections"] == 1
    assert stats["machine"] == {"frames": 2048, "free_frames": 2048 - 256 - 64 - 16, "domains": 2, "dying_domains": 0}
    assert stats["mappings"] == {"spaces": 1, "entries": 1, "frames": 2, "ptps": 3, "wired_pages": 2}
    assert stats["space"]["objects"] == {"alive": 1, "peak": 1, "made": 1, "freed": 0}
    assert stats["done"]["frames_failed"] == stats["space"]["done"]["frames_failed"] == 1
    assert stats["uids"] == {str(USER): desk.broker.world.usage()[str(USER)]}


def test_describe_is_the_table(desk: Desk) -> None:
    """With this broker's limits in it."""
    told = desk.call(desk.connect(), "describe")

    assert told["version"] == __version__
    assert V2 in told["methods"]


def test_describe_is_made_once_for_its_limits(desk: Desk) -> None:
    """B5: it takes a millisecond to make, and clients may ask a hundred times; after a reload it has the new limits."""
    session = desk.connect()
    before = desk.call(session, "describe")["limits"]["frames_per_batch"]
    made = table.cache_info().misses
    for _ in range(100):
        desk.call(session, "describe")
    assert table.cache_info().misses == made

    desk.broker.reconfigure(settings(frames_per_batch=before + 1))

    assert desk.call(session, "describe")["limits"]["frames_per_batch"] == before + 1


def test_stats_names_the_longest_holds_of_the_loop(desk: Desk) -> None:
    """By method, those above a millisecond; names that are no method's are counted together."""
    holds = desk.broker.world.holds
    holds.note("maps", 0.002)
    holds.note("maps", 0.0015)
    holds.note("x" * 5000, 0.25)

    assert desk.call(desk.connect(), "stats")["holds"] == {
        "maps": {"longest_us": 2000, "above_1_ms": 2},
        "others": {"longest_us": 250_000, "above_1_ms": 1},
    }


def test_access_is_decided_by_uid(desk: Desk) -> None:
    """A client without any rule may talk, and see nothing."""
    desk.broker.reconfigure(settings(access=[AccessRule("admin", uids=(USER,))]))
    nobody = desk.connect(OTHER)

    assert desk.call(nobody, "ping") == {"instance": "instance-1"}
    assert desk.call(nobody, "domain.list") == {"domains": []}
    with pytest.raises(Refused, match="EPERM"):
        desk.call(nobody, V2, dom=1, addr=BASE, arr=[1])


def test_stats_says_what_became_of_the_callers_notifications(desk: Desk) -> None:
    """Those it sent, which protocol 1 ignores, and those to it that it did not take."""
    session = desk.connect()
    desk.broker.notice(session, Notification("anything", []))
    session.n_dropped = 3

    connection = desk.call(session, "stats")["connection"]

    assert connection == {"requests": 1, "ignored_notifications": 1, "dropped_notifications": 3}
