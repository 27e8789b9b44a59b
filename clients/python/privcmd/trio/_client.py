# SPDX-License-Identifier: Apache-2.0
"""One connection to the broker, for trio."""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Self, TypeVar

import trio

from privcmd._call import Call, plain
from privcmd._connect import connect_error, job_name, read_some, socket_path
from privcmd._methods import AsyncDomains, AsyncEvents, AsyncMethods
from privcmd._protocol import MAX_NOTICES, Answer, Conversation, Notification, result_of
from privcmd.errors import BrokerGone, PrivcmdError
from privcmd.faults import AsyncFaults

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence


T = TypeVar("T")


class AsyncClient(AsyncMethods):
    """A connection to a broker, made by ``async with`` and closed at its end.

    Args:
        path: As for `privcmd.Client`.
        job: As for `privcmd.Client`.

    Any number of tasks may use it; their calls are answered one after the other, in the order in which they are made.

    Attributes:
        lock: Held during every call; hold it to make several calls one step for this client's tasks.
        notices: The broker's notifications, after ``subscribe``; they are read while other calls are answered.
        listeners: Called with each notice as it is read.
        left: Ranges (address, bytes) that closed mappings left behind, to be unmapped with the next mapping.
    """

    _socket: socket.socket

    def __init__(self, path: str | os.PathLike[str] | None = None, *, job: str | None = None) -> None:
        self.path: str = socket_path(path)
        self.job: str = job_name(job)
        self.lock: _Turn = _Turn()
        self.events: AsyncEvents = AsyncEvents(self)
        self.domains: AsyncDomains = AsyncDomains(self)
        self.faults: AsyncFaults = AsyncFaults(self)
        self.notices: deque[Notification] = deque(maxlen=MAX_NOTICES)
        self.listeners: list[Callable[[Notification], None]] = []
        self.left: deque[tuple[int, int]] = deque()
        self._conversation = Conversation()
        self._gone: BrokerGone | None = BrokerGone(errno.ENOTCONN, "not connected yet: use `async with`")

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            NoBroker: Nothing listens there (``errno`` is connect's), or too many wait already (EAGAIN).
            PrivcmdError: The broker has no jobs, or refuses this one's name.
        """
        await trio.lowlevel.checkpoint()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.setblocking(False)
            self._socket.connect(self.path)
        except OSError as error:
            self._socket.close()
            raise connect_error(self.path, error) from error
        self._gone = None
        if self.job:
            try:
                await self.call("hello", job=self.job)
            except BaseException:
                self.close()
                raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. Idempotent. A call of another task that is under way raises `BrokerGone`."""
        self._end(BrokerGone(errno.ENOTCONN, "this client is closed"))

    def fileno(self) -> int:
        """The connection's descriptor: readable when the broker has sent something. Only to wait for, not to read."""
        return self._socket.fileno()

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, closed by this client or the broker, as far as is known."""
        return self._gone is not None

    @property
    def n_asked(self) -> int:
        """How many requests have been made on it."""
        return self._conversation.n_asked

    async def call(self, method: str, /, **params: Any) -> Any:
        """Perform any method by its name. Returns the answer as it comes.

        Raises:
            PrivcmdError: The broker answered with an error.
            BrokerGone: The connection has ended.
        """
        return await self.perform(plain(method, params))

    async def call_many(self, requests: Iterable[tuple[str, dict[str, Any]]]) -> list[Any]:
        """Send many requests at once. Returns their answers in order; an error is in its place, not raised."""
        return await self.exchange([plain(method, params) for method, params in requests])

    async def perform(self, call: Call[T]) -> T:
        """Perform one typed call. Returns its value, raises as `call` does."""
        answer = (await self.exchange((call,)))[0]
        if isinstance(answer, PrivcmdError):
            raise answer
        return answer  # type: ignore[no-any-return]

    async def exchange(self, requests: Sequence[Call[Any]]) -> list[Any]:
        """Send these calls at once. Returns all answers; an error is in its call's place, not raised."""
        async with self.lock:
            if self._gone is not None:
                raise self._gone.again()
            msgids, data = self._conversation.requests([(call.method, call.params) for call in requests])
            sending = _Sending(self._socket, data)
            answers: dict[int, Answer] = {}
            try:
                if sending.some():
                    await self._receive(msgids, answers)
                else:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(sending.rest)
                        await self._receive(msgids, answers)
                        nursery.cancel_scope.cancel()
            except BaseException:
                if sending.n_left:
                    self._end(BrokerGone(errno.ECONNABORTED, "closed: a call was cancelled while it was sent"))
                self._conversation.forget(msgids)
                raise
            if len(answers) < len(msgids):
                raise self._end(BrokerGone(errno.ECONNRESET, "the connection has ended")).again()
            return [result_of(call.read, answers[msgid]) for call, msgid in zip(requests, msgids, strict=True)]

    async def _receive(self, msgids: list[int], answers: dict[int, Answer]) -> None:
        """Read until all requests have their answers or the connection has ended."""
        while len(answers) < len(msgids) and self._gone is None:
            try:
                await trio.lowlevel.wait_readable(self._socket)
                data, fds = read_some(self._socket, with_fds=self._conversation.expects_fds)
                if not data:
                    raise BrokerGone(errno.ECONNRESET, "the broker closed the connection")
                events = self._conversation.receive(data, fds)
            except BlockingIOError:
                continue
            except BrokerGone as gone:
                self._end(gone)
                return
            except (OSError, trio.ClosedResourceError) as error:
                self._end(BrokerGone(errno.ECONNRESET, f"the connection failed: {error}"))
                return
            for event in events:
                if isinstance(event, Answer):
                    answers[event.msgid] = event
                else:
                    self.notices.append(event)
                    for listener in self.listeners:
                        listener(event)

    def _end(self, why: BrokerGone) -> BrokerGone:
        """Close the connection for this reason, unless it is closed. Returns the reason for which it was closed."""
        if self._gone is None:
            self._gone = why
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._conversation.close()
        return self._gone


class _Turn:
    """A fair lock that its holder may take again."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._holder: trio.lowlevel.Task | None = None
        self._depth = 0

    async def __aenter__(self) -> None:
        task = trio.lowlevel.current_task()
        if self._holder is not task:
            await self._lock.acquire()
            self._holder = task
        self._depth += 1

    async def __aexit__(self, *_error: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._holder = None
            self._lock.release()


class _Sending:
    """The bytes of an exchange that are still to be sent."""

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        self._socket = sock
        self._data = memoryview(data)

    @property
    def n_left(self) -> int:
        """Bytes not sent yet."""
        return len(self._data)

    def some(self) -> bool:
        """Send what fits now. Returns whether all is sent; True also when the connection ended: reading says why."""
        try:
            self._data = self._data[self._socket.send(self._data, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            pass
        except OSError:
            self._data = self._data[len(self._data) :]
        return not self._data

    async def rest(self) -> None:
        """Send the rest, waiting for room in the socket."""
        while not self.some():
            try:
                await trio.lowlevel.wait_writable(self._socket)
            except trio.ClosedResourceError:
                return
