# SPDX-License-Identifier: Apache-2.0
"""One connection to the broker, blocking, usable from any thread of the process that made it: requests by their names.

Requests of all threads go through one lock, so that what `ForeignMemory` asks of the broker and what it then
does to this process's memory happen in the same order. A connection belongs to the process that made it: after
fork(2) the child must make one of its own, and a call of the parent's says so.

`privcmd.Client` is made of it. It is for itself because ``privcmdctl run`` needs no more, and is started often.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
import time
from collections import deque

from privcmd._connect import connect_error, read_some, socket_path
from privcmd._protocol import MAX_NOTICES, Answer, Conversation, Notification, close_all
from privcmd._standing import CLOSING
from privcmd.errors import BrokerGone, GuestsGone, NoAnswer, NoBroker, PrivcmdError

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self

    from privcmd._standing import Standing

FOLLOW_S = 10.0
"""How long a call without a timeout waits for the broker that follows one which has gone."""

FOLLOW_PAUSE_S = 0.02


class Connection:
    """A connection to a broker, with an address space of its own.

    Args:
        path: The broker's socket; by default where all clients look (``connect.socket_path``).
        timeout_s: How long connecting, and each call, waits for the broker, in seconds; None is for ever.
        sock: A socket that is connected already; ``path`` is only what messages call it.

    Raises:
        NoBroker: Nothing listens there; ``errno`` is connect's, or ETIMEDOUT.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        timeout_s: float | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        self.path: str = socket_path(path)
        self.timeout_s = timeout_s
        self.lock: threading.RLock = threading.RLock()
        self.notices: deque[Notification] = deque(maxlen=MAX_NOTICES)
        self.listeners: list[Callable[[Notification], None]] = []
        self.left: deque[tuple[int, int]] = deque()
        self.pid: int = os.getpid()
        self.followed: list[Callable[[], None]] = []
        self._conversation = Conversation()
        self._gone: BrokerGone | None = None
        self._left = False  # by the broker, not by this side
        self._has_sent = False  # a part of the requests under way
        self._standing: Standing | None = None
        self._socket = sock or _connected(self.path, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<privcmd.{type(self).__name__} {self.path}{'' if self._gone is None else ' (gone)'}>"

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

    @property
    def n_asked(self) -> int:
        """How many requests have been made on it."""
        return self._conversation.n_asked

    def call(self, method: str, /, **params: Any) -> Any:
        """Perform any method by its name. Returns the answer as it comes.

        Raises:
            PrivcmdError: The broker answered with an error.
            BrokerGone: The connection has ended.
        """
        answer = self.ask([(method, params)])[0]
        if answer.error is not None:
            raise answer.error
        return answer.result

    def call_many(self, requests: Iterable[tuple[str, dict[str, Any]]]) -> list[Any]:
        """Send many requests at once and wait for all their answers.

        Returns:
            Their answers in order; an error is a `PrivcmdError` in its request's place, not raised.
        """
        return [answer.result if answer.error is None else answer.error for answer in self.ask([*requests])]

    def ask(
        self,
        requests: Sequence[tuple[str, Mapping[str, Any]]],
        *,
        to_the_end: bool = False,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Answer]:
        """Send these requests at once. Returns all answers in order; whoever takes them closes their descriptors.

        Args:
            requests: Method and parameters of each; performed by the broker in this order.
            to_the_end: Close the connection when the answers do not come in time.
            meanwhile: Called when the requests are on their way, before the answers are waited for.
        """
        if os.getpid() != self.pid:
            raise PrivcmdError(
                errno.EBADF,
                f"this client belongs to process {self.pid}; after a fork, make a Client of your own",
            )
        with self.lock:
            if self._gone is not None:
                self._follow()
            standing = self._standing
            if standing is None:
                gone, answers = self._exchange(requests, to_the_end=to_the_end, meanwhile=meanwhile)
                if gone is not None:
                    close_all(fd for answer in answers for fd in answer.fds)
                    raise gone
                return answers
            todo = [(method, standing.saying(method, params)) for method, params in requests]
            if standing.lineage is None and not (todo and todo[0][0] == "hello"):
                todo.insert(0, standing.hello)
            n_before = len(todo) - len(requests)
            done: list[Answer] = []
            while True:
                gone, answers = self._exchange(todo[len(done) :], to_the_end=to_the_end, meanwhile=meanwhile)
                for (method, params), answer in zip(todo[len(done) :], answers, strict=False):
                    if answer.error is None:
                        standing.said(method, params, answer.result)
                done += answers
                if gone is None:
                    return done[n_before:]
                if standing.closing is None and self._has_sent:
                    close_all(fd for answer in done for fd in answer.fds)
                    raise gone
                self._follow()  # what has no answer was not done

    def _exchange(
        self,
        requests: Sequence[tuple[str, Mapping[str, Any]]],
        *,
        to_the_end: bool,
        meanwhile: Callable[[], None] | None,
    ) -> tuple[BrokerGone | None, list[Answer]]:
        """Send requests. Returns all answers; or the end of the connection, and the answers that came before it."""
        msgids, data = self._conversation.requests(requests)
        answers: dict[int, Answer] = {}
        try:
            self._talk(msgids, data, meanwhile, answers)
        except NoAnswer:
            # Late answers are dropped when they arrive.
            self._conversation.forget(msgids)
            if to_the_end:
                self._end(BrokerGone(errno.ETIMEDOUT, "closed: a mapping was not answered in time"))
            raise
        except BrokerGone as gone:
            return gone, [answers[msgid] for msgid in msgids if msgid in answers]
        except OSError as error:
            failed = BrokerGone(error.errno or errno.EIO, f"the connection failed: {error.strerror}")
            failed.__cause__ = error
            self._left = True
            return self._end(failed), [answers[msgid] for msgid in msgids if msgid in answers]
        except BaseException:
            # Interrupted: bytes that were read from the kernel may not have reached the conversation.
            self._end(BrokerGone(errno.ECONNABORTED, "closed: a call was interrupted"))
            raise
        return None, [answers[msgid] for msgid in msgids]

    def _talk(
        self, msgids: list[int], data: bytes, meanwhile: Callable[[], None] | None, answers: dict[int, Answer]
    ) -> None:
        """Send all and read all answers, both at once, so that neither side can block the other."""
        deadline = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        unsent = memoryview(data)
        self._has_sent = False
        if meanwhile is not None:
            unsent = unsent[self._socket.send(unsent, socket.MSG_NOSIGNAL) :]
            self._has_sent = True
            meanwhile()
        while unsent or len(answers) < len(msgids):
            if unsent:
                try:
                    unsent = unsent[self._socket.send(unsent, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
                    self._has_sent = True
                except BlockingIOError:
                    pass
                except (BrokenPipeError, ConnectionResetError):
                    unsent = unsent[len(unsent) :]  # go on reading: the broker may have said why
            if (unsent or deadline is not None) and not self._readable(deadline, sending=bool(unsent)):
                continue
            received, fds = read_some(self._socket, with_fds=self._conversation.expects_fds)
            if not received:
                self._left = True
                raise self._end(BrokerGone(errno.ECONNRESET, "the broker closed the connection"))
            try:
                events = self._conversation.receive(received, fds)
            except BrokerGone as gone:
                self._end(gone)
                raise
            for event in events:
                if not isinstance(event, Notification):
                    answers[event.msgid] = event
                elif event.topic == CLOSING and self._standing is not None:
                    self._standing.closing = event.body.get("why")
                else:
                    self.notices.append(event)
                    for listener in self.listeners:
                        listener(event)

    def _follow(self) -> None:
        """Go to the broker that follows the one which has gone, with the same guests.

        Raises:
            BrokerGone: The reason why the connection ended, when no broker follows, or none that has come in time.
            GuestsGone: A broker is there, and it has other guests.
        """
        standing, why = self._standing, self._gone
        assert why is not None
        follows = standing is not None and (standing.lasting or standing.closing == "hand-over")
        if standing is None or not self._left or not follows or os.getpid() != self.pid:
            raise why.again()
        deadline = time.monotonic() + (FOLLOW_S if self.timeout_s is None else self.timeout_s)
        while True:
            try:
                self._socket = _connected(self.path, max(FOLLOW_PAUSE_S, deadline - time.monotonic()))
            except NoBroker:
                if time.monotonic() > deadline:
                    raise why.again() from None
                time.sleep(FOLLOW_PAUSE_S)
                continue
            self._gone, self._left = None, False
            self._conversation = Conversation()
            gone, answers = self._exchange(standing.again(), to_the_end=True, meanwhile=None)
            if gone is None:
                break
            if time.monotonic() > deadline:
                raise why.again()
        lineage = standing.lineage
        if answers[0].error is None:
            standing.greeted(answers[0].result)
        if standing.lineage != lineage:
            raise self._end(GuestsGone(errno.ENOTCONN, f"another broker listens at {self.path}, with other guests"))
        for again in self.followed:
            again()

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


def _connected(path: str, timeout_s: float | None) -> socket.socket:
    """A connected socket. Raises NoBroker; ETIMEDOUT when the queue of new connections stays full for so long."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # The kernel waits: a socket that does not block is refused at once by a full queue, and no poll tells of room.
        _limit(sock, timeout_s)
        sock.connect(path)
        _limit(sock, None)
    except OSError as error:
        sock.close()
        if error.errno == errno.EAGAIN and timeout_s is not None:
            error = TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        raise connect_error(path, error, timeout_s) from error
    return sock


def _limit(sock: socket.socket, timeout_s: float | None) -> None:
    """Bound how long a blocking socket waits to send or to connect; None is for ever, which is 0 to the kernel."""
    us = 0 if timeout_s is None else max(1, int(timeout_s * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", *divmod(us, 1_000_000)))
