# SPDX-License-Identifier: Apache-2.0
"""The feature ``seq``: every step of a connection that asked for it has a number, and the reply tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.desk import BASE, PAGE, Desk, Refused, finish, frames, result, settings

if TYPE_CHECKING:
    from privcmdd.service.session import Session


@pytest.fixture
def desk() -> Desk:
    """A broker that looks two frames up in a step, with domain 1."""
    made = Desk(settings(frames_per_batch=200))
    made.domain(made.connect(), dom=1, max_pages=64, ranges=[{"gfn": 0, "npages": 64}])
    return made


def numbered(desk: Desk) -> Session:
    """A connection with the feature."""
    session = desk.connect()
    assert desk.call(session, "hello", features=["seq"])["features"] == ["seq"]
    return session


def test_each_request_has_the_next_number_whoever_asks(desk: Desk) -> None:
    """Results and refusals of every kind are numbered, one after the other over all connections with the feature."""
    first, second = numbered(desk), numbered(desk)
    plain = desk.connect()

    assert desk.call(first, "ping")["seq"] == 1
    assert "seq" not in desk.call(plain, "ping")
    assert desk.call(second, "mmap", addr=BASE, len=PAGE, prot=3, fixed=True)["seq"] == 2
    for n, (method, params) in enumerate({"no.such": {}, "ping": {"x": 1}, "domain.info": {"dom": 9}}.items(), 3):
        with pytest.raises(Refused) as refused:
            desk.call(first, method, **params)
        assert refused.value.details["seq"] == n
    reply = desk.reply(second, "ping")
    assert result(reply)["seq"] == 6


def test_hello_is_numbered_from_the_next_message_on(desk: Desk) -> None:
    """Agreeing on the feature, or giving it up, holds from the next message on."""
    session = desk.connect()
    assert "seq" not in desk.call(session, "hello", features=["seq"])
    assert desk.call(session, "hello")["seq"] == 1
    assert "seq" not in desk.call(session, "ping")


def test_the_steps_of_a_batch_are_numbered_among_others(desk: Desk) -> None:
    """Slices, and the place in the queue of an address space, each have the number of the step that made them."""
    one, two, other = numbered(desk), numbered(desk), numbered(desk)
    space = desk.call(one, "space.attach")["space"]  # 1
    desk.call(two, "space.attach", space=space)  # 2
    desk.reserve(one, 30)  # 3
    batch = desk.start(one, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=frames(*range(30)))
    next(batch)  # 4
    queued = desk.start(two, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=frames(*range(5)))
    next(queued)  # 5
    assert desk.call(other, "ping")["seq"] == 6
    answer = result(finish(batch))
    assert (answer["seq"], answer["slices"], answer.get("queued")) == (20, [4, *range(7, 20)], None)
    answer = result(finish(queued))
    assert (answer["seq"], answer.get("slices"), answer["queued"]) == (21, None, 5)


def test_what_was_given_up_and_who_has_gone_leave_a_gap(desk: Desk) -> None:
    """A client's end is a step; a request that is given up is not told of, nor does it trouble the next one."""
    session, other = numbered(desk), numbered(desk)
    desk.reserve(session, 30)  # 1
    batch = desk.start(session, "privcmd.mmapbatch", dom=1, addr=BASE, arr=frames(*range(30)))
    next(batch)  # 2
    batch.close()
    answer = desk.call(session, "ping")
    assert (answer["seq"], "slices" in answer) == (3, False)
    desk.broker.disconnect(session)  # 4
    desk.broker.disconnect(session)
    assert desk.call(other, "ping")["seq"] == 5


def test_a_subscriber_with_the_feature_hears_when(desk: Desk) -> None:
    """A notification carries the last number before what it tells of; to others it is as ever."""
    watcher, plain, session = numbered(desk), desk.connect(), numbered(desk)
    desk.call(watcher, "subscribe", topics=["space"])  # 1
    desk.call(plain, "subscribe", topics=["space"])
    desk.reserve(session, 1)  # 2
    desk.broker.disconnect(session)  # 3

    told: dict[int, list[Any]] = {watcher.number: [], plain.number: []}
    for event in desk.events:
        told[event.session].append((event.params[0]["state"], event.params[0].get("seq")))
    assert told == {watcher.number: [("made", 1), ("gone", 2)], plain.number: [("made", None), ("gone", None)]}


def test_an_incident_has_one_number(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the machine's state could not be carried out after the result was made."""
    session, other = numbered(desk), numbered(desk)

    def fail(*_: Any) -> None:
        raise OSError

    monkeypatch.setattr(desk.backing, "discard", fail)
    with pytest.raises(Refused, match="bug of the broker") as refused:
        desk.call(session, "domain.decrease_reservation", dom=1, arr=[3])
    assert refused.value.details["seq"] == 1
    assert desk.call(other, "ping")["seq"] == 2
