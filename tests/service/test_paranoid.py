# SPDX-License-Identifier: Apache-2.0
"""Under ``paranoid`` all laws are checked after each request. A broken law ends its own session, once, and no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from privcmdd.model.errors import LawBroken
from privcmdd.model.ledger import Slot
from privcmdd.model.machine import foreign
from privcmdd.model.machine.domain import DomainState
from privcmdd.model.mm.space import Replacement
from privcmdd.service.incident import Incident, describe
from privcmdd.service.methods.stats import counters
from support.desk import BASE, ROOT, Desk, Refused, frames, result

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.service.session import Session


def mapped() -> tuple[Desk, Session, Session]:
    """A broker with a domain, and two clients of which each has mapped two frames of it."""
    desk = Desk()
    desk.domain(desk.connect(ROOT), dom=1)
    one, other = desk.connect(), desk.connect()
    for session in (one, other):
        desk.reserve(session, 2)
        desk.call(session, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[1, 2])
    return desk, one, other


def space_of(session: Session) -> AddressSpace:
    """Where a client lives."""
    assert session.residence is not None
    return session.residence.space


def misorder(_: Desk, session: Session) -> None:
    """Law 1: an entry that ends before it begins."""
    entry = next(iter(space_of(session).map))
    entry.end = entry.start


def misprepare(_: Desk, session: Session) -> None:
    """Law 5: the map changes while a replacement is prepared."""
    space = space_of(session)
    space.pending = Replacement(BASE, BASE + 1, space.map.generation - 1)


PLANTED: list[tuple[str, Callable[[Desk, Session], Any]]] = [
    ("1 entries are sorted", misorder),
    ("2 objects are referred", lambda _, session: setattr(space_of(session).objects, "made", 9)),
    ("3 references are the mappings", lambda desk, _: desk.broker.world.machine.frames.refs.__setitem__(300, 7)),
    ("4 page tables and wired", lambda _, session: setattr(space_of(session), "n_wired", 9)),
    ("5 a replacement is seen", misprepare),
    ("6 only real changes", lambda _, session: setattr(space_of(session).counters, "frames_entered", 9)),
    ("8 a domain lives", lambda desk, _: setattr(desk.broker.world.machine.domains[1], "state", DomainState.GONE)),
    ("9 charges equal use", lambda _, session: session.uid_account.add(Slot.ENTRIES, 5)),
]


@pytest.mark.parametrize(("law", "plant"), PLANTED, ids=[law[0] for law, _ in PLANTED])
def test_a_breach_of_each_law_is_found_after_the_request_that_made_it(
    law: str, plant: Callable[[Desk, Session], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And named; laws 6 and 7, of one answer and of the end, have tests of their own."""
    desk, one, _ = mapped()
    talk = desk.broker._dispatch.known["ping"]
    planted = [plant]

    def ping(broker: Any, session: Session, params: dict[str, Any]) -> Any:
        for each in planted:
            each(desk, session)
        return talk[1](broker, session, params)

    monkeypatch.setitem(desk.broker._dispatch.known, "ping", (talk[0], ping))
    reply = desk.reply(one, "ping")

    assert reply.close
    assert isinstance(reply.incident, LawBroken)
    assert reply.incident.law.startswith(law)


def test_an_answer_that_breaks_law_6_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error and a frame for the same index."""
    desk, one, _ = mapped()
    get = foreign.get

    def broken(*args: Any, **options: Any) -> tuple[Any, Any]:
        return get(*args, **options)[0], [-22, 0]

    monkeypatch.setattr(foreign, "get", broken)
    reply = desk.reply(one, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[1, 2])

    assert isinstance(reply.incident, LawBroken)
    assert reply.incident.law.startswith("6 every frame")
    desk.broker.check()


def test_what_stays_broken_is_paid_for_once() -> None:
    """The others, and who comes later, are served; it is counted, and another breach of that law is found."""
    desk, one, other = mapped()
    refs = desk.broker.world.machine.frames.refs
    refs[300] += 1
    assert desk.reply(one, "ping").close
    desk.broker.disconnect(one)

    for _ in range(3):
        assert not desk.reply(other, "ping").close
    desk.call(other, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[44, 2])  # of which the first is frame 300
    broken = counters(desk.broker.world)["broker"]["broken"]
    assert broken == {"3 references are the mappings: frame 0x12c": 4}
    assert desk.broker.world.n_incidents == 1

    space_of(other).n_wired += 1
    reply = desk.reply(other, "ping")
    assert isinstance(reply.incident, LawBroken)
    assert reply.incident.law.startswith("4 ")
    space_of(other).n_wired -= 1
    refs[300] -= 1
    assert not desk.reply(desk.connect(), "ping").close
    assert desk.broker.world.broken == {}
    refs[300] += 1
    assert desk.reply(desk.connect(), "ping").close


def test_a_state_in_which_a_law_cannot_be_checked_is_a_breach() -> None:
    """The check itself fails: that is found like any other, and paid for once."""
    desk, one, other = mapped()
    desk.broker.world.machine.domains[1].p2m[5] = (1 << 30) - 1

    reply = desk.reply(one, "ping")

    assert isinstance(reply.incident, LawBroken)
    assert "cannot be checked: IndexError" in reply.incident.text
    assert not desk.reply(other, "ping").close


def reported(desk: Desk, name: str | None = "incident-1") -> list[dict[str, Any]]:
    """Collect what is reported from now on."""
    told: list[dict[str, Any]] = []

    def report(incident: Incident) -> str | None:
        told.append(json.loads(json.dumps(describe(incident))))
        return name

    desk.broker._on_incident = report
    return told


def test_a_report_tells_who_what_and_where() -> None:
    """The law, the session, the request, what led to it, and what is mapped."""
    desk, one, _ = mapped()
    told = reported(desk)
    desk.call(one, "hello", protocol=[1], client="device model")
    space_of(one).n_wired += 1

    with pytest.raises(Refused, match=r"EIO.*incident-1") as refused:
        result(desk.reply(one, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=frames(*range(1, 9))))

    assert refused.value.details == {"report": "incident-1"}
    (report,) = told
    assert report["incident"]["law"] == "4 page tables and wired pages are accounted"
    assert any("invariants.py" in line for line in report["incident"]["traceback"])
    assert report["session"]["client"] == "device model"
    assert report["request"]["method"] == "privcmd.mmapbatch_v2"
    assert report["request"]["params"]["arr"]["bytes"] == 64
    assert len(report["request"]["params"]["arr"]["sha256"]) == 64
    assert [row[1] for row in report["recent"]] == ["mmap", "privcmd.mmapbatch_v2", "hello", "privcmd.mmapbatch_v2"]
    assert report["recent"][2][2] == "done"
    assert report["recent"][3][2].startswith("ModelError: EINVAL")
    assert report["space"]["personality"] == "uvm"
    assert [row["start"] for row in report["space"]["maps"]] == [BASE]
    assert report["stats"]["broker"]["instance"] == report["instance"]


def test_the_end_of_a_connection_is_reported_too() -> None:
    """A law that is broken when a space is closed, and a disk that fails then."""
    desk, one, other = mapped()
    told = reported(desk)
    space_of(one).n_wired += 1
    desk.broker.disconnect(one)
    desk.call(desk.connect(ROOT), "domain.decrease_reservation", dom=1, arr=[2])
    desk.backing.broken = OSError(5, "no hole today")
    desk.broker.disconnect(other)

    assert [report["incident"]["kind"].split()[0] for report in told] == ["law", "OSError"]
    assert [report["request"] for report in told] == [None, None]


def test_a_report_is_bounded_and_survives_a_broken_state() -> None:
    """Whatever a client sends and however much it has mapped; parts that cannot be told say why."""
    desk, one, _ = mapped()
    told = reported(desk)
    for index in range(300):
        desk.reserve(one, 1, addr=BASE + (10 + 2 * index) * 4096)
    wide = {"k" * 4000 + str(index): ["v" * 4000] * 1000 for index in range(20)}
    space_of(one).n_wired += 1
    assert desk.reply(one, "ping", **wide).close
    assert len(json.dumps(told[0])) < 400_000
    assert told[0]["space"]["maps_left_out"] == 301 - 256

    del desk.broker.world.machine.frames
    assert desk.reply(one, "ping").close
    assert told[1]["stats"].startswith("cannot be told: AttributeError")
    assert told[1]["request"]["method"] == "ping"
