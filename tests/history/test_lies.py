# SPDX-License-Identifier: Apache-2.0
"""A checker that nothing can fail is worth nothing: lies about replies, about numbers, about time, and wrong brokers.

Each lie is told in one place of a history that is right, and the message has to name the record that shows it.
"""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from history import __main__ as command
from history.order import Wrong
from history.record import END, History, Record
from history.replay import check
from history.stage import Stage, play
from history.world import numbers
from privcmdd.model.machine import foreign
from privcmdd.model.privcmd import linux, requests, uvm
from privcmdd.service.sequence import Sequence
from privcmdd.service.steps import Ticket
from privcmdd.service.turnstile import Turnstile
from support.desk import BASE, PAGE, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    Lie = Callable[[History], tuple[Record, Record]]  # which record, and what it says now


def script() -> History:
    """Two clients, one after the other but for one batch in slices that a third gets in between."""
    stage = Stage()
    (first,) = stage.actors
    second, third = stage.connect(), stage.connect()
    batch = {"dom": 1, "addr": BASE, "extents": True}
    before: list[tuple[Any, str, dict[str, Any]]] = [
        (first, "domain.decrease_reservation", {"dom": 1, "arr": frames(39)}),
        (first, "domain.info", {"dom": 1, "num": 40}),
        (first, "privcmd.mmapbatch_v2", {**batch, "arr": frames(3, 39, 5)}),
        (first, "privcmd.mmapbatch", {**batch, "addr": BASE + 5 * PAGE, "arr": frames(39, 6)}),
        (first, "write", {"addr": BASE + 7, "data": b"seven"}),
        (first, "read", {"addr": BASE + 5, "len": 5}),
        (first, "domain.page_out", {"dom": 1, "arr": frames(20, 20)}),
        (first, "maps", {}),
        (first, "mmap", {"len": PAGE, "prot": 3}),
        (third, "privcmd.mmapbatch", {"dom": 2, "addr": BASE, "arr": frames(stage.workload.mfns[3])}),
        (third, "fault", {"addr": BASE}),
    ]
    for actor, method, params in before:
        stage.send(actor, method, params)
        stage.finish(actor)
    stage.finish(second)
    stage.send(second, "privcmd.mmapbatch_v2", {**batch, "arr": frames(*range(40))})
    stage.step(second)
    stage.step(second)  # 16 frames looked up: the third and the last of all are not among them
    stage.send(first, "domain.populate", {"dom": 1, "arr": frames(39)})
    stage.finish(first)
    stage.finish(second)
    for method, params in (("domain.info", {"dom": 1, "num": 40}), ("domain.destroy", {"dom": 3}), ("stats", {})):
        stage.send(first, method, params)
        stage.finish(first)
    stage.send(first, "domain.create", {"dom": 3, "kind": "hvm", "max_pages": 4})
    stage.send(first, "domain.info", {"dom": 3})
    stage.send(first, "domain.info", {"dom": 2, "num": 40})
    stage.finish(first)
    return stage.history()


def the(history: History, method: str, at: int = 0) -> Record:
    """The record of the scripted history with this method."""
    return [record for record in history.records if record.method == method][at]


def said(record: Record, **changed: Any) -> tuple[Record, Record]:
    """A reply that says something else."""
    assert record.result is not None
    assert any(record.result[key] != value for key, value in changed.items())
    return record, replace(record, result={**record.result, **changed})


def told(record: Record) -> dict[str, Any]:
    """What a reply says, but for its numbers."""
    assert record.result is not None
    return {key: value for key, value in record.result.items() if key not in ("seq", "slices", "queued")}


def first_entry(record: Record, **changed: Any) -> tuple[Record, Record]:
    """``maps`` whose first entry says something else."""
    entries = told(record)["entries"]
    return said(record, entries=[{**entries[0], **changed}, *entries[1:]])


def reversed_frames(record: Record) -> tuple[Record, Record]:
    """``domain.info`` with each frame in the place of another."""
    return said(record, frames=frames(*reversed(numbers(told(record)["frames"], "Q"))))


def generation_of(history: History) -> int:
    """The generation of domain 1."""
    generation: int = told(the(history, "domain.info", 1))["generation"]
    return generation


def refused(record: Record) -> tuple[Record, Record]:
    """A refusal in the place of an answer."""
    return record, replace(record, result=None, error=(14, "EFAULT: no", {"seq": record.seq}))


BATCH, BATCH_V1 = "privcmd.mmapbatch_v2", "privcmd.mmapbatch"
REPLIES: dict[str, Lie] = {
    "another error of a frame": lambda h: said(the(h, BATCH), err=struct.pack("<3i", 0, -1, 0)),
    "a frame that did not fail": lambda h: said(the(h, BATCH), err=None),
    "the error of another frame": lambda h: said(the(h, BATCH), err=struct.pack("<3i", -22, 0, 0)),
    "other bits in the array": lambda h: said(the(h, BATCH_V1), arr=frames(0x80000000 | 39, 6)),
    "another return value": lambda h: said(the(h, BATCH), ret=-2),
    "another count": lambda h: said(the(h, BATCH), n_failed=2),
    "another page of the file": lambda h: said(the(h, BATCH, 1), extents=struct.pack("<3I", 0, 1, 40)),
    "extents of a failed frame": lambda h: said(the(h, BATCH), extents=struct.pack("<3I", 0, 3, 3)),
    "another protection": lambda h: said(the(h, BATCH), prot=1),
    "another byte": lambda h: said(the(h, "read"), data=b"\0\0sov"),
    "fewer frames done": lambda h: said(the(h, "domain.populate"), done=0),
    "a reason where there is none": lambda h: said(the(h, "domain.populate"), why="no"),
    "an error of paging twice": lambda h: said(the(h, "domain.page_out"), err=struct.pack("<2i", 0, 0)),
    "a frame of the p2m": lambda h: said(the(h, "domain.info", 1), frames=frames(*range(40))),
    "more frames owned": lambda h: said(the(h, "domain.info"), tot_pages=41),
    "the generation of another": lambda h: said(
        the(h, "domain.info", 3), generation=told(the(h, "domain.info", 1))["generation"]
    ),
    "a domain that cannot be gone": lambda h: said(the(h, "domain.destroy"), state="dying"),
    "a counter": lambda h: said(the(h, "stats"), objects={"alive": 7}),
    "a page that is taken": lambda h: said(the(h, "mmap", 3), addr=BASE),
    "another protection of an entry": lambda h: first_entry(the(h, "maps"), prot=1),
    "another place in the object": lambda h: first_entry(the(h, "maps"), offset=PAGE),
    "another frame of a PV domain": lambda h: said(the(h, "fault"), frame=300),
    "a machine frame that was another": lambda h: reversed_frames(the(h, "domain.info", 4)),
    "a refusal": lambda h: refused(the(h, "read")),
    "an answer from the past": lambda h: said(the(h, "domain.info", 2), **told(the(h, "domain.info", 1))),
}


@pytest.mark.parametrize("lie", REPLIES.values(), ids=REPLIES)
def test_a_false_reply_is_named(lie: Lie) -> None:
    """The first record that no right broker can have made is the one whose reply was changed."""
    history = script()
    record, false = lie(history)
    with pytest.raises(Wrong) as wrong:
        check(with_(history, {record: false}))
    assert wrong.value.record is false
    assert str(wrong.value).startswith(f"{false.method} of client {false.client} (seq {false.seq}")


def with_(history: History, changed: dict[Record, Record]) -> History:
    """A history in which some records are others."""
    return History(history.setting, [changed.get(record, record) for record in history.records])


def renumbered(record: Record, **steps: Any) -> Record:
    """A record whose reply tells other numbers."""
    assert record.result is not None
    return replace(record, result={**record.result, **steps})


def test_the_script_is_right_and_told_in_slices() -> None:
    """The history that the lies are about."""
    history = script()
    assert check(history).undecided is None
    assert len(the(history, BATCH, 1).slices) == 4


def test_numbers_that_change_places_are_named() -> None:
    """Of two requests one after the other, the later one has the lower number."""
    history = script()
    one, other = the(history, "read"), the(history, "domain.page_out")
    false = renumbered(other, seq=one.seq)
    with pytest.raises(Wrong, match="had been answered before it was asked") as wrong:
        check(with_(history, {one: renumbered(one, seq=other.seq), other: false}))
    assert wrong.value.record is false


def test_replies_that_change_places_are_named() -> None:
    """Each gets the other's answer, with its number or without."""
    history = script()
    one, other = the(history, "domain.info", 1), the(history, "domain.info", 2)
    assert one.result is not None
    assert other.result is not None
    false = replace(one, result={**other.result, "seq": one.seq})
    with pytest.raises(Wrong) as wrong:
        check(with_(history, {one: false, other: replace(other, result={**one.result, "seq": other.seq})}))
    assert wrong.value.record is false
    false = replace(other, result=one.result)
    with pytest.raises(Wrong, match="had been answered before it was asked"):
        check(with_(history, {one: replace(one, result=other.result), other: false}))


def test_a_slice_at_another_time_is_found() -> None:
    """The frame was populated before the slice that looked it up: told the other way round, the reply is false."""
    history = script()
    batch, populate = the(history, BATCH, 1), the(history, "domain.populate")
    assert batch.result is not None
    assert batch.slices[1] < (populate.seq or 0) < batch.slices[2]
    false = renumbered(
        batch,
        slices=[
            *batch.slices[:3],
            batch.slices[3],
        ],
        seq=batch.seq,
    )
    late = renumbered(populate, seq=batch.seq)
    false = renumbered(batch, slices=[n - (n > (populate.seq or 0)) for n in batch.slices], seq=(batch.seq or 0) - 1)
    with pytest.raises(Wrong, match=r"its extents .* are not of the frames") as wrong:
        check(with_(history, {batch: false, populate: late}))
    assert wrong.value.record is false
    fewer = renumbered(batch, slices=batch.slices[:-1])
    with pytest.raises(Wrong, match="was done for nobody"):
        check(with_(history, {batch: fewer}))
    other_way = renumbered(batch, slices=batch.slices[1:], queued=batch.slices[0])
    with pytest.raises(Wrong, match="one of its steps is told as 'queued', expected 'slice'"):
        check(with_(history, {batch: other_way}))


def test_what_is_left_out_is_found() -> None:
    """A request that is missing, a number that comes twice, an answer without one, a request of the dead."""
    history = script()
    records = history.records
    read, last = the(history, "read"), records[-1]
    without = History(history.setting, [record for record in records if record is not read])
    with pytest.raises(Wrong, match=f"step {read.seq} was done for nobody"):
        check(without)
    false = renumbered(the(history, "maps"), seq=read.seq)
    with pytest.raises(Wrong, match="and so has read of client"):
        check(with_(history, {the(history, "maps"): false}))
    with pytest.raises(Wrong, match="answered without a number"):
        check(with_(history, {read: renumbered(read, seq=None)}))
    silent = replace(read, received=None, result=None)
    with pytest.raises(Wrong, match="it was answered, but not read of client"):
        check(with_(history, {read: silent}))
    with pytest.raises(Wrong, match="never answered, and its client has not gone"):
        check(with_(history, {last: replace(last, received=None, result=None)}))
    gone = Record(read.client, read.sent, None, END, {}, known={"seq": read.seq})
    with pytest.raises(Wrong, match="its client had gone before"):
        check(with_(history, {read: gone}))


def test_the_command_tells_the_wrong_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, and the record by name."""
    history = script()
    record, false = REPLIES["another byte"](history)
    with_(history, {record: false}).save(tmp_path / "lie")
    assert command.main([str(tmp_path / "lie")]) == 1
    assert "WRONG: read of client 1" in capsys.readouterr().out


def n_wrong(n_seeds: int = 20) -> int:
    """In how many random histories a broker is found to be wrong."""
    found = 0
    for seed in range(n_seeds):
        try:
            check(play(random.Random(seed).randrange, 400, most_untold=0))
        except Wrong:
            found += 1
    return found


def test_a_right_broker_is_never_wrong() -> None:
    """The measure for the brokers below."""
    assert n_wrong() == 0


def test_a_broker_without_turns_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of one space map at the same time."""
    monkeypatch.setattr(Turnstile, "try_enter", lambda _: Ticket(granted=True))
    monkeypatch.setattr(Turnstile, "leave", lambda *_: None)
    assert n_wrong() > 5


def test_a_broker_that_looks_too_early_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """All frames are looked up in the first slice; the others only pretend."""

    def early(
        space: Any, domid: int, gmfns: Any, protection: int | None = None, *, stop: bool = False
    ) -> Generator[None, None, Any]:
        found = foreign.get(space.machine, domid, gmfns, protection, stop=stop)
        try:
            if not isinstance(gmfns, list):
                for _ in range(space.slice_frames, len(gmfns), space.slice_frames):
                    yield
        except GeneratorExit:
            requests.put_frames(space, found[0])
            raise
        return found

    monkeypatch.setattr(uvm, "get_frames", early)
    monkeypatch.setattr(linux, "get_frames", early)
    assert n_wrong() > 5


def test_a_broker_with_numbers_out_of_order_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every two numbers change places."""
    take = Sequence.take
    monkeypatch.setattr(Sequence, "take", lambda self: take(self) + (1 if self.last % 2 else -1))
    assert n_wrong() == 20
