# SPDX-License-Identifier: Apache-2.0
"""The output that one connection still has to be sent.

Bytes go straight to the socket while it takes them; only what it does not take is queued here, and charged
to the client's uid. So a client that reads its answers is never charged. The queue is bounded by its owner, the
``Peer``: above the bound it stops reading requests, and notifications are dropped and counted.

Descriptors are charged until the client has read what it was sent: those that wait in its socket count against the
limit that the kernel sets for all that we have under way (ETOOMANYREFS, unless we are privileged).
"""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, Final

import trio

from privcmdd.model.errors import ModelError
from privcmdd.server import fdpass, waits

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    Fork = Callable[[Callable[[], Awaitable[None]]], None]


# What the kernel says when others do not take their descriptors, or when it has no memory for the moment.
LATER: Final = frozenset({errno.ETOOMANYREFS, errno.ENOMEM, errno.ENOBUFS})
# How soon it is asked again.
RETRY_S: Final = 0.05
# How soon it is noticed that a peer has taken the descriptors that it was sent.
TAKEN_S: Final = 0.01


class Outbox:
    """The outgoing side of a connection.

    Attributes:
        n_bytes: Bytes queued, not yet taken by the socket.
        n_fds: Descriptors charged: queued, or sent and perhaps not read.
        n_dropped: Notifications that did not fit.
        broken: The peer takes no more; what is sent from now on is lost.
    """

    __slots__ = (
        "_charge",
        "_ended",
        "_flushing",
        "_fork",
        "_give_back",
        "_give_up",
        "_hold",
        "_patience_s",
        "_queue",
        "_room",
        "_sock",
        "_watching",
        "broken",
        "n_bytes",
        "n_dropped",
        "n_fds",
    )

    def __init__(
        self,
        sock: socket.socket,
        charge: Callable[[int], None],
        give_back: Callable[[int], None],
        hold: Callable[[int], None],
        fork: Fork,
        patience_s: Callable[[], float] = lambda: math.inf,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        """Make an empty outbox.

        Args:
            sock: Non-blocking; the caller still owns it.
            charge: Charges so many queued bytes to the uid; raises ModelError when that is above its limit.
            give_back: Ends the charge for so many bytes.
            hold: Charges for so many descriptors, all of them; raises ModelError when that is above the uid's limit.
            fork: Runs an async function beside the caller.
            patience_s: How long the peer has to take the next bytes that are queued, in seconds.
            give_up: Called when it has not taken them in that time.
        """
        self._sock = sock
        self._charge = charge
        self._give_back = give_back
        self._hold = hold
        self._fork = fork
        self._patience_s = patience_s
        self._give_up = give_up
        # A list: a deque takes 600 bytes when it is empty, and nearly all of them are.
        self._queue: list[tuple[bytes | memoryview, Sequence[int]]] = []
        self._room: trio.Event | None = None
        self._flushing = False
        self._watching = False
        self._ended = trio.Event()
        self.broken = False
        self.n_bytes = 0
        self.n_dropped = 0
        self.n_fds = 0

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send or queue whole messages; descriptors go with the first byte and are closed once sent.

        Raises:
            ModelError: EDQUOT, the message must be queued and its uid has too much queued already; or it brings
                descriptors and its uid has too many that are not taken.
            OSError: The peer has gone.
        """
        rest: bytes | memoryview = data
        try:
            if fds:
                self._charge_fds(len(fds))
            if not self._queue and not self.broken:
                n_sent = self._try(data, fds)
                if n_sent == len(data):
                    return
                if n_sent:
                    rest = memoryview(data)[n_sent:]
                    fdpass.close_all(fds)
                    fds = ()
            if self.broken:
                raise BrokenPipeError
            self._charge(len(rest))
            self._queue.append((rest, fds))
            fds = ()
        finally:
            if fds:
                fdpass.close_all(fds)
        self.n_bytes += len(rest)
        if not self._flushing:
            self._flushing = True
            self._fork(self._flush)

    def offer(self, data: bytes, bound_bytes: int) -> None:
        """Send a notification, or drop it when more bytes than the bound would be queued. Never fails."""
        if self.broken or self.n_bytes + len(data) > bound_bytes:
            self.n_dropped += 1
            return
        try:
            # Whether the uid can be charged is checked before the first byte is sent: when a part of a notification is
            # sent, the rest cannot be dropped.
            self._charge(len(data))
            self._give_back(len(data))
            self.send(data)
        except (ModelError, OSError):
            self.n_dropped += 1

    def all_taken(self) -> bool:
        """Whether the peer has read all descriptors that it was sent."""
        if self.n_fds and not self._queue and not fdpass.unread(self._sock):
            self._charge_fds(0)
        return not self.n_fds

    def _charge_fds(self, n_more: int) -> None:
        n_fds = self.n_fds if self._queue or fdpass.unread(self._sock) else 0
        self._hold(n_fds + n_more)
        self.n_fds = n_fds + n_more
        if self.n_fds and not self._watching:
            self._watching = True
            self._fork(self._watch)

    async def _watch(self) -> None:
        """End the charge for descriptors when they are taken; runs only while some may not be."""
        try:
            while not self._ended.is_set() and not self.all_taken():
                with trio.move_on_after(TAKEN_S):  # no event says that they are taken
                    await self._ended.wait()
        finally:
            self._watching = False

    async def wait_below(self, bound_bytes: int) -> None:
        """Wait until at most that many bytes are queued, or the peer has gone."""
        while self.n_bytes > bound_bytes and not self.broken:
            self._room = trio.Event()
            await self._room.wait()

    def close(self) -> None:
        """Drop what is queued. Idempotent."""
        self.broken = True
        self._ended.set()
        for _, fds in self._queue:
            fdpass.close_all(fds)
        self._queue.clear()
        self._give_back(self.n_bytes)
        self.n_bytes = 0
        self._wake()

    def _try(self, data: bytes | memoryview, fds: Sequence[int]) -> int:
        try:
            return fdpass.send(self._sock, data, fds) if fds else self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as problem:
            if problem.errno in LATER:
                return 0
            self.broken = True
            raise

    async def _flush(self) -> None:
        """Send what is queued as the socket takes it; runs only while something is queued."""
        try:
            while self._queue:
                with trio.move_on_after(self._patience_s()) as late:
                    await waits.writable(self._sock)
                if late.cancelled_caught:
                    self._give_up()
                    return
                if not self._send_queued():
                    await trio.sleep(RETRY_S)
                self._wake()
        except (OSError, trio.ClosedResourceError):
            self.broken = True
            self._wake()
        finally:
            self._flushing = False

    def _send_queued(self) -> bool:
        """Send what the socket takes. Returns False when it takes nothing, though it says that it is writable."""
        n_before = self.n_bytes
        while self._queue:
            data, fds = self._queue[0]
            n_sent = self._try(data, fds)
            if not n_sent:
                break
            fdpass.close_all(fds)
            if n_sent == len(data):
                del self._queue[0]
            else:
                self._queue[0] = (memoryview(data)[n_sent:], ())
            self.n_bytes -= n_sent
            self._give_back(n_sent)
        return self.n_bytes < n_before

    def _wake(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None
