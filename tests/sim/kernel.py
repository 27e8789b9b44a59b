# SPDX-License-Identifier: Apache-2.0
"""The ground that ``server/peer.py`` and ``server/outbox.py`` stand on, made of nothing: tasks, waiting, time.

While a ``Kernel`` is entered, the two modules find it where they look for trio, poll and the clock. Their coroutines
then run one step at a time, in whatever order somebody else decides, and time passes only when it is told to.
"""

from __future__ import annotations

import contextlib
import math
from types import SimpleNamespace, coroutine
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from privcmdd.server import fdpass, outbox, peer, turns, waits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
    from types import TracebackType

    from sim.transport import BrokerEnd

# What looking at the clock takes: so a client that always has more to say uses its turn up.
LOOK_S = 20e-6


class Cancelled(BaseException):
    """The task must end here, or leave the scope that ran out of time."""


class ClosedResourceError(Exception):
    """What was waited for was closed by ourselves."""


class Wait(NamedTuple):
    """Why a task stands still.

    Attributes:
        what: ``checkpoint``, ``readable``, ``writable``, ``event`` or ``sleep``.
        ready: Whether it may go on.
    """

    what: str
    ready: Callable[[], bool]


@coroutine
def wait_for(wait: Wait) -> Generator[Wait, None, None]:
    """Stand still until a task is resumed."""
    yield wait


class Task:
    """A coroutine between two steps.

    Attributes:
        name: Of whom, for people.
        wait: What it waits for; None when it has not begun or is done.
        done: It has ended.
        error: What it ended with, when that is an exception.
        n_steps: How often it stood still.
    """

    def __init__(self, name: str, running: Coroutine[Wait, None, None]) -> None:
        self.name = name
        self.wait: Wait | None = None
        self.done = False
        self.error: Exception | None = None
        self.n_steps = 0
        self.scopes: list[Scope] = []
        self._running = running

    @property
    def ready(self) -> bool:
        """Whether it can be resumed."""
        return not self.done and (self.wait is None or self.wait.ready())

    def resume(self) -> None:
        """One step."""
        self._step(lambda: self._running.send(None))

    def throw(self, reason: BaseException) -> None:
        """One step that begins with an exception."""
        if self.wait is None:  # as in trio, what has begun runs to where it first stands still
            self.resume()
        if not self.done:
            self._step(lambda: self._running.throw(reason))

    def _step(self, step: Callable[[], Wait]) -> None:
        self.n_steps += 1
        try:
            self.wait = step()
        except (StopIteration, Cancelled):
            self.done = True
        except Exception as error:  # noqa: BLE001 - whoever looks at the task judges it
            self.done = True
            self.error = error


class Event:
    """As trio's."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Let those who wait go on."""
        self._set = True

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._set

    async def wait(self) -> None:
        """Wait for it."""
        await wait_for(Wait("checkpoint" if self._set else "event", self.is_set))


class Scope:
    """As trio's ``move_on_after``: whatever waits inside at the deadline is given up."""

    def __init__(self, kernel: Kernel, deadline_s: float) -> None:
        self._kernel = kernel
        self.deadline_s = deadline_s
        self.cancelled_caught = False
        self._task: Task | None = None

    def cancel(self) -> None:
        """Give up whatever waits inside."""
        self.deadline_s = self._kernel.now_s

    def __enter__(self) -> Self:
        self._task = self._kernel.current
        assert self._task is not None
        self._task.scopes.append(self)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        assert self._task is not None
        self._task.scopes.remove(self)
        self.cancelled_caught = isinstance(error, Cancelled) and error.args == (self,)
        return self.cancelled_caught


class Poll:
    """As ``select.poll``, for the one question that is asked: has the peer hung up?"""

    def __init__(self) -> None:
        self._ends: list[BrokerEnd] = []

    def register(self, end: BrokerEnd, _mask: int) -> None:
        """Ask about it."""
        self._ends.append(end)

    def poll(self, _timeout_ms: int) -> list[BrokerEnd]:
        """Those that have."""
        return [end for end in self._ends if end.gone]


class Kernel:
    """Tasks and time.

    Attributes:
        now_s: What the clock shows.
        tasks: Those that live, in the order of their beginning.
        current: The one that runs.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.tasks: list[Task] = []
        self.current: Task | None = None
        self._swapped = contextlib.ExitStack()

    def __enter__(self) -> Self:
        lowlevel = SimpleNamespace(
            checkpoint=self.checkpoint,
            wait_readable=self._wait_readable,
            wait_writable=self._wait_writable,
            notify_closing=lambda end: end.close_begins(),
        )
        trio = SimpleNamespace(
            lowlevel=lowlevel,
            Event=Event,
            Cancelled=Cancelled,
            ClosedResourceError=ClosedResourceError,
            current_time=lambda: self.now_s,
            move_on_after=self.move_on_after,
            move_on_at=lambda deadline_s: Scope(self, deadline_s),
            CancelScope=lambda: Scope(self, math.inf),
            sleep=self.sleep,
        )
        for module, name, value in (
            (peer, "trio", trio),
            (outbox, "trio", trio),
            (waits, "trio", trio),
            (turns, "trio", trio),
            (peer, "select", SimpleNamespace(poll=Poll)),
            (peer, "perf_counter", self.look),
            (peer, "sched_yield", lambda: None),
            (fdpass, "unread", lambda end: end.n_unread > 0),
        ):
            self._swapped.enter_context(swapped(module, name, value))
        return self

    def __exit__(self, *_error: object) -> None:
        while self.tasks:
            with contextlib.suppress(Exception):  # they are of a run that failed, and do not matter any more
                self.cancel(self.tasks[0])
        self._swapped.close()

    def spawn(self, name: str, function: Callable[[], Awaitable[None]]) -> Task:
        """Begin a task; its first step is yet to come."""

        async def run() -> None:
            await function()

        task = Task(name, run())
        self.tasks.append(task)
        return task

    def start(self, name: str, function: Callable[[], Awaitable[None]]) -> None:
        """Begin a task that nobody asks after."""
        self.spawn(name, function)

    def step(self, task: Task) -> None:
        """Let a task go on to where it next stands still."""
        expired = next((scope for scope in task.scopes if scope.deadline_s <= self.now_s), None)
        self._run(task, task.resume if expired is None else lambda: task.throw(Cancelled(expired)))

    def cancel(self, task: Task) -> None:
        """Let a task end where it stands."""
        self._run(task, lambda: task.throw(Cancelled()))

    def ready(self) -> list[Task]:
        """Tasks that could go on."""
        now = self.now_s
        return [
            task
            for task in self.tasks
            if task.ready or (task.scopes and any(scope.deadline_s <= now for scope in task.scopes))
        ]

    def deadlines(self) -> Iterator[float]:
        """When tasks that stand still will go on by themselves."""
        return (scope.deadline_s for task in self.tasks for scope in task.scopes)

    def look(self) -> float:
        """Look at the clock, which takes time."""
        self.now_s += LOOK_S
        return self.now_s

    def move_on_after(self, timeout_s: float) -> Scope:
        """As trio's."""
        return Scope(self, self.now_s + timeout_s)

    async def sleep(self, timeout_s: float) -> None:
        """As trio's."""
        with self.move_on_after(timeout_s):
            await wait_for(Wait("sleep", lambda: False))

    def _run(self, task: Task, step: Callable[[], None]) -> None:
        self.current = task
        try:
            step()
        finally:
            self.current = None
            if task.done:
                self.tasks.remove(task)

    async def checkpoint(self) -> None:
        """As trio's."""
        await wait_for(Wait("checkpoint", lambda: True))

    async def _wait_readable(self, end: BrokerEnd) -> None:
        await wait_for(Wait("readable", lambda: end.readable or end.closing))
        if end.closing:
            raise ClosedResourceError

    async def _wait_writable(self, end: BrokerEnd) -> None:
        await wait_for(Wait("writable", lambda: end.writable or end.closing))
        if end.closing:
            raise ClosedResourceError


@contextlib.contextmanager
def swapped(module: Any, name: str, value: Any) -> Iterator[None]:
    """Put something else in a module's place of that name, which must be there."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
