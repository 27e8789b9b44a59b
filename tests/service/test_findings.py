# SPDX-License-Identifier: Apache-2.0
"""Findings: what is found, what is kept of it, who sees it, and that it changes no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from privcmdd.model.findings import Kind
from privcmdd.service.session import Session
from privcmdd.service.settings import AccessRule
from service.desk import BASE, OTHER, ROOT, USER, Desk, frames, settings

DOM = 1
V2 = "privcmd.mmapbatch_v2"
Making = Callable[[Desk, Session], Any]


@pytest.fixture
def desk() -> Desk:
    """A broker with an HVM domain, of which gfns 0 to 31 are populated, and that every uid may map."""
    return built()


def built() -> Desk:
    """See ``desk``."""
    rules = (AccessRule("admin", uids=(ROOT,)), AccessRule("write", uids=(USER, OTHER)))
    made = Desk(settings(access=rules))
    root = made.connect(ROOT)
    made.domain(root, dom=DOM, ranges=[{"gfn": 0, "npages": 32}])
    made.broker.disconnect(root)
    return made


def found(desk: Desk, session: Session) -> list[tuple[str, int]]:
    """Which kinds a client sees, and how often each was found."""
    return [(row["kind"], row["count"]) for row in desk.call(session, "findings.list")["findings"]]


def linux(desk: Desk, uid: int = USER) -> Session:
    """A client of personality linux."""
    session = desk.connect(uid)
    desk.call(session, "space.attach", personality="linux")
    return session


def lose_bits(desk: Desk, session: Session) -> None:
    """Map a frame whose number has more bits than count."""
    desk.reserve(session, 1)
    assert desk.call(session, V2, dom=DOM, addr=BASE, arr=frames(1 << 40 | 5))["err"] is None
    assert desk.call(session, "fault", addr=BASE)["frame"] == 5


MAKING: dict[Kind, Making] = {Kind.FRAME_BITS_LOST: lose_bits}


def test_each_kind_can_be_made() -> None:
    """A kind that no request leads to would be a promise and no more."""
    assert set(MAKING) == set(Kind)


@pytest.mark.parametrize("kind", Kind)
def test_what_a_kind_is_found_by(kind: Kind) -> None:
    """The requests that the real host lets pass are answered as there, and are found: once, under that id."""
    desk = built()
    session = linux(desk)

    MAKING[kind](desk, session)

    assert found(desk, desk.connect(USER)) == [(kind, 1)]
    assert desk.call(session, "stats")["broker"]["findings"] == {kind: 1}
    desk.broker.check()


def test_a_finding_names_who_did_what(desk: Desk) -> None:
    """The client as the kernel and hello name it, the request, the domain, and a sentence with the values."""
    session = linux(desk)
    desk.call(session, "hello", client="careless 1")
    lose_bits(desk, session)

    (row,) = desk.call(session, "findings.list")["findings"]

    assert row.pop("text").startswith("frame 0x10000000005 of domain 1 was asked for and frame 0x5 was mapped: ")
    assert row == {
        "kind": "frame-bits-lost", "count": 1, "dom": DOM, "addr": None, "uid": USER, "pid": 1,
        "client": "careless 1", "connection": session.number, "method": V2, "request": 4,
    }  # fmt: skip


def test_equal_findings_are_counted(desk: Desk) -> None:
    """The same of the same connection is one row; another's is another."""
    session = linux(desk)
    lose_bits(desk, session)
    lose_bits(desk, session)
    lose_bits(desk, linux(desk))

    assert found(desk, session) == [("frame-bits-lost", 2), ("frame-bits-lost", 1)]


@pytest.mark.parametrize("n_frames", [1, 5, 100])
def test_a_batch_is_one_finding_a_slice_at_most(desk: Desk, n_frames: int) -> None:
    """Lists and arrays are looked at alike; what is not mapped loses nothing."""
    session = linux(desk)
    desk.reserve(session, n_frames + 1)

    desk.call(session, V2, dom=DOM, addr=BASE, arr=frames(*[1 << 52 | 3] * n_frames, 1 << 52 | 40))

    assert 1 <= sum(count for _, count in found(desk, session)) <= n_frames
    assert {kind for kind, _ in found(desk, session)} == {"frame-bits-lost"}


def test_one_sees_the_findings_of_ones_own_uid(desk: Desk) -> None:
    """Administrators see all, and clear all; a restricted connection sees those about its domain."""
    session, other, root = linux(desk), linux(desk, OTHER), desk.connect(ROOT)
    lose_bits(desk, session)

    assert found(desk, other) == []
    assert desk.call(other, "findings.clear") == {"cleared": 0}
    assert len(found(desk, root)) == 1
    desk.call(session, "privcmd.restrict", dom=2)
    assert found(desk, session) == []
    assert desk.call(root, "findings.clear") == {"cleared": 1}
    assert found(desk, root) == []


def test_what_is_kept_is_bounded(desk: Desk) -> None:
    """One uid's findings take no room from another's; what finds no room is counted."""
    session, other = linux(desk), linux(desk, OTHER)
    for high in range(1, 301):
        desk.reserve(session, 1)
        desk.call(session, V2, dom=DOM, addr=BASE, arr=frames(high << 40))
    lose_bits(desk, other)

    assert len(found(desk, session)) == 256
    assert len(found(desk, other)) == 1
    stats = desk.call(session, "stats")["broker"]
    assert (stats["findings"], stats["findings_dropped"]) == ({"frame-bits-lost": 301}, 300 - 256)


def test_subscribers_hear_of_new_findings(desk: Desk) -> None:
    """Those who may see one are told when it is new, with all that the list says."""
    watchers = [desk.connect(uid) for uid in (USER, OTHER, ROOT)]
    for watcher in watchers:
        desk.call(watcher, "subscribe", topics=["finding"])
    session = linux(desk)
    lose_bits(desk, session)
    lose_bits(desk, session)

    rows = desk.call(session, "findings.list")["findings"]
    assert [(event.session, event.topic, event.params) for event in desk.events] == [
        (watcher.number, "finding", [{**rows[0], "count": 1}]) for watcher in (watchers[0], watchers[2])
    ]


def test_a_pause_does_not_put_it_down_to_somebody_else(desk: Desk) -> None:
    """A request that is under way while another client's ends: each has its own findings."""
    session, other = linux(desk), linux(desk, OTHER)
    desk.reserve(session, 200)
    steps = desk.start(session, V2, dom=DOM, addr=BASE, arr=frames(*[1 << 40 | 5] * 200))
    next(steps)
    desk.call(other, "ping")

    assert found(desk, other) == []
    assert len(found(desk, session)) == 1
    steps.close()
