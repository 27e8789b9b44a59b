# SPDX-License-Identifier: Apache-2.0
"""Histories of the broker, its clients interleaved step by step, are found right."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from history import __main__ as command
from history.record import History
from history.replay import check
from history.stage import Stage, play
from history.workload import N_PAGES
from support.desk import BASE
from support.profiles import PROFILE

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


@PROFILE.law
@given(st.randoms(use_true_random=False), st.integers(50, 300), st.integers(0, 2))
def test_any_interleaving_is_right(chance: random.Random, n_actions: int, most_untold: int) -> None:
    """Clients share spaces and domains, queue, are served in slices, pipeline, die: every reply is as replayed."""
    summary = check(play(chance.randrange, n_actions, most_untold))
    assert summary.undecided is None or most_untold


def test_histories_say_much() -> None:
    """Fixed seeds reach what the checker is for: slices with others in between, queues, gaps, refusals, bytes."""
    histories = [play(random.Random(seed).randrange, 400, most_untold=1) for seed in range(20)]
    summaries = [check(history) for history in histories]
    records = [record for history in histories for record in history.records]

    assert all(summary.undecided is None for summary in summaries)
    assert sum(summary.n_steps for summary in summaries) > 2000
    assert sum(summary.n_gaps for summary in summaries) > 20
    assert sum(summary.n_compared for summary in summaries) > 2500
    assert sum(len(record.slices) > 0 for record in records) > 200
    assert sum(record.queued is not None for record in records) > 20
    assert sum(record.error is not None for record in records) > 200
    assert sum(record.method == "read" and record.result is not None for record in records) > 5
    assert sum(are_apart(record.steps) for record in records) > 100


def test_a_mapping_is_unused_until_its_first_entry_is_in() -> None:
    """Linux: another thread that looks while MMAP looks frames up sees neither pages nor failures."""
    stage = Stage()
    owner = stage.connect()  # every third client is Linux, the second of all first
    stage.finish(owner)
    (attached,) = [
        r for r in stage.history().records if r.client == owner.session.number and r.method == "space.attach"
    ]
    assert attached.result is not None
    thread = stage.connect(attached.result["space"])
    stage.finish(thread)
    stage.send(owner, "privcmd.mmap", {"dom": 1, "entry": [{"va": BASE, "mfn": 0, "npages": N_PAGES}]})
    stage.step(owner)
    stage.step(owner)
    stage.send(thread, "maps", {})
    stage.finish(thread)
    history = stage.history()

    check(history)
    (seen,) = [record.result["entries"][0] for record in history.records if record.method == "maps" and record.result]
    assert (seen["present"], seen["failed"]) == (0, 0)
    (mapped,) = [record for record in history.records if record.method == "privcmd.mmap"]
    assert are_apart(mapped.steps)


def are_apart(steps: list[int]) -> bool:
    """Whether steps of others came between."""
    return len(steps) > 1 and steps[-1] - steps[0] >= len(steps)


def rounds(n: int) -> History:
    """A few clients who do the same over and over."""
    stage = Stage()
    actors = [stage.connect() for _ in range(3)]
    for _ in range(n):
        chance = random.Random(1)
        for i in range(150):
            method, params = stage.workload.request(chance.randrange)
            if method != "space.fork":
                stage.send(actors[i % 3], method, params)
            for actor in actors:
                stage.step(actor)
                stage.hear(actor)
    return stage.history()


def calls_of(history: History) -> int:
    """How many calls of functions it takes to check a history."""
    n_calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal n_calls
        n_calls += event == "call"

    sys.setprofile(count)
    try:
        check(history)
    finally:
        sys.setprofile(None)
    return n_calls


def test_the_time_is_linear() -> None:
    """What a longer history takes on top is in proportion to what is on top. Calls are counted, not the time."""
    few, more, many = (calls_of(rounds(n)) for n in (2, 6, 14))
    assert (many - more) / 8 < 1.05 * (more - few) / 4


def test_a_history_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was saved says the same when it is loaded, and the command checks it."""
    history = play(random.Random(3).randrange, 300)
    file = tmp_path / "history.jsonl"
    history.save(file)
    loaded = History.load(file)
    assert (loaded.setting, list(map(str, loaded.records))) == (history.setting, list(map(str, history.records)))
    assert str(check(loaded)) == str(check(history))
    assert command.main([str(file)]) == 0
    assert f"right: {check(history)}" in capsys.readouterr().out

    file.write_text("{}\n")
    assert command.main([str(file)]) == 2
