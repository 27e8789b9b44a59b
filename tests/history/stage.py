# SPDX-License-Identifier: Apache-2.0
"""A broker without sockets whose clients are moved one step at a time, and their history."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from history.record import Recorder
from history.workload import SETTING, Workload
from privcmdd.wire.codec import decode
from support.desk import Desk, settings

if TYPE_CHECKING:
    from history.record import History
    from privcmdd.service.session import Session
    from support.desk import Steps

MOST_CLIENTS = 8


@dataclass(eq=False)
class Actor:
    """A client: what it has sent, what is being done of it and in which steps, and what it has not yet heard."""

    session: Session
    outbox: deque[tuple[int, str, dict[str, Any]]] = field(default_factory=deque)
    steps: Steps | None = None
    pause: Any = None
    known: dict[str, Any] = field(default_factory=dict)
    inbox: list[tuple[int, str, dict[str, Any], Any, Any]] = field(default_factory=list)


class Stage:
    """Everything that happens is a call of one of these methods."""

    def __init__(self, workload: Workload | None = None) -> None:
        self.desk = Desk(settings(paranoid=False, slice_frames=SETTING.slice_frames))
        self.recorder = Recorder(SETTING)
        self.workload = workload or Workload()
        self.actors: list[Actor] = []
        self.n_connected = 0
        first = self.connect()
        for method, params in self.workload.setup():
            self.send(first, method, params)
        self.finish(first)

    def connect(self, space: int | None = None) -> Actor:
        """A client with the feature, in a space of its own or a thread of another."""
        actor = Actor(self.desk.connect())
        self.desk.call(actor.session, "hello", features=["seq"])
        self.actors.append(actor)
        greeting = self.workload.greet(self.n_connected)
        self.n_connected += 1
        for method, params in greeting if space is None else [("space.attach", {"space": space})]:
            self.send(actor, method, params)
        return actor

    def send(self, actor: Actor, method: str, params: dict[str, Any]) -> None:
        """A request is on its way."""
        actor.outbox.append((self.recorder.send(actor.session.number, method, params), method, params))

    def step(self, actor: Actor) -> bool:
        """The broker goes on with a client's first request; False when it has none, or waits for a turn."""
        if not actor.outbox or not (actor.pause is None or actor.pause.granted):
            return False
        index, method, params = actor.outbox[0]
        actor.steps = actor.steps or self.desk.start(actor.session, method, **params)
        try:
            actor.pause = next(actor.steps)
            if actor.pause is None:
                actor.known.setdefault("slices", []).append(self.desk.broker.world.sequence.last)
            else:
                actor.known["queued"] = self.desk.broker.world.sequence.last
        except StopIteration as stop:
            for fd in stop.value.fds:
                os.close(fd)
            actor.steps = actor.pause = None
            actor.known = {}
            message: Any = decode(stop.value.data)
            actor.inbox.append((index, method, params, message[2], message[3]))
            actor.outbox.popleft()
        return True

    def hear(self, actor: Actor) -> None:
        """A client receives what has been answered."""
        for index, method, params, error, result in actor.inbox:
            self.recorder.receive(index, error, result)
            if error is None:
                self.workload.heard(method, params, result)
        actor.inbox.clear()

    def die(self, actor: Actor, *, known: bool) -> None:
        """A client goes; of what nobody heard, the numbers are known, or are not."""
        if actor.steps is not None:
            actor.steps.close()
        if known:
            for index, _, _, error, result in actor.inbox:
                self.recorder.overhear(index, error, result)
            for index, _, _ in actor.outbox:
                self.recorder.know(index, actor.known)
                actor.known = {}
        self.desk.broker.disconnect(actor.session)
        self.recorder.end(actor.session.number, self.desk.broker.world.sequence.last if known else None)
        self.actors.remove(actor)

    def finish(self, actor: Actor) -> None:
        """All that a client has asked is done, whoever has to move for it, and it hears of it."""
        while actor.outbox:
            if not self.step(actor):
                moved = [self.step(other) for other in self.actors]
                assert any(moved), "nobody can move"
        self.hear(actor)

    def history(self) -> History:
        """Everything is answered; what was seen."""
        for actor in self.actors:
            self.finish(actor)
        return self.recorder.history()


def play(choose: Any, n_actions: int, most_untold: int = 2) -> History:
    """Some clients, some requests, some deaths, in an order that ``choose(n)`` decides, one of so many at a time.

    Of at most so many deaths it is not told when they came.
    """
    stage = Stage()
    n_untold = 0
    for _ in range(n_actions):
        what = choose(40)
        if what < 3 or not stage.actors:
            homes = [actor.session.residence.space.number for actor in stage.actors if actor.session.residence]
            if len(stage.actors) < MOST_CLIENTS:
                stage.connect(homes[choose(len(homes))] if homes and choose(2) else None)
            continue
        actor = stage.actors[choose(len(stage.actors))]
        if what == 3:
            known = choose(3) > 0 or n_untold == most_untold
            stage.die(actor, known=known)
            n_untold += not known
        elif what < 16:
            stage.send(actor, *stage.workload.request(choose))
        elif what < 36:
            stage.step(actor)
        else:
            stage.hear(actor)
    return stage.history()
