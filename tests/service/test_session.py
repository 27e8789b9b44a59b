# SPDX-License-Identifier: Apache-2.0
"""Connections: threads of address spaces, children of forks, quotas of uids, new settings while it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.service.methods.stats import counters
from privcmdd.service.settings import AccessRule, Settings, SpaceDefaults
from privcmdd.wire.messages import Notification
from support.desk import BASE, OTHER, PAGE, ROOT, USER, Desk, Refused, finish, frames, result, settings

if TYPE_CHECKING:
    from privcmdd.service.session import Session

BOTH = (AccessRule("admin", uids=(ROOT, USER, OTHER)),)


def settings_without(limit: str) -> Settings:
    """Nothing of that kind is allowed any more."""
    plain = settings(access=BOTH)
    none: dict[str, Any] = {limit: 0}
    return replace(plain, limits=replace(plain.limits, **none))


def desk(**limits: Any) -> Desk:
    """A broker with an HVM domain, number 1, and three uids who may do anything."""
    made = Desk(settings(access=BOTH, **limits))
    root = made.connect(ROOT)
    made.domain(root, dom=1)
    made.broker.disconnect(root)
    return made


def map_frames(at: Desk, session: Session, *names: int, addr: int = BASE) -> None:
    """Reserve a range and map frames of domain 1 there."""
    at.reserve(session, len(names), addr)
    at.call(session, "privcmd.mmapbatch_v2", dom=1, addr=addr, arr=frames(*names))


def left(at: Desk) -> dict[str, int]:
    """What is mapped in all."""
    mappings: dict[str, int] = counters(at.broker.world)["mappings"]
    return mappings


def test_the_last_thread_gives_everything_back() -> None:
    """As long as one connection lives in a space, what others mapped there stays."""
    at = desk()
    one, two = at.connect(), at.connect()
    map_frames(at, one, 1, 2, 3)
    space = at.call(one, "stats")["space"]["space"]
    at.call(two, "space.attach", space=space)

    at.broker.disconnect(one)
    at.broker.disconnect(one)
    assert left(at)["frames"] == 3
    assert at.call(two, "fault", addr=BASE)["frame"] == 1
    assert at.call(two, "stats")["space"]["threads"] == 1
    at.broker.disconnect(two)

    assert set(left(at).values()) == {0}
    assert counters(at.broker.world)["objects"] == {"alive": 0, "peak": 1, "made": 1, "freed": 1}
    assert counters(at.broker.world)["done"]["batches"] == 1
    assert at.broker.world.usage() == {}
    at.broker.check()


def test_a_client_that_dies_in_the_middle_leaves_nothing() -> None:
    """Its request is closed first, then its connection: references, charges and the turn are given back."""
    at = desk()
    dead, waiting = at.connect(), at.connect()
    at.reserve(dead, 30)
    at.call(waiting, "space.attach", space=at.call(dead, "stats")["space"]["space"])
    steps = at.start(dead, "privcmd.mmapbatch", dom=1, addr=BASE, arr=frames(*range(30)))
    next(steps)
    other = at.start(waiting, "munmap", addr=BASE, len=PAGE)
    next(other)
    third = at.start(waiting, "munmap", addr=BASE, len=PAGE)
    next(third)
    assert at.call(waiting, "stats")["space"]["waiting"] == 2

    third.close()
    steps.close()
    at.broker.disconnect(dead)

    assert result(finish(other)) == {}
    at.broker.disconnect(waiting)
    assert set(left(at).values()) == {0}
    assert at.broker.world.usage() == {}
    at.broker.check()


def test_who_may_join_a_space() -> None:
    """Connections of the same uid, with the same settings or none named, that have no space yet."""
    at = desk()
    owner = at.connect()
    made = at.call(owner, "space.attach", probe="scratch", merge=True)
    assert made == {"space": 1, "personality": "uvm", "probe": "scratch", "merge": True}

    for session, asked, name in (
        (at.connect(), {"space": 9}, "ESRCH"),
        (at.connect(OTHER), {"space": 1}, "EPERM"),
        (at.connect(ROOT), {"space": 1}, "EPERM"),
        (owner, {"space": 1}, "EBUSY"),
        (owner, {}, "EBUSY"),
        (at.connect(), {"space": 1, "personality": "linux"}, "EINVAL"),
        (at.connect(), {"space": 1, "probe": "load"}, "EINVAL"),
        (at.connect(), {"space": 1, "merge": False}, "EINVAL"),
    ):
        with pytest.raises(Refused) as refused:
            at.call(session, "space.attach", **asked)
        assert refused.value.name == name
    assert at.call(at.connect(), "space.attach", space=1, merge=True) == made
    assert at.call(at.connect(), "space.attach", personality="linux")["personality"] == "linux"
    at.broker.check()


def test_a_connection_gets_a_space_when_it_first_needs_one() -> None:
    """With the configured settings; ``stats`` and ``ping`` need none."""
    at = Desk(replace(settings(), space=SpaceDefaults("linux", "scratch", merge=True)))
    session = at.connect()
    assert "space" not in at.call(session, "stats")

    at.call(session, "maps")

    assert at.call(session, "stats")["space"]["space"] == 1
    at.reserve(session, 1)
    (entry,) = at.call(session, "maps")["entries"]
    assert entry["file"] == "privcmd"


def test_who_maps_what() -> None:
    """A row for each domain that a space has mapped, or one: for its uid, for administrators, within RESTRICT.

    Asking makes no space.
    """
    at = Desk(settings(access=[AccessRule("admin", uids=(ROOT,)), AccessRule("write", uids=(USER, OTHER))]))
    owner, other, root, asks = at.connect(), at.connect(OTHER), at.connect(ROOT), at.connect()
    for dom in (1, 2):
        at.domain(root, dom=dom)
    at.call(other, "maps")
    at.reserve(owner, 3)
    at.call(owner, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=frames(0, 1, 1000))
    at.call(owner, "mprotect", addr=BASE, len=PAGE, prot=1)

    (mine,) = at.call(asks, "space.list")["spaces"]

    assert (mine["uid"], mine["personality"], mine["threads"], mine["dom"]) == (USER, "uvm", 1, 1)
    assert [mine[key] for key in ("entries", "present", "writable", "failed")] == [2, 2, 1, 1]
    assert [(row["uid"], row["dom"]) for row in at.call(root, "space.list")["spaces"]] == [(OTHER, None), (USER, 1)]
    assert at.call(root, "space.list", dom=1)["spaces"] == [mine]
    assert at.call(root, "space.list", dom=2)["spaces"] == []
    assert at.call(other, "space.list", dom=1)["spaces"] == []
    at.call(asks, "privcmd.restrict", dom=1)
    assert at.call(asks, "space.list")["spaces"] == [mine]
    at.broker.disconnect(asks)
    assert len(list(at.broker.world.spaces)) == 2


def test_a_fork_waits_for_somebody_to_live_in_it() -> None:
    """The child's space can be joined as long as the parent lives; joined, it lives on without it."""
    at = desk()
    parent, child = at.connect(), at.connect()
    map_frames(at, parent, 1)
    at.reserve(parent, 2, BASE + 2**20)
    space = at.call(parent, "space.fork")["space"]

    at.call(child, "space.attach", space=space)
    at.broker.disconnect(parent)

    assert [row["start"] for row in at.call(child, "maps")["entries"]] == [BASE + 2**20]
    assert left(at)["spaces"] == 1
    at.broker.disconnect(child)
    assert left(at)["spaces"] == 0
    at.broker.check()


def test_a_fork_that_nobody_joined_goes_with_its_parent() -> None:
    """And one that was joined and left again before does not stay."""
    at = desk()
    parent, brief = at.connect(), at.connect()
    spaces = [at.call(parent, "space.fork")["space"] for _ in range(2)]
    at.call(brief, "space.attach", space=spaces[0])
    at.broker.disconnect(brief)
    assert left(at)["spaces"] == 2
    with pytest.raises(Refused, match="ESRCH"):
        at.call(at.connect(), "space.attach", space=spaces[0])

    at.broker.disconnect(parent)

    assert left(at)["spaces"] == 0
    at.broker.check()


def test_the_quota_of_frames_is_the_uids() -> None:
    """What one connection of a uid maps another cannot; other uids are not concerned."""
    at = desk(frames=5)
    one, two, other = at.connect(), at.connect(), at.connect(OTHER)
    map_frames(at, one, 1, 2, 3)
    at.reserve(two, 3)

    with pytest.raises(Refused, match="EDQUOT") as refused:
        at.call(two, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[1, 2, 3])

    assert {k: refused.value.details[k] for k in ("slot", "limit", "used", "asked")} == {
        "slot": "frames",
        "limit": 5,
        "used": 3,
        "asked": 3,
    }
    map_frames(at, other, 1, 2, 3)
    at.broker.disconnect(one)
    at.call(two, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[1, 2, 3])
    assert at.broker.world.usage()[str(USER)]["frames"] == 3
    at.broker.check()


@pytest.mark.parametrize(
    ("limit", "method", "params"),
    [
        ("entries", "mmap", {"len": PAGE, "prot": 1}),
        ("spaces", "space.attach", {}),
        ("spaces", "maps", {}),
        ("objects", "privcmd.mmapbatch_v2", {"dom": 1, "addr": BASE, "arr": [1]}),
        ("batches", "privcmd.mmapbatch_v2", {"dom": 1, "addr": BASE, "arr": [1] * 30}),
    ],
)
def test_every_quota_refuses(limit: str, method: str, params: dict[str, Any]) -> None:
    """EDQUOT that names the slot and how to raise it; nothing has changed."""
    at = desk()
    session = at.connect()
    if limit != "spaces":
        at.reserve(session, 30)
    at.broker.reconfigure(settings_without(limit))
    before = at.broker.world.usage(), left(at)

    with pytest.raises(Refused, match=f"limits.{limit}") as refused:
        at.call(session, method, **params)

    assert (refused.value.name, refused.value.details["slot"]) == ("EDQUOT", limit)
    assert (at.broker.world.usage(), left(at)) == before
    at.broker.check()


def test_connections_are_bounded_by_uid() -> None:
    """One too many is refused and leaves no trace; it is welcome when another has gone."""
    at = desk(fds=2)
    first, _ = at.connect(), at.connect()
    with pytest.raises(ModelError, match="EDQUOT"):
        at.connect()
    at.connect(OTHER)
    at.broker.disconnect(first)
    at.connect()

    assert at.broker.world.usage()[str(USER)]["fds"] == 2
    at.broker.check()


def test_a_uid_that_may_have_no_connection_leaves_no_account() -> None:
    """Refused on its first: nothing of it is kept."""
    at = desk()
    at.broker.reconfigure(settings(access=BOTH, fds=0))

    with pytest.raises(ModelError, match="EDQUOT"):
        at.connect()
    assert at.broker.world.usage() == {}


def test_output_is_charged_until_it_is_taken() -> None:
    """To the connection and its uid; what comes after the end is not counted twice."""
    at = desk(queued_bytes=100)
    one, two = at.connect(), at.connect()
    one.charge_output(70)

    with pytest.raises(ModelError, match="EDQUOT"):
        two.charge_output(31)
    two.charge_output(30)
    one.output_sent(70)
    at.broker.disconnect(two)
    two.output_sent(30)

    assert at.broker.world.usage()[str(USER)]["queued_bytes"] == 0
    at.broker.check()


def test_batches_in_flight_are_counted() -> None:
    """Those that outlive a step or wait for their turn; each connection's count for its uid."""
    at = desk(batches=2)
    one, two, other = at.connect(), at.connect(), at.connect()
    at.reserve(one, 30)
    for session in (two, other):
        at.call(session, "space.attach", space=1)
    running = [
        at.start(session, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=frames(*range(30))) for session in (one, two)
    ]
    for steps in running:
        next(steps)

    with pytest.raises(Refused, match=r"limits\.batches"):
        at.call(other, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=frames(1))

    for steps in running:
        finish(steps)
    assert at.broker.world.usage()[str(USER)]["batches"] == 0
    at.broker.check()


def test_new_settings_hold_from_the_next_request_on() -> None:
    """Limits, rights and defaults; what is in use above a lowered limit is kept, only growth is refused."""
    at = desk()
    session = at.connect()
    map_frames(at, session, 1, 2, 3)

    at.broker.reconfigure(
        replace(settings(access=[AccessRule("read", uids=(USER,))], frames=2), space=SpaceDefaults("linux"))
    )

    assert at.call(session, "read", addr=BASE, len=3 * PAGE)["data"] == bytes(3 * PAGE)
    with pytest.raises(Refused, match="EPERM"):
        at.call(session, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[1])
    at.reserve(session, 1, BASE + 2**20, prot=1)
    with pytest.raises(Refused, match="EDQUOT"):
        at.call(session, "privcmd.mmapbatch_v2", dom=1, addr=BASE + 2**20, arr=[1])
    at.call(session, "munmap", addr=BASE, len=2 * PAGE)
    at.call(session, "privcmd.mmapbatch_v2", dom=1, addr=BASE + 2**20, arr=[1])
    assert at.call(at.connect(), "space.attach")["personality"] == "linux"
    at.broker.check()


def test_a_smaller_machine_is_not_taken_over() -> None:
    """The machine stays as it is: its size is decided when it is made."""
    at = desk()
    frames_before = counters(at.broker.world)["machine"]["frames"]

    at.broker.reconfigure(replace(settings(access=BOTH), machine=replace(settings().machine, memory_mib=1)))

    assert counters(at.broker.world)["machine"]["frames"] == frames_before


def test_notifications_of_clients_are_counted_and_ignored() -> None:
    """Protocol 1 knows none."""
    at = desk()
    session = at.connect()

    at.broker.notice(session, Notification("whatever", [1, 2]))

    assert session.n_ignored == 1
