# SPDX-License-Identifier: Apache-2.0
"""One at a time, first come first served, and places can be given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from privcmdd.service.turnstile import Turnstile
from support.profiles import PROFILE

if TYPE_CHECKING:
    from collections.abc import Generator

    from privcmdd.service.steps import Ticket


def enter(turnstile: Turnstile) -> tuple[Generator[Ticket, None, Ticket], Ticket]:
    """Begin to wait; the turn is taken already, so there is a ticket."""
    waiting = turnstile.enter()
    return waiting, next(waiting)


def pass_through(waiting: Generator[Ticket, None, Ticket]) -> Ticket:
    """Go through: the turn must have come."""
    try:
        next(waiting)
    except StopIteration as stop:
        ticket: Ticket = stop.value
        return ticket
    raise AssertionError("it is not this one's turn")


def test_who_comes_first_does_not_wait() -> None:
    """And who comes after it left does not either."""
    turnstile = Turnstile()
    for _ in range(2):
        ticket = pass_through(turnstile.enter())
        assert turnstile.n_waiting == 0
        turnstile.leave(ticket)


def test_the_driver_is_told_when_the_turn_comes() -> None:
    """Once, by whoever leaves; a driver that has not asked finds the ticket granted."""
    turnstile = Turnstile()
    holder = pass_through(turnstile.enter())
    told = []
    first, ticket = enter(turnstile)
    ticket.on_grant = lambda: told.append("first")
    second, quiet = enter(turnstile)
    assert turnstile.n_waiting == 2

    turnstile.leave(holder)
    assert (told, ticket.granted, quiet.granted) == (["first"], True, False)
    turnstile.leave(pass_through(first))
    assert quiet.granted
    turnstile.leave(pass_through(second))
    assert told == ["first"]


def test_who_gives_its_place_up_wakes_nobody() -> None:
    """The holder is told of its turn once, whoever leaves the queue behind it."""
    turnstile = Turnstile()
    holder = pass_through(turnstile.enter())
    told = []
    first, ticket = enter(turnstile)
    ticket.on_grant = lambda: told.append("first")
    others = [enter(turnstile)[0] for _ in range(3)]
    others.pop().close()
    turnstile.leave(holder)
    others.pop().close()

    assert told == ["first"]
    turnstile.leave(pass_through(first))
    turnstile.leave(pass_through(others.pop()))
    assert turnstile.n_waiting == 0


def test_a_wakeup_that_is_none_is_waited_through() -> None:
    """Going on before the turn has come only waits again."""
    turnstile = Turnstile()
    holder = pass_through(turnstile.enter())
    waiting, ticket = enter(turnstile)

    assert next(waiting) is ticket
    turnstile.leave(holder)
    turnstile.leave(pass_through(waiting))


@PROFILE.law
@given(st.lists(st.sampled_from(["enter", "give up first", "give up last", "leave", "die granted"]), max_size=30))
def test_it_is_fair(moves: list[str]) -> None:
    """Whoever gives up, the one that has waited longest is next, and there is never more than one."""
    turnstile = Turnstile()
    line: list[tuple[Generator[Ticket, None, Ticket], Ticket]] = []
    holder: Ticket | None = pass_through(turnstile.enter())
    for move in moves:
        if move == "enter" and holder is not None:
            line.append(enter(turnstile))
        elif move == "enter":
            holder = pass_through(turnstile.enter())
        elif move == "give up first" and line:
            line.pop(0)[0].close()
        elif move == "give up last" and line:
            line.pop()[0].close()
        elif move in ("leave", "die granted") and holder is not None:
            turnstile.leave(holder)
            holder = None
            if line and move == "die granted":
                line.pop(0)[0].close()
            if line:
                assert line[0][1].granted
                holder = pass_through(line.pop(0)[0])

        assert turnstile.n_waiting == len(line)
        assert not any(ticket.granted for _, ticket in line)
