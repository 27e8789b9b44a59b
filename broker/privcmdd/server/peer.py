# SPDX-License-Identifier: Apache-2.0
"""One connected client: bytes in, requests done in order, answers out.

The loop works on the bare socket. It reads first and waits only when there is nothing to read, does every
request that one read brought, and answers them with one send: a request costs no task, no context and no
log line. In exchange it counts, and lets other connections run after a few reads or half a millisecond.

A connection ends gracefully when its stream ends or breaks: complete requests are answered first. It ends at once
when the peer has hung up; a long request looks for that at each of its checkpoints.
"""

from __future__ import annotations

import contextlib
import select
import socket
from dataclasses import dataclass
from os import sched_yield
from time import perf_counter
from typing import TYPE_CHECKING, Final

import trio

from privcmdd.model.errors import ModelError
from privcmdd.server import fdpass
from privcmdd.server.outbox import Outbox
from privcmdd.service.steps import Delay, Ticket
from privcmdd.wire.connection import Connection, State
from privcmdd.wire.messages import BadRequest, Notification, Request

if TYPE_CHECKING:
    from collections.abc import Generator

    from privcmdd.server.closer import Closer
    from privcmdd.server.logs import Log
    from privcmdd.server.outbox import Fork
    from privcmdd.service.broker import Broker
    from privcmdd.service.reply import Reply
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause

# The size of a read between messages. Most reads bring one request of some fifty bytes; this size keeps the number of
# requests small, so that other connections do not wait long for them. Inside a message, which is then a batch of
# frames, a read may bring more.
READ_BYTES: Final = 16_384
BULK_READ_BYTES: Final = fdpass.MOST_BYTES
# Reads before other connections have their turn, for a client that sends without a pause.
READS_PER_TURN: Final = 8
# Time after which other connections have their turn, looked at between requests: a hundred small ones, or a large one.
TURN_S: Final = 0.0005
# Answers gathered for one send.
SEND_BYTES: Final = 65_536

REQUESTS: Final = (Request, BadRequest)


# How often a connection looks for the next request, with a sched_yield(2) between two looks, before it sleeps. A client
# that waits for each answer sends its next request at once, and to sleep and be woken costs more than all the rest. A
# connection where nothing arrives during the looks does fewer of them, and then none, except in one wait of so many.
YIELDS: Final = 8
RETRY_WAITS: Final = 64


# How soon a peer that hangs up during a delay is noticed.
HANG_UP_S: Final = 0.05


class PeerGone(ConnectionError):  # noqa: N818 - says what happened, as BrokenPipeError's siblings do
    """The peer has hung up: its requests need no answer."""


@dataclass(slots=True)
class Conduct:
    """How connections are treated; one object for all connections, changed by a reload.

    Attributes:
        queue_bytes: The bytes of answers that a peer has not taken, above which no more requests of it are read.
        linger_s: How long a peer that broke the protocol has to take its last answers.
    """

    queue_bytes: int
    linger_s: float


class Peer:
    """A connection from its acceptance to its end. ``run`` it once; ``close`` it always."""

    __slots__ = (
        "_broker",
        "_caught_up",
        "_closed",
        "_closer",
        "_conduct",
        "_connection",
        "_log",
        "_outbox",
        "_session",
        "_sock",
        "_strays",
    )

    def __init__(
        self,
        sock: socket.socket,
        broker: Broker,
        session: Session,
        *,
        conduct: Conduct,
        log: Log,
        fork: Fork,
        closer: Closer | None,
        caught_up: trio.Event | None = None,
    ) -> None:
        """Take over a connection.

        Args:
            sock: Non-blocking; ``close`` closes it.
            broker: Does the requests.
            session: The session that the requests belong to.
            conduct: How to treat the peer.
            log: Where lines about errors go.
            fork: Runs an async function beside the caller.
            closer: Closes what the peer may have sent; None when it can send no descriptors.
            caught_up: To be set when all that had arrived is answered, or the connection is closed.
        """
        self._sock = sock
        self._closer = closer
        self._strays: list[int] = []
        self._broker = broker
        self._session = session
        self._conduct = conduct
        self._log = log
        self._caught_up = caught_up
        self._connection = Connection()
        self._outbox = Outbox(
            sock,
            session.charge_output,
            session.output_sent,
            fork,
        )
        self._closed = False

    async def run(self) -> None:
        """Serve until the peer has gone, has ended its stream, or broke the protocol."""
        try:
            if await self._serve():
                await self._outbox.wait_below(0)
            else:
                with trio.move_on_after(self._conduct.linger_s):
                    await self._outbox.wait_below(0)
        except (ConnectionError, trio.ClosedResourceError):
            pass  # the peer has gone; most connections end like this
        except ModelError as refusal:
            self._complain("queued_bytes", "connection closed: answers not taken", str(refusal))

    def notify(self, data: bytes) -> None:
        """Send a notification; drop and count it when the peer does not take its notifications."""
        self._outbox.offer(data, self._conduct.queue_bytes)
        self._session.n_dropped = self._outbox.n_dropped

    def drain(self) -> None:
        """Serve what has arrived and read no more: the stream ends here, as if the peer had ended it."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close the connection and its session, and give back all that they hold. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._tell_caught_up()
        trio.lowlevel.notify_closing(self._sock)
        self._outbox.close()
        if self._closer is None:
            self._sock.close()
        else:
            self._closer.end(self._sock, self._session.identity.uid, self._strays)
        self._broker.disconnect(self._session)

    async def _serve(self) -> bool:  # noqa: PLR0915 - every request passes here: one function, no calls between
        """Read, do, answer. Returns True when the stream ended at the end of a message."""
        sock = self._sock
        session = self._session
        outbox = self._outbox
        connection = self._connection
        decode = connection.receive
        inside_message = State.PARTIAL
        closer, uid = self._closer, session.identity.uid
        receive = fdpass.receive_bytes if closer is None else fdpass.receive
        perform = self._broker.perform
        n_reads = n_bytes = n_yields = n_waits = 0
        patience = YIELDS
        turn_ends = perf_counter() + TURN_S
        replies: list[bytes] = []
        while True:
            try:
                size_bytes = BULK_READ_BYTES if connection.state is inside_message else READ_BYTES
                if closer is not None and closer.is_full(uid):
                    await closer.wait(uid)
                data = receive(sock, size_bytes)
            except BlockingIOError:
                if n_yields < patience:
                    n_yields += 1
                    sched_yield()
                    continue
                patience = patience - 1 if patience else YIELDS * (n_waits % RETRY_WAITS == 0)
                if not n_waits:
                    self._tell_caught_up()
                n_waits += 1
                await trio.lowlevel.wait_readable(sock)
                n_reads = n_yields = 0
                turn_ends = perf_counter() + TURN_S
                continue
            except fdpass.DescriptorsCame as came:
                self._strays = came.fds
                self._complain("fds", "connection closed: descriptors came", "a client sends none")
                return False
            if not data:
                return True
            if n_yields:
                n_yields = 0
                patience = YIELDS
            events = decode(data)
            for event in events:
                if isinstance(event, REQUESTS):
                    steps = perform(session, event)
                    try:
                        pause = next(steps)
                    except StopIteration as stop:
                        reply = stop.value
                    else:
                        reply = await self._drive(steps, pause, replies)
                        n_reads = n_bytes = 0
                        turn_ends = perf_counter() + TURN_S
                    if reply.fds or reply.close:
                        try:
                            await self._send(replies)
                        except BaseException:  # the peer has gone, or this is a forced stop
                            fdpass.close_all(reply.fds)
                            raise
                        n_bytes = 0
                        if reply.data:
                            outbox.send(reply.data, reply.fds)
                        if reply.close:
                            return False
                        continue
                    replies.append(reply.data)
                    n_bytes += len(reply.data)
                    if n_bytes >= SEND_BYTES or perf_counter() > turn_ends:
                        await self._send(replies)
                        await trio.lowlevel.checkpoint()
                        n_reads = n_bytes = 0
                        turn_ends = perf_counter() + TURN_S
                elif isinstance(event, Notification):
                    self._broker.notice(session, event)
                else:
                    await self._send(replies)
                    self._complain(event.reason, "connection closed: broken stream", event.text)
                    return False
            if len(replies) == 1 and not outbox.n_bytes:  # the common case, without a coroutine
                outbox.send(replies.pop())
            if replies or outbox.n_bytes:
                await self._send(replies)
            n_bytes = 0
            n_reads += 1
            if n_reads >= READS_PER_TURN:
                await trio.lowlevel.checkpoint()
                n_reads = 0
                turn_ends = perf_counter() + TURN_S

    async def _send(self, replies: list[bytes]) -> None:
        """Send gathered answers and empty the list; wait while the peer has too many answers to take."""
        if replies:
            self._outbox.send(replies[0] if len(replies) == 1 else b"".join(replies))
            replies.clear()
        if self._outbox.n_bytes > self._conduct.queue_bytes:
            await self._outbox.wait_below(self._conduct.queue_bytes)

    async def _drive(self, steps: Generator[Pause, None, Reply], pause: Pause, replies: list[bytes]) -> Reply:
        """Take a request to its end; other connections run where it pauses. Earlier replies are sent first.

        Returns:
            The request's reply.

        Raises:
            PeerGone: The peer has hung up; what the request had taken is given back.
        """
        # A peer that closed only its sending half still wants its answer, so only a full hang-up counts.
        hang_up = select.poll()
        hang_up.register(self._sock, 0)
        try:
            await self._send(replies)
            while True:
                if isinstance(pause, Ticket):
                    await _turn(pause)
                elif isinstance(pause, Delay):
                    await _wait(pause.seconds, hang_up)
                else:
                    await trio.lowlevel.checkpoint()
                if hang_up.poll(0):
                    raise PeerGone
                pause = next(steps)
        except StopIteration as stop:
            reply: Reply = stop.value
            return reply
        finally:
            steps.close()

    def _tell_caught_up(self) -> None:
        if self._caught_up is not None:
            self._caught_up.set()

    def _complain(self, reason: str, event: str, problem: str) -> None:
        self._log.once(self._session.identity.uid, reason, event, problem=problem)


async def _turn(ticket: Ticket) -> None:
    """Wait until a ticket is granted."""
    if ticket.granted:
        await trio.lowlevel.checkpoint()
        return
    granted = trio.Event()
    ticket.on_grant = granted.set
    await granted.wait()


async def _wait(seconds: float, hang_up: select.poll) -> None:
    """Wait for so many seconds, or until the peer has hung up."""
    with trio.move_on_after(seconds):
        while not hang_up.poll(0):  # noqa: ASYNC110 - no event says so
            await trio.sleep(HANG_UP_S)
