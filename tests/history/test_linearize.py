# SPDX-License-Identifier: Apache-2.0
"""Two checkers that share nothing: where the numbers explain a short history, so does the search without them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from history.linearize import State, linearizable
from history.order import Order, Wrong, numbered
from history.record import END, History, Record
from history.replay import Play, check
from history.stage import Stage
from history.workload import SETTING, Short
from support.backing import MemoryBacking
from support.desk import BASE, PAGE
from support.profiles import PROFILE

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_CLIENTS, MOST_REQUESTS = 8, 12
START = State(populated=frozenset((gfn, gfn) for gfn in range(3)), n_frames=3)


def short_history(chance: random.Random, n_clients: int = MOST_CLIENTS) -> History:
    """A few clients, each with one request at a time, done in the moment of their choice; some die."""
    stage = Stage(Short())
    (first,) = stage.actors
    for _ in range(n_clients - 1):
        stage.connect()
    left = dict.fromkeys(stage.actors, MOST_REQUESTS)
    while left:
        actor = chance.choice(list(left))
        what = chance.randrange(20)
        if what == 0 and actor is not first:
            stage.die(actor, known=False)
            del left[actor]
        elif what < 8 or not (actor.outbox or actor.inbox):
            if not (actor.outbox or actor.inbox):
                stage.send(actor, *stage.workload.request(chance.randrange))
        elif actor.outbox:
            stage.step(actor)
        else:
            stage.hear(actor)
            left[actor] -= 1
            if not left[actor]:
                del left[actor]
    return stage.history()


def is_right(history: History) -> bool:
    """The verdict of the replay."""
    try:
        assert check(history).undecided is None
    except Wrong:
        return False
    return True


def has_an_order(history: History) -> bool:
    """The verdict of the search, for which the domain is there from the beginning."""
    return linearizable([record for record in history.records if record.method != "domain.create"], START)


@PROFILE.law
@given(st.integers(0, 2**32), st.integers(1, MOST_CLIENTS))
def test_both_find_a_right_broker_right(seed: int, n_clients: int) -> None:
    """Histories of up to 8 clients and 12 requests each, some clients dying with requests unanswered."""
    history = short_history(random.Random(seed), n_clients)
    assert is_right(history)
    assert has_an_order(history)


def lost_frame(record: Record) -> Record | None:
    """A frame that no answer can have failed with this errno."""
    if record.method != "privcmd.mmapbatch_v2" or not record.result:
        return None
    err = b"\xf0\xff\xff\xff" * (len(record.params["arr"]) // 8)
    return replace(record, result={**record.result, "err": err})


def other_byte(record: Record) -> Record | None:
    """A byte that nobody has written."""
    return (
        replace(record, result={**record.result, "data": b"\xff"})
        if record.method == "read" and record.result
        else None
    )


def more_done(record: Record) -> Record | None:
    """More frames than were named."""
    if not record.method.startswith("domain.") or not record.result or "done" not in record.result:
        return None
    return replace(record, result={**record.result, "done": 9})


def other_errno(record: Record) -> Record | None:
    """Another refusal."""
    return replace(record, error=(13, "EACCES: no", record.error[2])) if record.error is not None else None


@pytest.mark.parametrize("lie", [lost_frame, other_byte, more_done, other_errno])
def test_both_find_a_false_reply(lie: Callable[[Record], Record | None]) -> None:
    """One reply that no order can explain, anywhere in a history, is rejected by both; the replay names it."""
    n_lies = 0
    for seed in range(20):
        history = short_history(random.Random(seed), 3)
        told = [at for at, record in enumerate(history.records) if lie(record) is not None]
        for at in told[:: max(1, len(told) // 3)]:
            false = lie(history.records[at])
            assert false is not None
            corrupt = History(history.setting, [*history.records[:at], false, *history.records[at + 1 :]])
            with pytest.raises(Wrong) as wrong:
                check(corrupt)
            assert wrong.value.record is false
            assert not has_an_order(corrupt)
            n_lies += 1
    assert n_lies > 10


def test_both_find_a_broker_that_loses_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker whose writes reach memory only with the next write. What the search rejects, the replay rejects too."""
    late: list[tuple[Any, ...]] = []
    write = MemoryBacking.write

    def write_late(self: MemoryBacking, *args: Any) -> None:
        late.append((self, *args[:3], bytes(args[3])))
        if len(late) > 1:
            write(*late.pop(0))

    monkeypatch.setattr(MemoryBacking, "write", write_late)
    verdicts = []
    for seed in range(60):
        late.clear()
        history = short_history(random.Random(seed), 2)
        verdicts.append((is_right(history), has_an_order(history)))
    assert (True, False) not in verdicts
    assert verdicts.count((False, False)) > 10


def asked(client: int, sent: int, received: int | None, seq: int, method: str, result: Any, **params: Any) -> Record:
    """A record."""
    return Record(client, sent, received, method, params, None if received is None else {**result, "seq": seq})


def test_a_broker_that_lies_about_its_numbers_is_found_out() -> None:
    """It answers from a state that is past, and gives the answer a number in that past: every reply fits its number.

    A replay by numbers alone sees nothing. The clients' own events do, and the search, which never saw the numbers.
    """
    arr = {"dom": 1, "arr": (5).to_bytes(8, "little")}
    place: dict[str, Any] = {"addr": BASE, "len": PAGE, "prot": 3, "fixed": True}
    made = {"dom": 1, "kind": "hvm", "max_pages": 48, "ranges": [{"gfn": 0, "npages": 3}]}
    failed = {"ret": 0, "n_failed": 1, "err": b"\xea\xff\xff\xff"}
    records = [
        asked(1, 1, 2, 1, "domain.create", {"dom": 1, "tot_pages": 3}, **made),
        asked(2, 3, 4, 2, "mmap", {"addr": BASE}, **place),
        asked(1, 5, 6, 4, "domain.populate", {"done": 1, "why": None, "frames": None}, **arr),
        asked(2, 7, 8, 3, "privcmd.mmapbatch_v2", failed, **arr, addr=BASE),  # before the frame was there, it says
    ]
    lie = History(SETTING, records)

    by_numbers = Play(lie, Order(numbered(lie), []), [])
    by_numbers.run()
    assert by_numbers.ended is None
    with pytest.raises(Wrong, match=r"step 3, but domain\.populate.* had been answered before it was asked"):
        check(lie)
    assert not has_an_order(lie)

    late = replace(records[2], received=9)  # had the populating still been under way, both orders would do
    assert is_right(History(SETTING, [*records[:2], late, records[3]]))
    assert has_an_order(History(SETTING, [*records[:2], late, records[3]]))


def test_the_search_knows_what_may_not_have_happened() -> None:
    """An unanswered request explains a reply or is left out, and the end of a client takes its mappings."""
    write = Record(2, 5, None, "write", {"addr": BASE, "data": b"\x07"})
    page = frozenset({(1, BASE // PAGE, 0), (2, BASE // PAGE, 0)})
    for value, found in ((0, True), (7, True), (8, False)):
        read = asked(1, 6, 7, 0, "read", {"data": bytes([value])}, addr=BASE)
        assert linearizable([write, read, Record(2, 8, None, END, {})], START._replace(pages=page)) is found
    assert not linearizable(
        [replace(write, sent=8), asked(1, 6, 7, 0, "read", {"data": b"\x07"}, addr=BASE)], START._replace(pages=page)
    )
