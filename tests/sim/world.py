# SPDX-License-Identifier: Apache-2.0
"""A whole broker and its clients in one thread, without a kernel: one seed decides all that happens.

The broker is the real one, from ``server/peer.py`` down. Beneath it are a transport, a disk and a clock that do what
they are told; above it, clients that do what they like. Whenever somebody could go on, the seed says who.
"""

from __future__ import annotations

import errno
import hashlib
import math
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.server.intake import Intake
from privcmdd.server.logs import Log
from privcmdd.server.peer import Conduct, Peer
from privcmdd.server.turns import Turns
from privcmdd.service.broker import Broker
from privcmdd.service.session import Identity
from privcmdd.service.settings import Limits
from privcmdd.service.steps import Delay, GivenUp, Ticket
from sim import faults
from sim.client import IDLE, Client, Record, Violation
from sim.coverage import DELAYED, PREPARING, TURN
from sim.kernel import Kernel
from sim.plan import ADMIN
from sim.transport import BrokerEnd, HangUps
from sim.vocabulary import MAX_PAGES, Ask, Vocabulary
from support.backing import MemoryBacking

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from collections.abc import Set as AbstractSet

    from privcmdd.model.file_keys import FileKey
    from privcmdd.service.reply import Reply
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause
    from privcmdd.wire.messages import BadRequest, Request
    from sim.coverage import Cell
    from sim.kernel import Task
    from sim.plan import Plan

LIVENESS_S: Final = 60.0
# Faults are rather to happen while a request is under way, which is not for long.
LIKELIER: Final = 4
# What a step takes at most.
STEP_S: Final = 200e-6
# After this many steps something goes round in circles.
MOST_STEPS: Final = 400_000


class Disk(MemoryBacking):
    """Memory files of a host that fails when it is told to.

    Attributes:
        armed: What fails the next time that it is asked.
        n_failed: How often something did.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.armed: set[str] = set()
        self.n_failed = 0
        self._world = world

    def _do(self, what: str, _key: FileKey) -> None:
        if what in self.armed or (self._world.wanted and self._world.wants_failure(what)):
            self.armed.clear()
            self.n_failed += 1
            self._world.host_failed(what)
            raise faults.failure(what)

    def make_events(self, channel: int) -> None:
        """As the host does it."""
        if channel not in self.raised:
            self._do("events", channel)
        super().make_events(channel)


class WatchedBroker(Broker):
    """The broker, all laws held against it after every step of every request."""

    def __init__(self, world: World, disk: Disk) -> None:
        super().__init__(world.plan.settings, disk, "simulated", world.tell, lambda: world.kernel.now_s)
        self._world = world

    def perform(self, session: Session, request: Request | BadRequest) -> Generator[Pause, None, Reply]:
        """As the broker does it."""
        client = self._world.by_session[session]
        client.doing = request.method
        steps = super().perform(session, request)
        go_on: Callable[[], Pause] = partial(next, steps)
        try:
            while True:
                client.pause = ...
                try:
                    pause = go_on()
                except StopIteration as stop:
                    reply: Reply = stop.value
                    break
                client.pause = pause
                self._world.check()
                go_on = partial(next, steps)
                try:
                    yield pause
                except GivenUp as gone:
                    go_on = partial(steps.throw, gone)
        finally:
            steps.close()
            client.doing, client.pause = None, ...
            self._world.check()
        self._world.promise(client, request, reply)
        return reply

    def leave(self, session: Session) -> Generator[Pause, None, None]:
        """As the broker does it."""
        for pause in super().leave(session):
            self._world.check()
            yield pause
        self._world.check()


class Reasons(Log):
    """What the broker says of one connection."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def _write(self, _level: str, event: str, about: dict[str, Any]) -> None:
        self._client.log.append(str(about.get("reason", event)))


@dataclass(slots=True)
class Result:
    """What a run was.

    Attributes:
        n_asks: Requests said.
        n_steps: Of the scheduler.
        n_checks: How often all laws were held against the state.
        virtual_s: Time that passed in it.
        cells: How often each kind of fault met each state of a connection and method.
        done: How often each method was answered, by the name of the errno or ``ok``.
        log_hash: Of every byte that arrived anywhere, in order, with its connection.
        history: Every request with its answer.
    """

    seed: int
    n_asks: int = 0
    n_steps: int = 0
    n_checks: int = 0
    virtual_s: float = 0.0
    cells: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    log_hash: str = ""
    history: list[Record] = field(default_factory=list)

    @property
    def faults(self) -> Counter[str]:
        """Faults by kind."""
        counted: Counter[str] = Counter()
        for (kind, _, _), n in self.cells.items():
            counted[kind] += n
        return counted


class World:
    """One run. ``run`` it once.

    Attributes:
        clients: Connections that live, or whose end has not been seen yet.
    """

    def __init__(self, plan: Plan, wanted: AbstractSet[Cell] = frozenset()) -> None:
        """Prepare a run.

        Args:
            plan: What its seed has decided.
            wanted: Cells of the space of faults that are to be met, when that can be.
        """
        self.plan = plan
        self.wanted = set(wanted)
        self.rng = Random(plan.seed)
        self.kernel = Kernel()
        self.disk = Disk(self)
        self.by_session: dict[Session, Client] = {}
        self.clients: list[Client] = []
        self.result = Result(plan.seed)
        self.words = Vocabulary(self.rng, dict(plan.methods), plan.settings.host.xen)
        self.broker = WatchedBroker(self, self.disk)
        self.doing = IDLE
        self.lowered = False
        self._healed = False
        self._log = hashlib.sha256()
        self._n_connected = 0
        self._turns = Turns(plan.quantum_s)
        self.broker.world.machine.pace = plan.pace
        self._hang_ups = HangUps(self.kernel.checkpoint)
        self._intake = Intake()
        self._conduct = Conduct(
            plan.settings.limits.connection_queued_bytes, plan.linger_s, math.inf, math.inf, math.inf
        )

    # The run

    def run(self) -> Result:
        """Both phases, and the end.

        Raises:
            Violation: Of what a client may rely on.
            LawBroken: A law is broken.
        """
        with ExitStack() as stack:
            stack.enter_context(self.kernel)
            self._guests()
            while self.result.n_asks < self.plan.n_asks:
                self._step()
                if self.rng.random() < self._fault_rate():
                    faults.inject(self)
            self.heal()
            self._settle("answered")
            for client in [client for client in self.clients if not client.silent]:
                self._say(client, Ask("maps", {}))
            self._settle("answered after the faults")
            self._check_told()
            self._leave()
            self._check_nothing_left()
        self.result.virtual_s = self.kernel.now_s
        self.result.log_hash = self._log.hexdigest()
        return self.result

    def heal(self) -> None:
        """No more faults; those that last end."""
        self._healed = True
        self.disk.armed.clear()
        self.restore_limits()
        if self.broker.world.injections:
            for number in list(self.broker.world.injections.rules):
                self.broker.world.injections.clear(number)
        for client in self.clients:
            client.stalled_until_s = client.delayed_until_s = 0.0
            client.says.clear()

    # What the broker tells

    def tell(self, session: Session, data: bytes) -> None:
        """A notification: to its peer, as the server does it."""
        client = self.by_session[session]
        client.told.append(data)
        client.peer.notify(data)

    def promise(self, client: Client, request: Request | BadRequest, reply: Reply) -> None:
        """An answer was given."""
        if reply.incident is not None and not isinstance(reply.incident, faults.SimulatedFault):
            raise Violation(f"client {client.number}: {request.method}: a bug of the broker") from reply.incident
        if reply.close:
            client.ended.add("fault")
        if reply.data:
            client.promised.append(reply.data)

    def check(self) -> None:
        """Hold all laws against the state."""
        self.result.n_checks += 1
        self.broker.check()

    # Moves

    def _step(self) -> None:
        """Let somebody go on, or time pass when nobody can."""
        rng, now_s = self.rng, self.kernel.now_s
        self.result.n_steps += 1
        if self.result.n_steps > MOST_STEPS:
            raise Violation(f"nothing comes to an end after {MOST_STEPS} steps")
        clients = self.clients
        speaking = not self._healed
        if speaking and len(clients) < self.plan.n_clients and rng.random() < 0.2:
            client = self.connect(rng.choice(self.plan.uids))
            if client is not None:
                client.says.extend(self._greeting(client))
            return
        moves: tuple[tuple[list[Any], Callable[[Any], None]], ...] = (
            (self.kernel.ready(), self.run_task),
            ([c for c in clients if c.outgoing and c.delayed_until_s <= now_s], self._deliver),
            ([c for c in clients if (c.end.n_unread or c.end.closed) and c.stalled_until_s <= now_s], self._read),
            ([c for c in clients if not c.silent and len(c.asked) < self.plan.depth] if speaking else [], self._speak),
        )
        weights = [weight if some else 0.0 for (some, _), weight in zip(moves, self.plan.moves, strict=True)]
        if any(weights):
            who, move = rng.choices(moves, weights)[0]
            one = rng.choice(who)
            if move == self.run_task and self._prepares(one) and rng.random() < self.plan.slowness:
                who, move = rng.choices(moves, weights)[0]
                one = rng.choice(who)
            move(one)
            self.kernel.now_s += rng.random() * STEP_S
        else:
            waiting = [c.delayed_until_s for c in clients if c.outgoing]
            waiting += [c.stalled_until_s for c in clients if c.end.n_unread or c.end.closed]
            waiting += self.kernel.deadlines()
            later = [at for at in waiting if now_s < at < math.inf]
            if later:
                self.kernel.now_s = min(later)
            else:
                self._awake()

    def _awake(self) -> None:
        """Everybody waits for somebody, and no clock will end it: those who stopped reading read on."""
        stuck = [c for c in self.clients if c.stalled_until_s == math.inf]
        if stuck:
            self.rng.choice(stuck).stalled_until_s = 0.0
        elif not self._healed:
            self.connect(ADMIN)

    def _greeting(self, client: Client) -> list[Ask]:
        """What a new client says first."""
        there = [each for each in self.broker.world.spaces._residences.values() if each.uid == client.uid]
        if there and self.rng.random() < self.plan.crowding:
            return [Ask("space.attach", {"space": self.rng.choice(there).space.number})]
        return self.words.greeting()

    def _fault_rate(self) -> float:
        """How probable a fault is now: more so while a request stands still in the middle."""
        busy = any(client.doing is not None for client in self.clients)
        return self.plan.fault_rate * (LIKELIER if busy else 1)

    def _prepares(self, task: Task) -> bool:
        return any(client.task is task and client.pause is None for client in self.clients)

    def run_task(self, task: Task) -> None:
        """One step of a task."""
        self.kernel.step(task)
        self.finish(task)

    def finish(self, task: Task) -> None:
        """A task has made a step: if it was the last one, it must have been a clean end."""
        if task.error is not None:
            raise Violation(f"{task.name}: its task ended with an error") from task.error

    def connect(self, uid: int) -> Client | None:
        """Somebody connects, unless a quota forbids it."""
        try:
            session = self.broker.connect(Identity(uid, 100, frozenset(), pid=self._n_connected + 2))
        except ModelError as refusal:
            assert refusal.errno == errno.EDQUOT
            if not self.clients:  # what outlives connections is more than the lowered limits: they are set right again
                assert self.lowered
                self.restore_limits()
            return None
        self._n_connected += 1
        client = Client(self._n_connected, uid, BrokerEnd(self.plan.room_bytes), session)
        client.peer = Peer(
            client.end,  # type: ignore[arg-type] # of a socket, it is what a peer uses
            self.broker,
            session,
            turns=self._turns,
            hang_ups=self._hang_ups,  # type: ignore[arg-type] # of sockets in memory
            intake=self._intake,
            conduct=self._conduct,
            log=Reasons(client),
            fork=lambda function: self.kernel.start(f"output of client {client.number}", function),
            closer=None,
            charge=session.charge_output,
        )
        self.by_session[session] = client
        self.clients.append(client)
        client.task = self.kernel.spawn(f"client {client.number}", lambda: self._serve(client))
        return client

    async def _serve(self, client: Client) -> None:
        try:
            await client.peer.run()
        finally:
            if "queued_bytes" in client.log:
                client.ended.add("queue")
                client.may_lose = True
            if client.peer._outbox.n_bytes:  # it had its time to linger
                client.may_lose = True
            client.peer.close()
            del self.by_session[client.session]

    def _deliver(self, client: Client) -> None:
        data = client.outgoing[0]
        cut = self.rng.random()
        n_bytes = len(data) if cut < 0.7 else 1 if cut < 0.8 else self.rng.randint(1, len(data))
        if n_bytes < len(data):
            self.count("split", client)
        self._write_log(client, b">", client.deliver(n_bytes))
        if client.closes and not client.outgoing:
            client.end.end()

    def _read(self, client: Client) -> None:
        if client.end.n_unread:
            n_bytes = self.rng.choice((1, 30, 1_000_000, 1_000_000))
            data, answered = client.read(n_bytes, self.result.n_steps)
            self._write_log(client, b"<", data)
            for record in answered:
                self._learn(record)
        elif client.end.closed:
            if not client.left:
                client.check_end()
            client.forget()
            self.clients.remove(client)

    def _learn(self, record: Record) -> None:
        _, _, error, result = record.reply
        if error is None:
            self.words.learn(record.method, record.params, result)
        name = "ok" if error is None else str(error[1]).partition(":")[0]
        self.result.done[record.method, name] += 1
        if name == "EDQUOT" and self.lowered:
            self.result.cells["EDQUOT", "answering", record.method] += 1

    def _speak(self, client: Client) -> None:
        if not client.says:
            client.says.extend(self.words.ask(self.plan.nonsense))
        self._say(client, client.says.popleft())

    def _say(self, client: Client, ask: Ask) -> None:
        self.result.n_asks += 1
        self.result.history.append(client.say(ask, self.result.n_steps))

    # Faults

    def count(self, kind: str, client: Client) -> None:
        """A fault happens to a client: in which state it is, and doing what."""
        state, method = self.state(client)
        self.result.cells[kind, state, method] += 1
        self.wanted -= {(kind, state, method), (kind, state, "*")}

    def state(self, client: Client) -> tuple[str, str]:
        """Where a connection stands, and at which method."""
        if client.doing is not None:
            if isinstance(client.pause, Ticket):
                return ("its turn" if client.pause.granted else TURN), client.doing
            return (DELAYED if isinstance(client.pause, Delay) else PREPARING), client.doing
        method = client.asked[0].method if client.asked else "-"
        if client.peer._outbox.n_bytes:
            return "answers untaken", method
        if client.asked:
            state = client.peer._connection.state.name
            return ("inside a message" if state == "PARTIAL" else "asked"), method
        return "idle", method

    def lower_limits(self) -> None:
        """As a reload with other limits does."""
        self.lowered = True
        limits = Limits(**{**as_dict(self.plan.settings.limits), **dict.fromkeys(SMALL, 1)})
        self.broker.reconfigure(replace(self.plan.settings, limits=limits))

    def restore_limits(self) -> None:
        """As the next reload does."""
        self.lowered = False
        self.broker.reconfigure(self.plan.settings)

    def wants_failure(self, what: str) -> bool:
        """Whether that failure, now, would meet something new."""
        return not self._healed and self._host_cell(what) in self.wanted

    def host_failed(self, what: str) -> None:
        """The disk has failed at what somebody does."""
        cell = self._host_cell(what)
        self.result.cells[cell] += 1
        self.wanted.discard(cell)

    def _host_cell(self, what: str) -> Cell:
        doing = next((c.doing for c in self.clients if c.doing is not None and c.pause is ...), None)
        return f"host: {what}", "acting", doing or "disconnect"

    # Ends

    def _guests(self) -> None:
        """Somebody has made a guest of each kind before."""
        client = self.connect(ADMIN)
        assert client is not None
        for dom, kind in ((1, "hvm"), (2, "pv")):
            params = {"dom": dom, "kind": kind, "max_pages": MAX_PAGES, "ranges": [{"gfn": 0, "npages": 64}]}
            self._say(client, Ask("domain.create", params))
            self._say(client, Ask("domain.info", {"dom": dom, "start": 0, "num": MAX_PAGES}))

    def _settle(self, what: str) -> None:
        """Until nobody has anything left to do; in time."""
        until_s = self.kernel.now_s + LIVENESS_S
        while any(self._unsettled()):
            self._step()
            if self.kernel.now_s > until_s:
                stuck = next(self._unsettled())
                about = f"{self.state(stuck)}, {len(stuck.outgoing)} messages on their way, {stuck.task.wait}"
                raise Violation(f"not {what} within {LIVENESS_S:g} s: client {stuck.number}: {about}")
        for task in list(self.kernel.ready()):
            self.run_task(task)

    def _unsettled(self) -> Iterator[Client]:
        for client in self.clients:
            if (
                client.end.closed
                or client.asked
                or client.outgoing
                or client.end.n_unread
                or client.ended
                or (client.peer._outbox.n_bytes)
            ):
                yield client

    def _check_told(self) -> None:
        for client in self.clients:
            missed = client.n_missed + len(client.told)
            if missed != client.session.n_dropped:
                raise Violation(
                    f"client {client.number}: {missed} notifications missed, not {client.session.n_dropped}"
                )

    def _leave(self) -> None:
        """Everybody goes, one way or another; somebody who comes then ends all domains."""
        for client in self.clients:
            self._go(client)
        self._settle("let go")
        last = self.connect(ADMIN)
        assert last is not None
        for dom in list(self.broker.world.machine.domains):
            self._say(last, Ask("domain.destroy", {"dom": dom}))
        self._settle("destroyed")
        self._go(last)
        self._settle("let go")
        self._wait_for_tasks()

    def _go(self, client: Client) -> None:
        if self.rng.random() < 0.5:
            faults.half_close(client)
        else:
            faults.hang_up(client)

    def _wait_for_tasks(self) -> None:
        """Until those tasks have ended that give back what clients held."""
        while self.kernel.tasks:
            ready = self.kernel.ready()
            if not ready:
                later = [at for at in self.kernel.deadlines() if at < math.inf]
                if not later:
                    return
                self.kernel.now_s = max(self.kernel.now_s, min(later))
            for task in ready:
                self.run_task(task)

    def _check_nothing_left(self) -> None:
        broker = self.broker
        frames = broker.world.machine.frames
        left = {
            "tasks": [task.name for task in self.kernel.tasks],
            "sessions": broker.world.sessions,
            "charges": broker.world.usage(),
            "spaces": len(broker.world.spaces),
            "domains": broker.world.machine.domains,
            "objects": broker.world.spaces.objects.alive,
            "files": set(self.disk.files) - broker.world.machine_files,
            "ports": broker.world.machine.events.ports(0),
            "events": self.disk.raised,
            "frames": int((frames.refs != 0).sum()),
        }
        if any(left.values()):
            raise Violation(f"left behind: { {what: n for what, n in left.items() if n} }")
        if broker.world.n_incidents > self.disk.n_failed:
            raise Violation(f"{broker.world.n_incidents} incidents, {self.disk.n_failed} of the host")

    def _write_log(self, client: Client, way: bytes, data: bytes) -> None:
        self._log.update(b"%s%d:%d:" % (way, client.number, len(data)))
        self._log.update(data)


SMALL: Final = ("frames", "entries", "objects", "spaces", "batches", "queued_bytes", "fds")


def as_dict(limits: Limits) -> dict[str, int]:
    """Limits by name."""
    return {name: getattr(limits, name) for name in Limits.__slots__}
