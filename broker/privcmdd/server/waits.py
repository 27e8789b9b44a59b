# SPDX-License-Identifier: Apache-2.0
"""Waiting for a socket, also when the kernel has no room for one more (epoll_ctl(2): ENOMEM, ENOSPC)."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

NO_ROOM: Final = frozenset({errno.ENOMEM, errno.ENOSPC})
# How soon the kernel is asked again; the caller looks at its socket meanwhile.
PAUSE_S: Final = 0.05


async def readable(sock: socket.socket) -> None:
    """Wait until something has arrived, or for a moment."""
    await _wait(trio.lowlevel.wait_readable, sock)


async def writable(sock: socket.socket) -> None:
    """Wait until something can be sent, or for a moment."""
    await _wait(trio.lowlevel.wait_writable, sock)


async def _wait(wait: Callable[[socket.socket], Awaitable[None]], sock: socket.socket) -> None:
    try:
        await wait(sock)
    except OSError as problem:
        if problem.errno not in NO_ROOM:
            raise
        # trio still has us down as waiting, and so would refuse the next wait as busy.
        with contextlib.suppress(trio.ClosedResourceError):
            trio.lowlevel.notify_closing(sock)
        await trio.sleep(PAUSE_S)
