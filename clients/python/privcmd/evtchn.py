# SPDX-License-Identifier: Apache-2.0
"""One end of an event channel, in this process: two eventfds, and no request for what happens often."""

from __future__ import annotations

import contextlib
import os
import select
from typing import Self


class EventChannel:
    """A port and its two events.

    Notifying and waiting go from process to process without the broker. Events of a port add up to one: however
    often the other end notifies before this one looks, there is one event. Closing gives back the descriptors; the
    port stays until ``client.events.close`` or, one of domain 0, until its connection ends.

    Attributes:
        port: Its number.
        on: Whose port: 0, or a guest's domid.
    """

    def __init__(self, port: int, on: int, fds: tuple[int, ...]) -> None:
        """Take two descriptors over: the port's own event, and the other end's."""
        self.port = port
        self.on = on
        self._own, self._remote = fds

    def __repr__(self) -> str:
        return f"<EventChannel {self.on}:{self.port}{'' if self._own >= 0 else ' (closed)'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor that is readable while there is an event."""
        return self._own

    @property
    def fds(self) -> tuple[int, int]:
        """Both descriptors, its own event and the other end's, for another process to be handed."""
        return self._own, self._remote

    def notify(self) -> None:
        """Notify the other end; without one nothing happens.

        Raises:
            OSError: EBADF, closed.
        """
        with contextlib.suppress(BlockingIOError):  # it has not looked for 2^64 - 2 times
            os.eventfd_write(self._remote, 1)

    def take(self) -> bool:
        """Take the event, if there is one; does not wait.

        Raises:
            OSError: EBADF, closed.
        """
        try:
            os.eventfd_read(self._own)
        except BlockingIOError:
            return False
        return True

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for an event and take it.

        Args:
            timeout_s: How long, in seconds; None is for ever.

        Returns:
            Whether there was one in time.

        Raises:
            OSError: EBADF, closed.
        """
        poller = select.poll()
        poller.register(self._own, select.POLLIN)
        while not self.take():
            if not poller.poll(None if timeout_s is None else timeout_s * 1000):
                return False
        return True

    def close(self) -> None:
        """Close the descriptors. Idempotent."""
        own, remote = self._own, self._remote
        self._own = self._remote = -1
        for fd in (own, remote):
            if fd >= 0:
                os.close(fd)
