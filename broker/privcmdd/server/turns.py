# SPDX-License-Identifier: Apache-2.0
"""Which connections go on next, when several could: the uids share the loop evenly, and so do the connections of a uid.

A connection works for at most a quantum, then takes its next turn. As long as nobody waits for a turn, whoever wakes up
goes on at once, and turns cost a few tests. When somebody waits, everybody who wakes up waits too; and so do those who
woke up together with others, when these have worked for long.

Turns have two classes: those of connections that were just woken, most of which need a small part of a quantum, and
those of connections that go on. As long as somebody waits in both, each class gets half of the time. So a client that
asks now and then waits only for the turn that is running, however many others go on and on.

Time is accounted as in start-time fair queueing (Goyal, Vin, Cheng, 1996), at each of three levels: class, uid,
connection. Whoever wants a turn after a rest begins where the others are, so that no rest is saved up.
"""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from itertools import count
from math import inf
from time import perf_counter
from typing import Final

import trio

# How long a connection works at a time, and how long the turns take together that are given at a time. Shorter, and
# the loop would do little else than look for events, which takes it 20 us.
QUANTUM_S: Final = 0.00025
# How long those work without turns who were woken together: thirty or forty short requests.
PASS_QUANTA: Final = 4

_NUMBERS: Final = count(1)  # equal times go in the order of coming


class Portion:
    """One of several that share the time of what is above them evenly: a class, a uid, a connection.

    Attributes:
        above: What it is a portion of; None for the whole.
        place: The connection, when it is one's.
        used_s: How long it has worked.
        floor_s: What the one of its own portions had used that got the last turn: those that rested begin there.
        n_waiting: How many connections wait in it.
        queue: Its own portions in which somebody waits, as a heap: those that have used least first. An entry is
            corrected when it comes first: what was used may have grown since, and nobody may wait there any more.
        queued: It has an entry in the queue above.
    """

    __slots__ = ("above", "floor_s", "n_waiting", "place", "queue", "queued", "used_s")

    def __init__(self, above: Portion | None, place: Place | None = None) -> None:
        self.above = above
        self.place = place
        self.used_s = 0.0
        self.floor_s = 0.0
        self.n_waiting = 0
        self.queue: list[tuple[float, int, Portion]] = []
        self.queued = False

    def wait(self) -> None:
        """Note that one more connection waits in this portion and those above it."""
        self.n_waiting += 1
        if self.above is None:
            return
        if self.n_waiting == 1:
            self.used_s = max(self.used_s, self.above.floor_s)
            if not self.queued:
                self.queued = True
                heappush(self.above.queue, (self.used_s, next(_NUMBERS), self))
        self.above.wait()

    def withdraw(self) -> None:
        """Note that one connection less waits in this portion and those above it."""
        self.n_waiting -= 1
        if self.above is not None:
            self.above.withdraw()

    def first(self) -> Place:
        """Return the connection whose turn is next in this portion; somebody waits in it."""
        portion = self
        while portion.place is None:
            portion = portion._least()
        return portion.place

    def take(self) -> None:
        """Note that the connection which is ``first``, whose portion this is, waits no more: it has its turn."""
        self.n_waiting -= 1
        above = self.above
        if above is not None:
            above.floor_s = max(above.floor_s, self.used_s)
            if not self.n_waiting:
                heappop(above.queue)
                self.queued = False
            above.take()

    def charge(self, seconds: float) -> None:
        """Account work to this portion and those above it."""
        self.used_s += seconds
        if self.above is not None:
            self.above.charge(seconds)

    def _least(self) -> Portion:
        queue = self.queue
        while True:
            used_s, _, portion = queue[0]
            if not portion.n_waiting:
                heappop(queue)
                portion.queued = False
            elif used_s < portion.used_s:
                heapreplace(queue, (portion.used_s, next(_NUMBERS), portion))
            else:
                return portion


class Place:
    """A connection among those that take turns.

    Attributes:
        uid: Whose it is.
        portion: Its portion in the class of its last turn.
        chosen: It has a turn, until ``Turns.end``.
        waits: It waits for a turn.
        expected_s: How long its next turn is expected to take: as long as the last one, the first one a quantum.
        event: Set when it is chosen.
    """

    __slots__ = ("chosen", "event", "expected_s", "going_on", "portion", "uid", "waits", "woken")

    def __init__(self, uid: int, woken: Portion, going_on: Portion, expected_s: float) -> None:
        self.uid = uid
        self.woken = Portion(woken, self)
        self.going_on = Portion(going_on, self)
        self.portion = self.woken
        self.chosen = False
        self.waits = False
        self.expected_s = expected_s
        self.event: trio.Event | None = None


class Uid:
    """The portions of a uid, one in each class, and how many connections it has."""

    __slots__ = ("going_on", "n_places", "woken")

    def __init__(self, woken: Portion, going_on: Portion) -> None:
        self.woken = Portion(woken)
        self.going_on = Portion(going_on)
        self.n_places = 0


class Turns:
    """Gives turns.

    Attributes:
        crowded: Somebody waits for a turn or has one: whoever wakes up is to ``take`` a turn before it works.
        last: Who was woken last; a connection that finds itself here is alone.
        pass_ends_s: The clock after which whoever was woken in this pass of the loop is to ``take`` a turn.
        quantum_s: How long a turn is.
    """

    __slots__ = ("_going_on", "_n_chosen", "_uids", "_whole", "_woken", "crowded", "last", "pass_ends_s", "quantum_s")

    def __init__(self, quantum_s: float = QUANTUM_S) -> None:
        self.quantum_s = quantum_s
        self.crowded = False
        self.last: Place | None = None
        self.pass_ends_s = inf
        self._whole = Portion(None)
        self._woken = Portion(self._whole)
        self._going_on = Portion(self._whole)
        self._uids: dict[int, Uid] = {}
        self._n_chosen = 0

    def join(self, uid: int) -> Place:
        """Return the place of a new connection."""
        portions = self._uids.get(uid)
        if portions is None:
            portions = self._uids[uid] = Uid(self._woken, self._going_on)
        portions.n_places += 1
        return Place(uid, portions.woken, portions.going_on, self.quantum_s)

    def leave(self, place: Place) -> None:
        """Forget a connection that ends."""
        self.withdraw(place)
        if place.chosen:
            self.give(place, 0.0)
        if self.last is place:
            self.last = None
        portions = self._uids[place.uid]
        portions.n_places -= 1
        if not portions.n_places:
            del self._uids[place.uid]

    async def take(self, place: Place, spent_s: float = 0.0, *, woken: bool = False) -> None:
        """Give up the turn, if there is one, and wait for the next one.

        Args:
            place: Whose turn.
            spent_s: How long it has worked since it was woken, or since its last turn.
            woken: It was woken, and has not worked since.
        """
        place.event = trio.Event()
        self.want(place, spent_s, woken=woken)
        self._go_on()
        try:
            await place.event.wait()
        except BaseException:
            self.withdraw(place)
            if place.chosen:
                self.give(place, 0.0)
            raise

    def give(self, place: Place, spent_s: float) -> None:
        """End a turn that was taken: the connection has nothing to do, or waits for something else."""
        self.end(place, spent_s)
        self._go_on()

    def _go_on(self) -> None:
        """When all turns have ended, wake those who are next."""
        if not self._n_chosen:
            for place in self.choose():
                assert place.event is not None
                place.event.set()

    # Decisions

    def want(self, place: Place, spent_s: float = 0.0, *, woken: bool = False) -> None:
        """Note that a connection has worked for so long, and wants its next turn."""
        portion = place.woken if woken else place.going_on
        if not place.chosen:  # it worked without a turn, because nobody else wanted one
            place.portion = portion
        self.end(place, spent_s)
        place.portion = portion
        portion.wait()
        place.waits = True
        self.crowded = True

    def withdraw(self, place: Place) -> None:
        """Note that a connection does not wait any more."""
        if place.waits:
            place.waits = False
            place.portion.withdraw()
            self._count()

    def choose(self) -> list[Place]:
        """Return who goes on now: those that have used least, as many as a quantum is expected to hold."""
        chosen: list[Place] = []
        left_s = self.quantum_s
        while self._whole.n_waiting:
            place = self._whole.first()
            if chosen and place.expected_s >= left_s:
                break
            left_s -= place.expected_s
            place.portion.take()
            place.waits = False
            place.chosen = True
            self._n_chosen += 1
            chosen.append(place)
        return chosen

    def end(self, place: Place, spent_s: float) -> None:
        """Note how long a connection has worked; its turn, if it had one, is over."""
        place.portion.charge(spent_s)
        place.expected_s = spent_s
        if place.chosen:
            place.chosen = False
            self._n_chosen -= 1
            self._count()

    def _count(self) -> None:
        self.crowded = bool(self._whole.n_waiting or self._n_chosen)


class Passes(trio.abc.Instrument):
    """Tells turns when the loop has looked for events: a pass begins, in which those who were woken work."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - trio's signature
        """As trio wants it."""
        self._turns.pass_ends_s = perf_counter() + PASS_QUANTA * self._turns.quantum_s
