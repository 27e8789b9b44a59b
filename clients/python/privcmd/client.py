# SPDX-License-Identifier: Apache-2.0
"""The blocking face: one connection to the broker, usable from any thread of the process that made it.

Requests of all threads go through one lock, so that what `ForeignMemory` asks of the broker and what it then
does to this process's memory happen in the same order. A client belongs to the process that made it: after
fork(2) the child must make a client of its own, and a call of the parent's says so.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self, TypeVar

from privcmd.call import Call, plain
from privcmd.connect import connect_error, read_some, socket_path
from privcmd.errors import BrokerGone, NoAnswer, PrivcmdError
from privcmd.faults import Faults
from privcmd.methods import Domains, Events, Methods
from privcmd.protocol import MAX_NOTICES, Answer, Conversation, Notification, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType


T = TypeVar("T")


class Client(Methods):
    """A connection to a broker, with an address space of its own.

    Args:
        path: The broker's socket; by default $PRIVCMDD_SOCKET, then $XDG_RUNTIME_DIR/privcmdd/broker.sock if
            it exists, then /run/privcmdd/broker.sock.
        timeout_s: How long each call waits for the broker, in seconds; None is for ever. After a timeout
            (ETIMEDOUT) while a request is only sent in part, or while mapping, the connection is closed, because
            its state is unknown; otherwise it stays usable and the late answer is dropped.

    Raises:
        NoBroker: Nothing listens there; ``errno`` is connect's.

    To close it gives back all that the connection held, unless other connections share its address space.

    Attributes:
        lock: Held during every call; hold it to make several calls one step for this client's threads.
        notices: The broker's notifications, after ``subscribe``; they are read while other calls are answered.
        listeners: Called with each notice as it is read, with the lock held.
        left: Ranges (address, bytes) that closed mappings left behind, to be unmapped with the next mapping.
        pid: The process that this client belongs to.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, timeout_s: float | None = None) -> None:
        self.path: str = socket_path(path)
        self.timeout_s = timeout_s
        self.lock: threading.RLock = threading.RLock()
        self.events: Events = Events(self)
        self.domains: Domains = Domains(self)
        self.faults: Faults = Faults(self)
        self.notices: deque[Notification] = deque(maxlen=MAX_NOTICES)
        self.listeners: list[Callable[[Notification], None]] = []
        self.left: deque[tuple[int, int]] = deque()
        self.pid: int = os.getpid()
        self._conversation = Conversation()
        self._gone: BrokerGone | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(self.path)
        except OSError as error:
            self._socket.close()
            raise connect_error(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<privcmd.Client {self.path}{'' if self._gone is None else ' (gone)'}>"

    def close(self) -> None:
        """End the connection. Idempotent. In a forked child only the child's descriptor is closed."""
        with self.lock:
            self._end(BrokerGone(errno.ENOTCONN, "this client is closed"))

    def fileno(self) -> int:
        """The connection's descriptor: readable when the broker has sent something. Only to wait for, not to read."""
        return self._socket.fileno()

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, closed by this client or the broker, as far as is known."""
        return self._gone is not None

    # --- calls -------------------------------------------------------------------------------------------

    def call(self, method: str, /, **params: Any) -> Any:
        """Perform any method by its name. Returns the answer as it comes.

        Raises:
            PrivcmdError: The broker answered with an error.
            BrokerGone: The connection has ended.
        """
        return self.perform(plain(method, params))

    def call_many(self, requests: Iterable[tuple[str, dict[str, Any]]]) -> list[Any]:
        """Send many requests at once and wait for all their answers.

        Returns:
            Their answers in order; an error is a `PrivcmdError` in its request's place, not raised.
        """
        return self.exchange([plain(method, params) for method, params in requests])

    def perform(self, call: Call[T]) -> T:
        """Perform one typed call. Returns its value, raises as `call` does."""
        answer = self.exchange((call,))[0]
        if isinstance(answer, PrivcmdError):
            raise answer
        return answer  # type: ignore[no-any-return]

    def exchange(self, requests: Sequence[Call[Any]], *, to_the_end: bool = False) -> list[Any]:
        """Send these calls at once. Returns all answers; an error is in its call's place, not raised.

        Args:
            requests: Performed by the broker in this order.
            to_the_end: Close the connection when the answers do not come in time.
        """
        if os.getpid() != self.pid:
            raise PrivcmdError(
                errno.EBADF,
                f"this client belongs to process {self.pid}; after a fork, make a Client of your own",
            )
        with self.lock:
            if self._gone is not None:
                raise self._gone.again()
            msgids, data = self._conversation.requests([(call.method, call.params) for call in requests])
            try:
                answers = self._talk(msgids, data)
            except NoAnswer:
                # Late answers are dropped when they arrive.
                self._conversation.forget(msgids)
                if to_the_end:
                    self._end(BrokerGone(errno.ETIMEDOUT, "closed: a mapping was not answered in time"))
                raise
            except BrokerGone:
                raise
            except OSError as error:
                raise self._end(
                    BrokerGone(error.errno or errno.EIO, f"the connection failed: {error.strerror}")
                ) from error
            except BaseException:
                # Interrupted: bytes that were read from the kernel may not have reached the conversation.
                self._end(BrokerGone(errno.ECONNABORTED, "closed: a call was interrupted"))
                raise
            return [result_of(call.read, answer) for call, answer in zip(requests, answers, strict=True)]

    def _talk(self, msgids: list[int], data: bytes) -> list[Answer]:
        """Send all and read all answers, both at once, so that neither side can block the other."""
        deadline = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        answers: dict[int, Answer] = {}
        unsent = memoryview(data)
        while unsent or len(answers) < len(msgids):
            if unsent:
                try:
                    unsent = unsent[self._socket.send(unsent, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
                except BlockingIOError:
                    pass
                except (BrokenPipeError, ConnectionResetError):
                    unsent = unsent[len(unsent) :]  # go on reading: the broker may have said why
            if (unsent or deadline is not None) and not self._readable(deadline, sending=bool(unsent)):
                continue
            received, fds = read_some(self._socket, with_fds=self._conversation.expects_fds)
            if not received:
                raise self._end(BrokerGone(errno.ECONNRESET, "the broker closed the connection"))
            try:
                events = self._conversation.receive(received, fds)
            except BrokerGone as gone:
                self._end(gone)
                raise
            for event in events:
                if isinstance(event, Notification):
                    self.notices.append(event)
                    for listener in self.listeners:
                        listener(event)
                else:
                    answers[event.msgid] = event
        return [answers[msgid] for msgid in msgids]

    def _readable(self, deadline: float | None, *, sending: bool) -> bool:
        """Wait for the socket. Returns True when there is something to read, False when there is room to send."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN | (select.POLLOUT if sending else 0))
        left_ms = None if deadline is None else max(0.0, (deadline - time.monotonic()) * 1000)
        ready = poller.poll(left_ms)
        if not ready:
            if sending:
                self._end(BrokerGone(errno.ETIMEDOUT, f"closed: not read within {self.timeout_s} s"))
            raise NoAnswer(errno.ETIMEDOUT, f"no answer within {self.timeout_s} s")
        return bool(ready[0][1] & ~select.POLLOUT)

    def _end(self, why: BrokerGone) -> BrokerGone:
        """Close the connection for this reason, unless it is closed. Returns the reason for which it was closed."""
        if self._gone is None:
            self._gone = why
            self._socket.close()
            self._conversation.close()
        return self._gone
