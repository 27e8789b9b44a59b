# SPDX-License-Identifier: Apache-2.0
"""A recorded history played to the naive machine, step by step in the broker's order: every reply must be its reply.

Each step is one move of the naive machine, so the time is that of the history's length. Numbers that nobody was
told belong to clients that went: to a request that was given up, or whose answer nobody heard, or to the end of
the connection. Which, can mostly be told from the order; where several could have had a number, each is tried.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from errno import EINVAL, ENOSYS, errorcode
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from history import conversation, domains, ioctls, memory
from history.order import Wrong, order
from history.record import END
from history.world import Undecided, World
from privcmdd.wire.methods import METHODS, ParamError, validate
from support.naive.host import Refused
from support.naive.spaces import READ

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from history.order import Kind, Order, Silent
    from history.record import History, Record

HANDLERS: Final[dict[str, Callable[[World, Record, dict[str, Any]], Any]]] = {
    **conversation.HANDLERS,
    **domains.HANDLERS,
    **memory.HANDLERS,
    **ioctls.HANDLERS,
}
MEMORY: Final = frozenset(memory.HANDLERS)
MOST_TRIALS: Final = 1000
"""Ways to give unknown numbers away that are tried."""


@dataclass(slots=True)
class Summary:
    """What was checked.

    Attributes:
        n_records: Requests and ends in the history.
        n_unanswered: Requests among them that got no answer.
        n_clients: Who made them.
        n_steps: Steps of the broker that were replayed.
        n_gaps: Those among them that nobody was told of.
        n_compared: Values of replies that were compared.
        n_trials: How often the history was replayed, until unknown numbers had found their owners.
        undecided: Why the replay ended early; None when it did not. The order was checked to the end.
    """

    n_records: int
    n_unanswered: int
    n_clients: int
    n_steps: int = 0
    n_gaps: int = 0
    n_compared: int = 0
    n_trials: int = 1
    undecided: str | None = None

    def __add__(self, other: Summary) -> Summary:
        """Two histories together."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in self.__slots__ if name != "undecided"}
        return Summary(**sums)

    def __str__(self) -> str:
        """For people."""
        text = (
            f"{self.n_records} requests of {self.n_clients} clients, {self.n_unanswered} unanswered; "
            f"{self.n_steps} steps replayed, {self.n_gaps} of them untold; {self.n_compared} values compared"
        )
        return text if self.undecided is None else f"{text}; undecided from here: {self.undecided}"


def check(history: History) -> Summary:
    """Hold a history against the naive machine.

    Returns:
        What was checked.

    Raises:
        Wrong: No right broker can have answered so; names the first record that shows it.
    """
    timeline = order(history)
    choices: list[int] = []
    best: Play | None = None
    for n_trials in range(1, MOST_TRIALS + 1):
        play = Play(history, timeline, choices)
        play.run()
        play.summary.n_trials = n_trials
        if play.ended is None:
            return play.summary
        if best is None or play.rank > best.rank:
            best = play
        choices = following(play.taken)
        if not choices:
            break
    assert best is not None
    if isinstance(best.ended, Wrong) and not choices:
        raise best.ended
    tried = f"untold numbers can be given away in more than {MOST_TRIALS} ways, the best of them ends with"
    best.summary.undecided = f"{tried} {best.ended}" if choices else str(best.ended)
    return best.summary


class Taken(NamedTuple):
    """Which of how many ways was taken at a number that nobody was told."""

    choice: int
    n: int


def following(taken: list[Taken]) -> list[int]:
    """The choices to try next; none when all have been tried."""
    choices = [one.choice for one in taken]
    while choices:
        if choices[-1] + 1 < taken[len(choices) - 1].n:
            return [*choices[:-1], choices[-1] + 1]
        choices.pop()
    return []


@dataclass(eq=False)
class Play:
    """One replay, with given choices at the numbers that nobody was told; the first way beyond those."""

    history: History
    order: Order
    choices: list[int]
    taken: list[Taken] = field(default_factory=list)
    ended: Wrong | Undecided | None = None

    def __post_init__(self) -> None:
        records = self.history.records
        unanswered = sum(record.received is None and record.method != END for record in records)
        self.summary = Summary(len(records), unanswered, len({record.client for record in records}))
        self.world = World(self.history.setting)
        self.running: dict[Record, Generator[Kind, None, None]] = {}
        self.silent: dict[int, deque[Silent]] = {}
        for one in self.order.silent:
            self.silent.setdefault(one.record.client, deque()).append(one)

    @property
    def rank(self) -> tuple[bool, int]:
        """How telling its end is: a replay that could go on wins, then the longest."""
        return isinstance(self.ended, Undecided), self.summary.n_steps

    def run(self) -> None:
        """Replay until the end, or until something is wrong or beyond the naive machine."""
        try:
            for step in self.order.steps:
                if step.record is None:
                    self.fill(step.number)
                else:
                    self.advance(step.record, step.kind)
                self.summary.n_steps += 1
        except (Wrong, Undecided) as end:
            self.ended = end
        self.summary.n_compared = self.world.n_compared
        for steps in self.running.values():
            steps.close()

    def fill(self, number: int) -> None:
        """A number that nobody was told: some client that went had it."""
        ways: list[Callable[[], None]] = []
        for waiting in self.silent.values():
            head, last = waiting[0].record, waiting[-1].record
            if waiting[0].floor < number and head.method != END:
                ways.append(partial(self.advance, head, None))
            if waiting[-1].floor < number and last.method == END:
                ways.append(partial(self.advance, last, None))
        if not ways:
            raise Wrong(None, f"step {number} was done for nobody: no client has gone that could have asked for it")
        self.summary.n_gaps += 1
        ways[self.choose(len(ways))]()

    def choose(self, n: int) -> int:
        """One of several ways that things may have gone; the others are tried when this one turns out to be wrong."""
        at = len(self.taken)
        choice = self.choices[at] if at < len(self.choices) else 0
        self.taken.append(Taken(choice, n))
        return choice

    def advance(self, record: Record, kind: Kind | None) -> None:
        """Do the next step of a request, which is to end in this way."""
        steps = self.running.pop(record, None) or self.steps(record)
        if kind == "last" and record.error is not None and self.is_refused_anytime(record.error):
            steps.close()
            self.refused_anytime(record)
            return
        try:
            ended: Kind = next(steps)
            self.running[record] = steps
        except StopIteration:
            ended = "last"
        if kind not in (None, ended):
            raise Wrong(record, f"one of its steps is told as {kind!r}, expected {ended!r}")
        if ended == "last" and kind is None:
            waiting = self.silent.get(record.client)
            if waiting:
                waiting.popleft()
                if not waiting:
                    del self.silent[record.client]

    def is_refused_anytime(self, error: tuple[int, str, Mapping[str, Any]]) -> bool:
        """Whether it is a refusal that needs no reason; MMAP's may have done something before it."""
        return error[0] in self.history.setting.anytime and "entry" not in error[2]

    def refused_anytime(self, record: Record) -> None:
        """What such a refusal leaves behind: a space that the client had not had, and pages that faults entered."""
        assert record.error is not None
        if record.method.partition(".")[0] not in ("privcmd", "space", *MEMORY) or record.method == "space.attach":
            return
        is_homeless = self.world.guest(record.client).home is None
        if (
            is_homeless
            and record.error[2].get("slot") == "spaces"
            and (record.method != "space.fork" or self.choose(2))
        ):
            return
        home = self.world.home(record)
        if record.method in ("read", "write"):
            addr = record.params["addr"]
            size = record.params["len"] if record.method == "read" else len(record.params["data"])
            vpns = range(addr >> 12, (addr + size - 1 >> 12) + 1)
            absent = [vpn for vpn in vpns if vpn not in home.naive.ptes]
            if not absent:
                raise Wrong(record, f"it was refused with {record.error[1]!r}, and had nothing to pay for")
            try:
                for vpn in absent[: self.choose(len(absent))]:
                    home.naive.touch(vpn, READ)
            except Refused:
                raise Wrong(record, f"it was refused with {record.error[1]!r}, and could not have got so far") from None

    def steps(self, record: Record) -> Generator[Kind, None, None]:
        """A request of the naive machine, and its reply compared."""
        if record.method == END:
            self.end(record)
            return
        try:
            answer = self.handler(record)
            if isinstance(answer, GeneratorType):
                answer = yield from answer
        except (Refused, ParamError) as refused:
            self.compare_error(record, refused.errno)
        else:
            self.compare(record, answer)

    def handler(self, record: Record) -> Any:
        """What the naive machine answers."""
        method = METHODS.get(record.method)
        if method is None:
            raise Refused(ENOSYS)
        params = dict(record.params)
        if params.pop("fds", 0) != 0:  # descriptors, and no method takes any
            raise Refused(EINVAL)
        return HANDLERS.get(record.method, conversation.beyond)(self.world, record, validate(method, params))

    def end(self, record: Record) -> None:
        """A client goes, and what it had under way is given up."""
        for own in [own for own in self.running if own.client == record.client]:
            self.running.pop(own).close()
        self.world.leave(record.client)
        self.silent.pop(record.client, None)

    def compare_error(self, record: Record, expected: int) -> None:
        self.world.n_compared += 1
        if record.result is not None:
            raise Wrong(record, f"it was answered, expected {errorcode[expected]}")
        if record.error is not None and record.error[0] != expected:
            raise Wrong(record, f"it was refused with {record.error[1]!r}, expected {errorcode[expected]}")

    def compare(self, record: Record, expected: Mapping[str, Any]) -> None:
        if record.error is not None:
            raise Wrong(record, f"it was refused with {record.error[1]!r}, expected an answer")
        if record.result is None:
            return
        for key, value in expected.items():
            self.world.n_compared += 1
            told = record.result.get(key, "nothing")
            if told != value:
                raise Wrong(record, f"its {key} is {shown(told)}, expected {shown(value)}")


def shown(value: Any) -> str:
    """A value for a message, not too long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
