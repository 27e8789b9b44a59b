# SPDX-License-Identifier: Apache-2.0
"""Which clients have hung up and are not ended yet.

On a real host, what a process held is given back before its parent's wait(2) returns. Here the end of a client is an
event of the loop like others, and could be seen after the request of somebody who has waited for it. So before requests
that were read are performed, all connections that have hung up by then are ended: one system call, which mostly finds
none (0.3 us).
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    import socket

# Methods that tell whether somebody still holds something: they wait until clients that have gone have given all back.
TELLING: Final = frozenset({"domain.destroy", "domain.info", "domain.list", "job.list", "space.list", "stats"})
# How many are asked for in one call.
MOST: Final = 64
# The longest that a request waits for the end of others, which only have to give up what they wait for.
PATIENCE_S: Final = 1.0


class Ending(Protocol):
    """A connection that can be told that its client has hung up."""

    def give_up(self) -> None:
        """Wait for nothing any more, and end."""


class HungUp(Protocol):
    """What a connection asks about others that have hung up."""

    def join(self, sock: socket.socket, peer: Ending, /) -> None:
        """Take a connection in."""

    def leave(self, sock: socket.socket, /) -> None:
        """Take a connection out, before it is closed."""

    def any(self) -> bool:
        """Return whether any connection has hung up that is not closed yet."""

    async def ended(self, besides: Ending) -> None:
        """Wait until all other connections that have hung up are closed."""

    n_giving_back: int

    async def given_back(self) -> None:
        """Wait until clients that have gone have given back what they held."""


class HangUps:
    """The connections that may hang up. ``close`` it at the end.

    Attributes:
        n_giving_back: How many closed connections have much to give back, and are still at it.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._by_fd: dict[int, Ending] = {}
        self.n_giving_back = 0

    def join(self, sock: socket.socket, peer: Ending) -> None:
        """Take a connection in."""
        self._by_fd[sock.fileno()] = peer
        self._epoll.register(sock, 0)  # EPOLLHUP is always told

    def leave(self, sock: socket.socket) -> None:
        """Take a connection out, before it is closed."""
        self._epoll.unregister(sock)
        del self._by_fd[sock.fileno()]

    def any(self) -> bool:
        """Whether any connection has hung up that is not closed yet."""
        return bool(self._epoll.poll(0, 1))

    async def ended(self, besides: Ending) -> None:
        """Wait until all other connections that have hung up are closed; at once for one that has hung up itself.

        Else two of these would wait for each other.
        """
        with trio.move_on_after(PATIENCE_S):
            while True:
                gone = [self._by_fd[fd] for fd, _ in self._epoll.poll(0, MOST)]
                if not gone or besides in gone:
                    return
                for peer in gone:
                    peer.give_up()
                await trio.lowlevel.checkpoint()

    async def given_back(self) -> None:
        """Wait until clients that have gone have given back what they held."""
        with trio.move_on_after(PATIENCE_S):
            while self.n_giving_back:
                await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Give the descriptor back."""
        self._epoll.close()
