# SPDX-License-Identifier: Apache-2.0
"""What is started when its first client comes: its socket listens before, so that nobody has to wait for the start.

A program that never connects never has it started, and pays nothing for it. One that does waits in the backlog of the
socket, as behind a socket of systemd's.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Callable

BACKLOG = 128
"""Clients that may wait while what they want is being started."""


class Door:
    """A listening socket, and what is started behind it.

    Args:
        path: Where the socket is to be.
        start: Called once, with the door, for the first client, in a thread of its own or by whoever calls ``open``.
            It has to look at ``closing`` while it waits for anything.

    Attributes:
        listener: The listening socket. What is started takes it over.
        stack: What ``start`` puts here ends when the door closes.
        closing: Nobody needs any more what is being started.
        opened: It has been started.
    """

    def __init__(self, path: str, start: Callable[[Door], None]) -> None:
        self.listener: socket.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(BACKLOG)
        self.stack: contextlib.ExitStack = contextlib.ExitStack()
        self.closing: bool = False
        self.opened: bool = False
        self._error: Exception | None = None
        self._start = start
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None

    def watch(self) -> None:
        """Wait for the first client beside all else."""
        if not self.opened:
            self._thread = threading.Thread(target=self._wait, daemon=True)
            self._thread.start()

    def open(self) -> None:
        """Start it now, if it has not been started.

        Raises:
            Exception: What ``start`` raised, now or before.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if self.opened:
                return
            try:
                self._start(self)
            except Exception as error:
                self._error = error
                self.listener.close()
                raise
            self.opened = True

    def failure(self) -> Exception | None:
        """Why it could not be started, if so; clients are refused then. What is being started now is waited for."""
        with self._lock:
            return self._error

    def close(self) -> None:
        """End what was started, and refuse clients. Idempotent."""
        self.closing = True
        if self._thread is not None:
            os.eventfd_write(self._wake, 1)
            self._thread.join()
            self._thread = None
        self.stack.close()
        self.listener.close()
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self.listener, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        poller.poll()
        if not self.closing:
            with contextlib.suppress(Exception):  # it is kept for ``failure``
                self.open()
