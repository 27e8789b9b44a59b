# SPDX-License-Identifier: Apache-2.0
"""A simulated run as a history: every connection has its steps numbered, and what nobody heard is known all the same.

The run leaves out what the naive model does not know. Faults of the transport, deaths at any moment and lowered
quotas stay in.
"""

from __future__ import annotations

from dataclasses import replace
from errno import EDQUOT, ENOMEM
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgpack

from history.record import END, History, Record, Setting, with_answer
from history.replay import HANDLERS
from privcmdd.model.host import Host
from privcmdd.model.slices import Pace
from privcmdd.service.sequence import Numbers
from privcmdd.service.steps import CHECKPOINT, GivenUp, Ticket
from privcmdd.service.world import FRAMES_PER_MIB
from sim.plan import ADMIN
from sim.vocabulary import Vocabulary
from sim.world import WatchedBroker, World

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from privcmdd.service.reply import Reply
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause
    from privcmdd.wire.messages import BadRequest, Request
    from sim.client import Client
    from sim.plan import Plan
    from sim.vocabulary import Ask

    Numbered = dict[str, Any]

UNKNOWN_FILES: Final = ("gntdev", "hypercall")


class NumberedBroker(WatchedBroker):
    """The broker, every connection of which has the feature ``seq``, and what it did for each request.

    Attributes:
        done: By connection and msgid: the steps so far of a request that has no answer.
        answers: Likewise: what was answered.
        ended: By connection: when it ended, and in which step.
    """

    def __init__(self, world: World, disk: Any) -> None:
        super().__init__(world, disk)
        self.done: dict[tuple[int, int], Numbered] = {}
        self.answers: dict[tuple[int, int], Any] = {}
        self.ended: dict[int, tuple[int, int]] = {}

    def perform(self, session: Session, request: Request | BadRequest) -> Generator[Pause, None, Reply]:
        """As the broker does it."""
        session.numbers = session.numbers or Numbers(self.world.sequence)
        who = self._world.by_session[session].number, request.msgid
        known = self.done[who] = {}
        steps = super().perform(session, request)
        go_on: Callable[[], Pause] = partial(next, steps)
        try:
            while True:
                try:
                    pause = go_on()
                except StopIteration as stop:
                    reply: Reply = stop.value
                    break
                if pause is CHECKPOINT:
                    known.setdefault("slices", []).append(self.world.sequence.last)
                elif isinstance(pause, Ticket):
                    known.setdefault("queued", self.world.sequence.last)
                go_on = partial(next, steps)
                try:
                    yield pause
                except GivenUp as gone:
                    go_on = partial(steps.throw, gone)
        finally:
            steps.close()
        if reply.data:
            self.answers[who] = msgpack.unpackb(reply.data)
        return reply

    def leave(self, session: Session) -> Generator[Pause, None, None]:
        """As the broker does it."""
        if not session.closed:
            session.numbers = session.numbers or Numbers(self.world.sequence)
            yield from super().leave(session)
            number = self._world.by_session[session].number
            self.ended[number] = (self._world.result.n_steps, self.world.sequence.last)


class KnownWords(Vocabulary):
    """What the naive model knows."""

    def ask(self, nonsense: float) -> list[Ask]:
        """The same requests, but for mappings of other devices, and PV domains that nobody has looked at."""
        return [self._known(ask) for ask in super().ask(nonsense)]

    def _known(self, ask: Ask) -> Ask:
        params = dict(ask.params)
        if ask.method == "mmap":
            params.pop("private", None)
            if params.get("file") in UNKNOWN_FILES:
                params["file"] = "privcmd"
        elif params.get("kind") == "pv":
            params["kind"] = "hvm"
        return ask._replace(params=params)


class RecordedWorld(World):
    """A run whose history can be checked."""

    def __init__(self, plan: Plan) -> None:
        methods = {method: weight if method in HANDLERS else 0.0 for method, weight in plan.methods.items()}
        settings = replace(plan.settings, host=Host())
        faults = {kind: 0.0 if kind == "disk" else weight for kind, weight in plan.faults.items()}
        # The naive model does at once what the broker does in slices of 16,384 frames.
        super().__init__(replace(plan, methods=methods, settings=settings, faults=faults, pace=Pace()))
        self.words = KnownWords(self.rng, methods, Host().xen)
        self.broker: NumberedBroker = NumberedBroker(self, self.disk)

    def connect(self, uid: int) -> Client | None:  # noqa: ARG002 - rights are not what is checked here
        """Somebody who may do everything connects."""
        return super().connect(ADMIN)

    def history(self) -> History:
        """All that clients said and heard, and what they would have heard."""
        limits, machine, space = self.plan.settings.limits, self.plan.settings.machine, self.plan.settings.space
        setting = Setting(
            n_frames=machine.memory_mib * FRAMES_PER_MIB,
            max_gfns=machine.gfns_per_domain,
            max_domains=machine.domains,
            slice_frames=limits.slice_frames,
            personality=space.personality,
            probe=space.probe,
            merge=space.merge,
            frames_per_batch=limits.frames_per_batch,
            anytime=(EDQUOT, ENOMEM),
        )
        ends = self.broker.ended
        records = [Record(client, at, None, END, {}, known={"seq": seq}) for client, (at, seq) in ends.items()]
        for said in self.result.history:
            at, _ = ends[said.client]
            known = self.broker.done.get((said.client, said.msgid), {})
            if said.received is None and not known and said.sent >= at:
                continue  # said to a connection that had ended
            record = Record(said.client, said.sent, said.received, said.method, said.params, known=known)
            answer = said.reply or self.broker.answers.get((said.client, said.msgid))
            records.append(record if answer is None else with_answer(record, answer[2], answer[3]))
        records.sort(key=lambda record: (record.sent, record.method == END))
        return History(setting, records)
