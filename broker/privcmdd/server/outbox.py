# SPDX-License-Identifier: Apache-2.0
"""The output that one connection still has to be sent.

Bytes go straight to the socket while it takes them; only what it does not take is queued here, and charged
to the client's uid. So a client that reads its answers is never charged. The queue is bounded by its owner, the
``Peer``: above the bound it stops reading requests, and notifications are dropped and counted.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from privcmdd.model.errors import ModelError
from privcmdd.server import fdpass

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    Fork = Callable[[Callable[[], Awaitable[None]]], None]


class Outbox:
    """The outgoing side of a connection.

    Attributes:
        n_bytes: Bytes queued, not yet taken by the socket.
        n_dropped: Notifications that did not fit.
        broken: The peer takes no more; what is sent from now on is lost.
    """

    __slots__ = (
        "_charge",
        "_flushing",
        "_fork",
        "_give_back",
        "_queue",
        "_room",
        "_sock",
        "broken",
        "n_bytes",
        "n_dropped",
    )

    def __init__(
        self,
        sock: socket.socket,
        charge: Callable[[int], None],
        give_back: Callable[[int], None],
        fork: Fork,
    ) -> None:
        """Make an empty outbox.

        Args:
            sock: Non-blocking; the caller still owns it.
            charge: Charges so many queued bytes to the uid; raises ModelError when that is above its limit.
            give_back: Ends the charge for so many bytes.
            fork: Runs an async function beside the caller.
        """
        self._sock = sock
        self._charge = charge
        self._give_back = give_back
        self._fork = fork
        self._queue: deque[tuple[bytes | memoryview, Sequence[int]]] = deque()
        self._room: trio.Event | None = None
        self._flushing = False
        self.broken = False
        self.n_bytes = 0
        self.n_dropped = 0

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send or queue whole messages; descriptors go with the first byte and are closed once sent.

        Raises:
            ModelError: EDQUOT, the message must be queued and its uid has too much queued already.
            OSError: The peer has gone.
        """
        rest: bytes | memoryview = data
        try:
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

    async def wait_below(self, bound_bytes: int) -> None:
        """Wait until at most that many bytes are queued, or the peer has gone."""
        while self.n_bytes > bound_bytes and not self.broken:
            self._room = trio.Event()
            await self._room.wait()

    def close(self) -> None:
        """Drop what is queued. Idempotent."""
        self.broken = True
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
        except OSError:
            self.broken = True
            raise

    async def _flush(self) -> None:
        """Send what is queued as the socket takes it; runs only while something is queued."""
        try:
            while self._queue:
                await trio.lowlevel.wait_writable(self._sock)
                self._send_queued()
                self._wake()
        except (OSError, trio.ClosedResourceError):
            self.broken = True
            self._wake()
        finally:
            self._flushing = False

    def _send_queued(self) -> None:
        while self._queue:
            data, fds = self._queue[0]
            n_sent = self._try(data, fds)
            if not n_sent:
                return
            fdpass.close_all(fds)
            if n_sent == len(data):
                self._queue.popleft()
            else:
                self._queue[0] = (memoryview(data)[n_sent:], ())
            self.n_bytes -= n_sent
            self._give_back(n_sent)

    def _wake(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None
