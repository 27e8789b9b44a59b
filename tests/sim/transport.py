# SPDX-License-Identifier: Apache-2.0
"""A stream socket between a client and the broker, in memory: its two buffers have bounds, as the kernel's have.

The rules are those measured of Linux: a client that closes without having read all resets the connection, once the
broker has read what came before. Clients send no descriptors, as the kernel has it since 6.16.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import array
    from collections.abc import Awaitable, Callable, Sequence

    from privcmdd.server.hangups import Ending


class BrokerEnd:
    """The broker's end: what it uses of a non-blocking ``socket.socket``; and what a scheduler does to it.

    Attributes:
        ended: The client has shut its side down; what came before is still to be read.
        gone: The client has closed: answers go nowhere.
        closing: The broker has begun to close.
        closed: It has closed.
        room_bytes: What the client's receive buffer takes.
    """

    def __init__(self, room_bytes: int) -> None:
        self.ended = self.gone = self.closing = self.closed = False
        self.room_bytes = room_bytes
        self._reset = False
        self._arrived: deque[bytes] = deque()
        self._sent = bytearray()
        self.n_fds_sent = 0

    # What the broker uses

    def recv_into(self, room: memoryview, size_bytes: int) -> int:
        """What is there, as recv(2) has it."""
        n_bytes = 0
        while self._arrived and n_bytes < size_bytes:
            data = self._arrived.popleft()
            taken = data[: size_bytes - n_bytes]
            room[n_bytes : n_bytes + len(taken)] = taken
            n_bytes += len(taken)
            if len(taken) < len(data):
                self._arrived.appendleft(data[len(taken) :])
        if not n_bytes and not self.ended:
            raise BlockingIOError
        if not n_bytes and self._reset:
            raise ConnectionResetError
        return n_bytes

    def send(self, data: bytes | memoryview) -> int:
        """Write what fits (send(2))."""
        if self.gone or self.closed:
            raise BrokenPipeError
        taken = data[: self.room_bytes - len(self._sent)]
        if not len(taken):
            raise BlockingIOError
        self._sent += taken
        return len(taken)

    def sendmsg(self, buffers: Sequence[bytes | memoryview], rights: list[tuple[int, int, array.array[int]]]) -> int:
        """Write what fits (sendmsg(2)); descriptors that went are counted, for nobody needs them here."""
        n_sent = self.send(buffers[0])
        self.n_fds_sent += sum(len(fds) for _, _, fds in rights)
        return n_sent

    def close_begins(self) -> None:
        """Wake who waits for it."""
        self.closing = True

    def close(self) -> None:
        """Close: what has arrived is lost."""
        self.closing = self.closed = True
        self._arrived.clear()

    # What a scheduler does and sees

    @property
    def readable(self) -> bool:
        """Whether a read would not block."""
        return bool(self._arrived) or self.ended

    @property
    def writable(self) -> bool:
        """Whether a write would not block."""
        return self.gone or len(self._sent) < self.room_bytes

    @property
    def n_unread(self) -> int:
        """Bytes that wait for the client."""
        return len(self._sent)

    def arrive(self, data: bytes) -> None:
        """Bytes of the client come in."""
        assert not self.ended
        if data and not self.closed:
            self._arrived.append(data)

    def take(self, n_bytes: int) -> bytes:
        """The client reads."""
        data = bytes(self._sent[:n_bytes])
        del self._sent[:n_bytes]
        return data

    def end(self) -> None:
        """The client shuts its side down."""
        self.ended = True

    def hang_up(self) -> None:
        """The client closes."""
        self._reset = bool(self._sent)
        self._sent.clear()
        self.ended = self.gone = True

    def shutdown(self, how: int) -> None:
        """The broker reads no more than has arrived (SHUT_RD), and sends no more (SHUT_RDWR)."""
        self.ended = True
        self.gone = self.gone or how == socket.SHUT_RDWR


class HangUps:
    """As ``privcmdd.server.hangups``, of connections in memory."""

    def __init__(self, checkpoint: Callable[[], Awaitable[None]]) -> None:
        self._checkpoint = checkpoint
        self._peers: dict[BrokerEnd, Ending] = {}
        self.n_giving_back = 0

    def join(self, end: BrokerEnd, peer: Ending) -> None:
        """Take a connection in."""
        self._peers[end] = peer

    def leave(self, end: BrokerEnd) -> None:
        """Take a connection out."""
        del self._peers[end]

    def any(self) -> bool:
        """Whether any client has closed."""
        return any(end.gone for end in self._peers)

    async def ended(self, besides: Ending) -> None:
        """Wait until all others that have closed are out; at once for one that has closed itself."""
        while gone := [peer for end, peer in self._peers.items() if end.gone]:
            if besides in gone:
                return
            for peer in gone:
                peer.give_up()
            await self._checkpoint()

    async def given_back(self) -> None:
        """Wait until clients that have gone have given back what they held."""
        while self.n_giving_back:
            await self._checkpoint()
