# SPDX-License-Identifier: Apache-2.0
"""Turns at the loop: who goes on next. Times here are numbers that the tests make up; no clock is looked at."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from privcmdd.server.turns import Place, Turns

QUANTUM = 1.0


def work(turns: Turns, costs: dict[Place, float], seconds: float) -> Counter[Place]:
    """Let connections that always want to go on work for so long; how long each did."""
    worked: Counter[Place] = Counter()
    for place in costs:
        turns.want(place)
    while sum(worked.values()) < seconds:
        for place in turns.choose():
            worked[place] += costs[place]  # type: ignore[assignment] # a Counter counts seconds as well
            turns.want(place, costs[place])
    for place in costs:
        turns.leave(place)
    return worked


def test_uids_share_the_loop_and_then_their_connections() -> None:
    """B5: 32 connections of one uid get together what the one connection of another uid gets, and each the same."""
    turns = Turns(QUANTUM)
    many = [turns.join(1) for _ in range(32)]
    one = turns.join(2)

    worked = work(turns, dict.fromkeys([*many, one], QUANTUM), 6400.0)

    assert worked[one] == pytest.approx(3200.0, rel=0.01)
    assert {round(worked[place]) for place in many} == {100}


def test_a_long_turn_is_paid_for() -> None:
    """B5: a connection whose steps are ten times as long gets no more time, and so a tenth of the turns."""
    turns = Turns(QUANTUM)
    long, short = turns.join(1), turns.join(1)

    worked = work(turns, {long: 10 * QUANTUM, short: QUANTUM}, 2000.0)

    assert worked[long] == pytest.approx(worked[short], rel=0.02)


@pytest.mark.parametrize("uid", [1, 2])
def test_who_comes_after_a_rest_goes_next(uid: int) -> None:
    """B5: a client that asks now and then waits only for the turn that is running, also beside busy ones of its uid."""
    turns = Turns(QUANTUM)
    victim = turns.join(uid)
    for place in [turns.join(1) for _ in range(32)]:
        turns.want(place, QUANTUM)
    for _ in range(100):
        running = turns.choose()
        assert len(running) == 1
        turns.want(victim, woken=True)
        turns.want(running[0], QUANTUM)

        assert turns.choose() == [victim]
        turns.end(victim, QUANTUM / 10)


def test_those_that_go_on_get_half_beside_those_that_are_woken() -> None:
    """However many ask for little and often, a long request goes on."""
    turns = Turns(QUANTUM)
    often, long = [turns.join(1) for _ in range(64)], turns.join(1)
    worked: Counter[Place] = Counter()
    for place in (*often, long):
        turns.want(place, QUANTUM / 4, woken=place is not long)
    while sum(worked.values()) < 1000.0:
        for place in turns.choose():
            spent = QUANTUM if place is long else QUANTUM / 4
            worked[place] += spent  # type: ignore[assignment] # as above
            turns.want(place, spent, woken=place is not long)

    assert worked[long] == pytest.approx(500.0, rel=0.01)
    assert max(worked[place] for place in often) < 9.0


def test_no_rest_is_saved_up() -> None:
    """A uid that has rested for long gets no more than its half afterwards."""
    turns = Turns(QUANTUM)
    steady, rested = turns.join(1), turns.join(2)
    turns.want(steady)
    for _ in range(100):
        assert turns.choose() == [steady]
        turns.want(steady, QUANTUM)
    turns.want(rested)

    order = []
    for _ in range(20):
        for place in turns.choose():
            order.append(place)
            turns.want(place, QUANTUM)

    assert order.count(rested) == pytest.approx(10, abs=1)


def test_short_turns_are_given_together_and_a_long_one_alone() -> None:
    """As many are given at a time as a quantum is expected to hold, at least one. A turn takes as long as the last."""
    turns = Turns(QUANTUM)
    short = [turns.join(uid) for uid in range(6)]
    long = turns.join(9)
    for place in short:
        turns.want(place, QUANTUM / 4)
    turns.want(long, 3 * QUANTUM)

    assert turns.choose() == short[:3]
    for place in short[:3]:
        turns.end(place, QUANTUM / 4)
    assert turns.choose() == short[3:]
    for place in short[3:]:
        turns.end(place, QUANTUM / 4)
    assert turns.choose() == [long]


def test_it_is_crowded_as_long_as_somebody_waits_or_has_a_turn() -> None:
    """Alone, nobody takes a turn."""
    turns = Turns(QUANTUM)
    place = turns.join(1)
    seen = [turns.crowded]
    turns.want(place)
    seen.append(turns.crowded)
    assert turns.choose() == [place]
    seen.append(turns.crowded)
    turns.end(place, 0.0)
    seen.append(turns.crowded)

    assert seen == [False, True, True, False]


def test_who_leaves_is_not_waited_for() -> None:
    """Whether it waits or has the turn: the next one has it then, and the uid is forgotten."""
    turns = Turns(QUANTUM)
    first, second, third = turns.join(1), turns.join(2), turns.join(2)
    for place in (first, second, third):
        turns.want(place, QUANTUM)
    assert turns.choose() == [first]

    turns.leave(second)
    turns.end(first, QUANTUM)
    turns.leave(first)

    assert turns.choose() == [third]
    turns.leave(third)
    assert not turns.crowded
    assert turns._uids == {}


async def test_turns_are_waited_for_in_tasks() -> None:
    """A task that takes a turn goes on when it is chosen; one that is cancelled meanwhile keeps nobody waiting."""
    turns = Turns(QUANTUM)
    holder, cancelled, last = (turns.join(uid) for uid in (1, 2, 3))
    done = []

    async def worker(place: Place) -> None:
        await turns.take(place)
        done.append(place)
        turns.give(place, QUANTUM)

    await turns.take(holder)
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def give_up() -> None:
            with scope:
                await worker(cancelled)

        nursery.start_soon(give_up)
        nursery.start_soon(worker, last)
        await trio.testing.wait_all_tasks_blocked()
        assert turns.crowded
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert done == []
        turns.give(holder, QUANTUM)

    assert done == [last]
    assert not turns.crowded
