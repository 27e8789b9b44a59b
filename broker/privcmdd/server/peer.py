# SPDX-License-Identifier: Apache-2.0
"""One connected client: bytes in, requests done in order, answers out.

The loop works on the bare socket. It reads first and waits only when there is nothing to read, does every
request that one read brought, and answers them with one send: a request costs no task, no context and no
log line. In exchange it looks at the clock, and takes its turn with other connections (``turns``).

A connection ends gracefully when its stream ends or breaks: complete requests are answered first. It ends at once
when the peer has hung up; a long request looks for that at each of its checkpoints.
"""

from __future__ import annotations

import contextlib
import errno
import math
import select
import socket
from dataclasses import dataclass, fields
from functools import partial
from os import sched_yield
from time import perf_counter
from typing import TYPE_CHECKING, Final

import trio

from privcmdd.model.errors import ModelError
from privcmdd.server import fdpass, waits
from privcmdd.server.hangups import TELLING
from privcmdd.server.intake import FREE_BYTES
from privcmdd.server.outbox import TAKEN_S, Outbox
from privcmdd.service.holds import LONG_S
from privcmdd.service.steps import MIDWAY, Delay, GivenUp, Ticket
from privcmdd.wire.connection import Connection, State
from privcmdd.wire.messages import BadRequest, Notification, Request, notification

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from privcmdd.server.closer import Closer
    from privcmdd.server.hangups import HungUp
    from privcmdd.server.intake import Intake
    from privcmdd.server.logs import Log
    from privcmdd.server.outbox import Fork
    from privcmdd.server.turns import Turns
    from privcmdd.service.broker import Broker
    from privcmdd.service.reply import Reply
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause

# The size of a read between messages. Most reads bring one request of some fifty bytes; this size keeps the number of
# requests small, so that other connections do not wait long for them. Inside a message, which is then a batch of
# frames, a read may bring more.
READ_BYTES: Final = 16_384
BULK_READ_BYTES: Final = fdpass.MOST_BYTES
# Answers gathered for one send.
SEND_BYTES: Final = 65_536

REQUESTS: Final = (Request, BadRequest)


# How often a connection that is alone looks for the next request, with a sched_yield(2) between two looks, before it
# sleeps. A client that waits for each answer sends its next request at once, and to sleep and be woken costs more than
# all the rest. A connection where nothing arrives during the looks does fewer of them, and then none, except in one
# wait of so many. When others have worked since it was woken, it does not look: they would wait for its looks.
YIELDS: Final = 8
RETRY_WAITS: Final = 64


# How soon a peer that hangs up during a delay is noticed.
HANG_UP_S: Final = 0.05


# What the kernel says when it has no memory for the moment, and how soon it is asked again.
NO_MEMORY: Final = frozenset({errno.ENOMEM, errno.ENOBUFS})
PAUSE_S: Final = 0.05


class PeerGone(ConnectionError):  # noqa: N818 - says what happened, as BrokenPipeError's siblings do
    """The peer has hung up: its requests need no answer."""


class TooLate(ConnectionError):  # noqa: N818 - as above
    """The peer has not sent in time what was waited for."""


@dataclass(slots=True)
class Conduct:
    """How connections are treated; one object for all connections, changed by a reload.

    Attributes:
        queue_bytes: The bytes of answers that a peer has not taken, above which no more requests of it are read.
        linger_s: How long a peer that broke the protocol has to take its last answers.
        first_s: How long a peer has to send its first byte.
        message_s: How long a peer has to send the rest of a message.
        deaf_s: How long a peer has to take the next bytes of what it was sent.
    """

    queue_bytes: int
    linger_s: float
    first_s: float
    message_s: float
    deaf_s: float

    def follow(self, changed: Conduct) -> None:
        """Treat connections as another one says from now on."""
        for field in fields(self):
            setattr(self, field.name, getattr(changed, field.name))


class Peer:
    """A connection from its acceptance to its end. ``run`` it once; ``close`` it always."""

    __slots__ = (
        "_alone",
        "_awaited",
        "_broker",
        "_caught_up",
        "_closed",
        "_closer",
        "_conduct",
        "_connection",
        "_deadline",
        "_fork",
        "_hang_ups",
        "_intake",
        "_log",
        "_outbox",
        "_parked",
        "_place",
        "_session",
        "_sock",
        "_strays",
        "_turns",
        "_woken",
    )

    def __init__(
        self,
        sock: socket.socket,
        broker: Broker,
        session: Session,
        *,
        turns: Turns,
        hang_ups: HungUp,
        intake: Intake,
        conduct: Conduct,
        log: Log,
        fork: Fork,
        closer: Closer | None,
        charge: Callable[[int], None],
        caught_up: trio.Event | None = None,
    ) -> None:
        """Take over a connection.

        Args:
            sock: Non-blocking; ``close`` closes it.
            broker: Does the requests.
            session: The session that the requests belong to.
            turns: Whose turn it is.
            hang_ups: Who has hung up.
            intake: Gives room to messages that come in pieces.
            conduct: How to treat the peer.
            log: Where lines about errors go.
            fork: Runs an async function beside the caller.
            closer: Closes what the peer may have sent; None when it can send no descriptors.
            charge: Charges for bytes that the peer has not taken; raises ModelError when they are too many.
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
            charge,
            session.output_sent,
            session.hold_descriptors,
            fork,
            lambda: conduct.deaf_s,
            self._give_up,
        )
        self._closed = False
        self._fork = fork
        self._parked: trio.CancelScope | None = None  # what the peer waits in that depends on others
        self._hang_ups = hang_ups
        hang_ups.join(sock, self)
        self._intake = intake
        self._turns = turns
        self._place = turns.join(session.identity.uid)
        self._woken = 0.0  # the clock when it was woken, or when its turn began
        self._alone = True  # nobody else was woken between its last two wakings
        # The number of the message whose rest is waited for, and until when; None: it is the first byte.
        self._awaited: int | None = None
        self._deadline = math.inf

    async def run(self) -> None:
        """Serve until the peer has gone, has ended its stream, or broke the protocol."""
        try:
            is_whole = await self._serve()
            self._rest()
            if is_whole and self._broker.world.draining:
                self._say_closing()
            if is_whole:
                await self._outbox.wait_below(0)
            else:
                with trio.move_on_after(self._conduct.linger_s):
                    await self._outbox.wait_below(0)
        except (ConnectionError, trio.ClosedResourceError):
            return  # the peer has gone; most connections end like this
        except ModelError as refusal:
            self._complain("queued_bytes", "connection closed: answers not taken", str(refusal))
        await self._wait_for_descriptors()

    def _say_closing(self) -> None:
        """Tell a client that wants to know it that all it has asked is answered, and that the stream ends here."""
        if "closing" in self._session.features:
            world = self._broker.world
            why = "hand-over" if world.passing_on else "stop"
            self._outbox.send(notification("closing", {"why": why, "lineage": world.line.lineage}))

    async def _wait_for_descriptors(self) -> None:
        """Wait until the peer has read the descriptors that it was sent, or has gone: until then it pays for them.

        Else a client that asks for descriptors, reads none and leaves only its end of the connection open could have
        more of them under way than the kernel lets us have.
        """
        hang_up = select.poll()
        hang_up.register(self._sock, 0)
        with trio.CancelScope() as self._parked:
            while not (self._broker.world.draining or self._outbox.all_taken() or hang_up.poll(0)):  # noqa: ASYNC110 - no event says so
                await trio.sleep(TAKEN_S)

    def notify(self, data: bytes) -> None:
        """Send a notification; drop and count it when the peer does not take its notifications."""
        self._outbox.offer(data, self._conduct.queue_bytes)
        self._session.n_dropped = self._outbox.n_dropped

    @property
    def n_queued(self) -> int:
        """Bytes that the peer has not taken."""
        return self._outbox.n_bytes

    def drop(self, problem: str) -> None:
        """End the connection of a peer that does not take its answers."""
        self._complain("queued_bytes", "connection closed: answers not taken", problem)
        self._outbox.close()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def evict(self, problem: str) -> None:
        """End the connection, because somebody who may has asked for that."""
        self._complain("evicted", "connection closed: evicted", problem)
        self._outbox.close()
        self.give_up()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _give_up(self) -> None:
        self.drop(f"nothing taken for {self._conduct.deaf_s:g} s; server.deaf_timeout_s allows no more")

    def give_up(self) -> None:
        """End soon: the peer has hung up. What a request of it waits for is given up."""
        if self._parked is not None:
            self._parked.cancel()

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
        self._intake.leave(self._session.uid_account, self._session.incoming)
        self._turns.leave(self._place)
        trio.lowlevel.notify_closing(self._sock)
        self._hang_ups.leave(self._sock)
        self._outbox.close()
        if self._closer is None:
            self._sock.close()
        else:
            self._closer.end(self._sock, self._session.identity.uid, self._strays)
        ending = self._broker.leave(self._session)
        if next(ending, ending) is not ending:
            self._hang_ups.n_giving_back += 1
            self._fork(partial(finish, ending, self._turns, self._session.identity.uid, self._hang_ups))

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
        turns = self._turns
        hang_ups = self._hang_ups
        place = self._place
        quantum_s = turns.quantum_s
        n_bytes = n_yields = n_waits = 0
        patience = YIELDS
        replies: list[bytes] = []
        size_bytes = READ_BYTES
        last = self._woken = perf_counter()
        if turns.crowded:
            last = await self._turn(woken=True)
        while True:
            try:
                if closer is not None and closer.is_full(uid):
                    self._rest()
                    await closer.wait(uid)
                    last = self._woken = perf_counter()
                data = receive(sock, size_bytes)
            except BlockingIOError:
                if n_yields < patience and self._alone and turns.last is place and not turns.crowded:
                    n_yields += 1
                    sched_yield()
                    continue
                if n_yields >= patience:
                    patience = patience - 1 if patience else YIELDS * (n_waits % RETRY_WAITS == 0)
                if not n_waits:
                    self._tell_caught_up()
                n_waits += 1
                last = await self._readable()
                n_yields = 0
                continue
            except fdpass.DescriptorsCame as came:
                self._strays = came.fds
                self._complain("fds", "connection closed: descriptors came", "a client sends none")
                return False
            except OSError as problem:
                if problem.errno not in NO_MEMORY:
                    raise
                self._rest()
                await trio.sleep(PAUSE_S)
                last = self._woken = perf_counter()
                continue
            if not data:
                return True
            if n_yields:
                n_yields = 0
                patience = YIELDS
                last = perf_counter()
            if hang_ups.any():
                self._rest()
                await hang_ups.ended(self)
                last = self._woken = perf_counter()
            events = decode(data)
            for event in events:
                if isinstance(event, REQUESTS):
                    if hang_ups.n_giving_back and event.method in TELLING:
                        await self._send(replies)
                        self._rest()
                        await hang_ups.given_back()
                        last = self._woken = perf_counter()
                        n_bytes = 0
                    steps = perform(session, event)
                    try:
                        pause = next(steps)
                    except StopIteration as stop:
                        reply = stop.value
                    else:
                        reply = await self._drive(steps, pause, replies, last)
                        last = perf_counter()
                        n_bytes = 0
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
                    else:
                        replies.append(reply.data)
                        n_bytes += len(reply.data)
                    now = perf_counter()
                    if now - last > LONG_S:
                        self._broker.world.holds.note(event.method, now - last)
                    last = now
                    if n_bytes >= SEND_BYTES or now - self._woken >= quantum_s:
                        await self._send(replies)
                        last = await self._turn()
                        n_bytes = 0
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
            if connection.state is inside_message:
                size_bytes = BULK_READ_BYTES
                if connection.n_expected > FREE_BYTES and not await self._enter():
                    return False
            else:
                size_bytes = READ_BYTES
                if session.incoming.amount:
                    self._intake.leave(session.uid_account, session.incoming)
            if not self._alone and len(data) < READ_BYTES and size_bytes == READ_BYTES:
                last = await self._readable()  # with others at work, a look would mostly find nothing
            elif perf_counter() - self._woken >= quantum_s:
                last = await self._turn()

    async def _enter(self) -> bool:
        """Get room for a message that comes in pieces, or wait for it. Returns False when there never will be."""
        session, n_bytes = self._session, self._connection.n_expected
        spend = self._broker.world.spend
        try:
            if spend is not None and n_bytes > session.incoming.amount:
                spend(n_bytes - session.incoming.amount)
            if not self._intake.enter(session.uid_account, session.incoming, n_bytes):
                self._rest()
                with trio.CancelScope() as self._parked:
                    await self._intake.wait(session.uid_account, session.incoming, n_bytes)
                if self._parked.cancelled_caught:
                    raise PeerGone
                self._parked = None
                self._awaited = None  # the peer has its time for the rest from now on
                self._woken = perf_counter()
                await self._turn(woken=True)
        except ModelError as refusal:
            self._complain("incoming_bytes", "connection closed: no room for the message", str(refusal))
            return False
        return True

    async def _readable(self) -> float:
        """Wait until something has arrived, and for the turn if others have turns.

        Returns:
            The clock when the turn begins.
        """
        self._rest()
        if self._connection.state is State.PARTIAL or not self._session.n_requests:
            await self._wait_in_time()
        else:
            await waits.readable(self._sock)
        self._woken = perf_counter()
        self._alone = self._turns.last is self._place
        self._turns.last = self._place
        turns = self._turns
        if turns.crowded or self._woken > turns.pass_ends_s:
            return await self._turn(woken=True)
        return self._woken

    async def _turn(self, *, woken: bool = False) -> float:
        """Let others have their turns, and wait for the next one.

        Args:
            woken: It was woken just now.

        Returns:
            The clock when the turn begins.
        """
        await self._turns.take(self._place, perf_counter() - self._woken, woken=woken)
        self._woken = perf_counter()
        return self._woken

    def _rest(self) -> None:
        """Give up the turn, before something else is waited for."""
        if self._place.chosen:
            self._turns.give(self._place, perf_counter() - self._woken)

    async def _wait_in_time(self) -> None:
        """Wait for the first bytes of a connection, or for more of a message.

        Raises:
            TooLate: They have not come in time; one line says so.
        """
        session, conduct = self._session, self._conduct
        begun = self._connection.state is State.PARTIAL
        n_before = session.n_requests + session.n_ignored if begun else None
        if n_before != self._awaited or n_before is None:  # what is waited for is another message than the last time
            self._awaited = n_before
            self._deadline = trio.current_time() + (conduct.message_s if begun else conduct.first_s)
        with trio.move_on_at(self._deadline) as late:
            await waits.readable(self._sock)
        if not late.cancelled_caught:
            return
        if begun:
            problem = f"not whole after {conduct.message_s:g} s; server.message_timeout_s allows no more"
            self._complain("message_timeout", "connection closed: half a message", problem)
        else:
            problem = f"not a byte after {conduct.first_s:g} s; server.first_timeout_s allows no more"
            self._complain("first_timeout", "connection closed: silent", problem)
        raise TooLate

    def _hand_over(self, replies: list[bytes]) -> None:
        """Send gathered answers, or queue them, and empty the list."""
        if replies:
            self._outbox.send(replies[0] if len(replies) == 1 else b"".join(replies))
            replies.clear()

    async def _send(self, replies: list[bytes]) -> None:
        """Send gathered answers and empty the list; wait while the peer has too many answers to take."""
        self._hand_over(replies)
        if self._outbox.n_bytes > self._conduct.queue_bytes:
            self._rest()
            await self._outbox.wait_below(self._conduct.queue_bytes)
            self._woken = perf_counter()
            await self._turn(woken=True)

    async def _drive(
        self, steps: Generator[Pause, None, Reply], pause: Pause, replies: list[bytes], last: float
    ) -> Reply:
        """Take a request to its end. Earlier replies are sent first. Where it pauses, other connections may run.

        Args:
            steps: The request, of which the first step is done.
            pause: Where it has paused.
            replies: Earlier replies.
            last: The clock when the first step began.

        Nothing is waited for that depends on the peer: the request may have its turn in the address space.

        Returns:
            The request's reply.

        Raises:
            PeerGone: The peer has hung up; what the request had taken is given back.
        """
        # A peer that closed only its sending half still wants its answer, so only a full hang-up counts.
        hang_up = select.poll()
        hang_up.register(self._sock, 0)
        has_gone = False
        try:
            self._hand_over(replies)
            while True:
                now = perf_counter()
                if now - last > LONG_S:
                    self._broker.world.holds.note(self._session.method, now - last)
                last = now
                waits = isinstance(pause, Delay) or (isinstance(pause, Ticket) and not pause.granted)
                if waits:
                    self._rest()
                    with trio.CancelScope() as self._parked:
                        await _over(pause, hang_up)
                    self._parked = None
                    self._woken = perf_counter()
                elif now - self._woken < self._turns.quantum_s:
                    pause = next(steps)
                    continue
                last = await self._turn(woken=waits)
                if hang_up.poll(0) and pause is not MIDWAY:
                    has_gone = True
                    pause = steps.throw(GivenUp())
                else:
                    pause = next(steps)
        except StopIteration as stop:
            if has_gone:
                raise PeerGone from None
            reply: Reply = stop.value
            return reply
        finally:
            steps.close()

    def _tell_caught_up(self) -> None:
        if self._caught_up is not None:
            self._caught_up.set()

    def _complain(self, reason: str, event: str, problem: str) -> None:
        self._log.once(self._session.identity.uid, reason, event, problem=problem)


async def finish(ending: Generator[Pause, None, None], turns: Turns, uid: int, hang_ups: HungUp) -> None:
    """Go on giving back what a client held that has gone; others have their turns meanwhile."""
    place = turns.join(uid)
    try:
        spent_s = 0.0
        while True:
            await turns.take(place, spent_s)
            began = perf_counter()
            for _ in ending:
                spent_s = perf_counter() - began
                if spent_s >= turns.quantum_s:
                    break
            else:
                return
    finally:
        hang_ups.n_giving_back -= 1
        turns.leave(place)
        ending.close()


async def _over(pause: Pause, hang_up: select.poll) -> None:
    """Wait until a ticket is granted; or for a delay, or until the peer has hung up."""
    if isinstance(pause, Ticket):
        granted = trio.Event()
        pause.on_grant = granted.set
        await granted.wait()
    elif isinstance(pause, Delay):
        with trio.move_on_after(pause.seconds):
            while not hang_up.poll(0):  # noqa: ASYNC110 - no event says so
                await trio.sleep(HANG_UP_S)
