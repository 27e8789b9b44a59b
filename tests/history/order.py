# SPDX-License-Identifier: Apache-2.0
"""The order of a history: every step of the broker in its place, held against what clients know of time.

Three laws. Numbers are given once, and none is left out but for what clients who went may have left behind. The
steps of one client's requests come in the order of asking, those of one request in the order that its reply
says. And what was answered before something else was asked has the lower numbers: a broker that answers from a
past state breaks this one, however well its numbers fit each other.

Sorting apart, each record is looked at a fixed number of times.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from history.record import END

if TYPE_CHECKING:
    from history.record import History, Record

Kind = Literal["queued", "slice", "last"]


class Wrong(Exception):  # noqa: N818 - a verdict on the broker
    """A history that no right broker can have produced; says which record shows it."""

    def __init__(self, record: Record | None, text: str) -> None:
        super().__init__(text if record is None else f"{record}: {text}")
        self.record = record
        self.text = text


class Step(NamedTuple):
    """One step of the broker.

    Attributes:
        number: Its place.
        record: The request that it was done for; None for a number that nobody was told.
        kind: How it ended.
    """

    number: int
    record: Record | None
    kind: Kind


@dataclass(frozen=True, slots=True)
class Silent:
    """A request that was never answered, or an end, of which no number is known.

    Attributes:
        record: What was asked.
        floor: Its steps, if there are any, have higher numbers.
    """

    record: Record
    floor: int


@dataclass(frozen=True, slots=True)
class Order:
    """A history in the broker's order.

    Attributes:
        steps: All of them, those that nobody was told of included.
        silent: Who may have had those, each client's in its order.
    """

    steps: list[Step]
    silent: list[Silent]


def order(history: History) -> Order:
    """Put a history in order.

    Raises:
        Wrong: It breaks one of the laws.
    """
    steps = numbered(history)
    silent = in_time(history)
    floor = min((one.floor for one in silent), default=None)
    for step in steps:
        if step.record is None and (floor is None or step.number <= floor):
            raise Wrong(
                None, f"step {step.number} was done for nobody: no client has gone that could have asked for it"
            )
    return Order(steps, silent)


def numbered(history: History) -> list[Step]:
    """All steps by their numbers.

    Raises:
        Wrong: A number comes twice, or a request's own do not grow.
    """
    steps: list[Step] = []
    for record in history.records:
        kinds: list[Kind] = [] if record.queued is None else ["queued"]
        kinds += ["slice"] * len(record.slices)
        kinds += [] if record.seq is None else ["last"]
        own = [Step(number, record, kind) for number, kind in zip(record.steps, kinds, strict=True)]
        if any(before.number >= after.number for before, after in pairwise(own)):
            raise Wrong(record, f"its steps have the numbers {record.steps}, and come one after the other")
        if record.received is not None and record.seq is None and record.method != "hello":
            raise Wrong(record, "it was answered without a number")
        steps += own
    steps.sort(key=lambda step: step.number)
    whole = steps[:1]
    for before, after in pairwise(steps):
        if before.number == after.number:
            raise Wrong(after.record, f"it has the number {after.number}, and so has {before.record}")
        whole += [Step(number, None, "last") for number in range(before.number + 1, after.number)]
        whole.append(after)
    return whole


def in_time(history: History) -> list[Silent]:
    """Hold the numbers against the clients' events.

    Returns:
        The requests and ends that nobody was told the numbers of.

    Raises:
        Wrong: Something that was answered before something else was asked has the higher number; or the requests of
            one client were not done in the order of asking.
    """
    silent: list[Silent] = []
    latest: Record | None = None  # of those answered so far, the one with the highest number
    done: dict[int, int] = {}  # client -> the number up to which its requests have been done
    unanswered: dict[int, Record] = {}
    gone: set[int] = set()
    for is_answer, record in events(history):
        top = 0 if latest is None else latest.steps[-1]
        if is_answer:
            latest = record if record.seq is not None and record.seq > top else latest
            continue
        client = record.client
        if client in gone:
            raise Wrong(record, "its client had gone before")
        if record.received is not None and client in unanswered:
            raise Wrong(record, f"it was answered, but not {unanswered[client]}, which came before it")
        if record.method == END:
            gone.add(client)
        elif record.received is None:
            unanswered.setdefault(client, record)
        if record.is_silent:
            silent.append(Silent(record, max(top, done.get(client, 0))))
        if not record.steps:
            continue
        first = record.steps[0]
        if first <= top:
            raise Wrong(record, f"it was begun in step {first}, but {latest} had been answered before it was asked")
        if first <= done.get(client, 0):
            raise Wrong(record, f"it was begun in step {first}, before its client's earlier requests were done")
        done[client] = record.steps[-1]
    for client, record in unanswered.items():
        if client not in gone:
            raise Wrong(record, "it was never answered, and its client has not gone")
    return silent


def events(history: History) -> list[tuple[bool, Record]]:
    """Askings (False) and answers (True), in the order in which clients saw them."""
    asked = [(record.sent, False, record) for record in history.records]
    answered = [(record.received, True, record) for record in history.records if record.received is not None]
    found = sorted([*asked, *answered], key=lambda event: event[0])
    return [(is_answer, record) for _, is_answer, record in found]
