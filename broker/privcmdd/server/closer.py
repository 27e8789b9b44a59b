# SPDX-License-Identifier: Apache-2.0
"""Ending connections whose clients may have sent descriptors: to close one of those may take as long as a client likes.

A TCP socket that lingers holds up its last close(2), and so does a file of a FUSE file system that does not answer. The
kernel closes a descriptor that is on its way to us when the connection is closed, too. So all of them are received
first and closed in a thread, for one connection of a uid after another. When too many of a uid wait to be closed,
nothing of that uid is read any more: who sends such descriptors stops itself in the end, and nobody else.

Linux 6.16 can refuse descriptors (``fdpass.bar_descriptors``); then none of this is needed.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from privcmdd.server import fdpass

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from privcmdd.server.outbox import Fork

MOST_WAITING: Final = 4 * fdpass.MOST_FDS


async def _in_a_thread(fds: list[int]) -> None:
    # A thread that waits longer than the broker lives ends with the process.
    await trio.to_thread.run_sync(fdpass.close_all, fds, abandon_on_cancel=True)


class Closer:
    """Ends connections. One object for all of them."""

    def __init__(self, fork: Fork, close_all: Callable[[list[int]], Awaitable[None]] = _in_a_thread) -> None:
        """Begin with nothing to close.

        Args:
            fork: Runs an async function beside the caller.
            close_all: Closes descriptors, however long it takes.
        """
        self._fork = fork
        self._close_all = close_all
        self._at_work: dict[int, _Work] = {}

    def is_full(self, uid: int) -> bool:
        """Whether so many descriptors of a uid wait to be closed that no more are to be received."""
        work = self._at_work.get(uid)
        return work is not None and work.n_fds >= MOST_WAITING

    async def wait(self, uid: int) -> None:
        """Wait until nothing that a uid has sent waits to be closed."""
        while (work := self._at_work.get(uid)) is not None:
            await work.done.wait()

    def end(self, sock: socket.socket, uid: int, fds: list[int]) -> None:
        """End a connection: nothing more goes in or out.

        Args:
            sock: Non-blocking; it is closed, now or as soon as all that its peer has sent is closed.
            uid: The peer's.
            fds: Descriptors that have come already; they are closed.
        """
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        work = self._at_work.get(uid)
        if work is not None:
            work.left.append((sock, fds))
            work.n_fds += len(fds)
            return
        fds = fds or left_in(sock)
        if not fds:
            sock.close()
            return
        self._at_work[uid] = _Work(deque([(sock, fds)]), len(fds))
        self._fork(partial(self._close, uid))

    async def _close(self, uid: int) -> None:
        """Close all that a uid has sent, one connection after another. What is left when it is cancelled leaks."""
        work = self._at_work[uid]
        try:
            while work.left:
                sock, came = work.left.popleft()
                fds = came or left_in(sock)
                work.n_fds += len(fds) - len(came)
                while fds:
                    await self._close_all(fds)
                    work.n_fds -= len(fds)
                    fds = left_in(sock)
                    work.n_fds += len(fds)
                sock.close()
        finally:
            del self._at_work[uid]
            work.done.set()


@dataclass(slots=True)
class _Work:
    """What is to be closed for a uid: connections, and the descriptors that have come already; how many these are."""

    left: deque[tuple[socket.socket, list[int]]]
    n_fds: int
    done: trio.Event = field(default_factory=trio.Event)


def left_in(sock: socket.socket) -> list[int]:
    """Read what has arrived and not been read, up to the first descriptors. Returns these; none at the end."""
    while True:
        try:
            if not fdpass.receive(sock, fdpass.MOST_BYTES):
                return []
        except fdpass.DescriptorsCame as came:
            if came.fds:
                return came.fds
        except OSError:
            return []
