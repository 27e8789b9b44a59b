# SPDX-License-Identifier: Apache-2.0
"""One end of an event channel, in this process: two eventfds. To notify and to wait take no request."""

from __future__ import annotations

import contextlib
import os
import select
from typing import Self

__all__ = ["EventChannel"]


class EventChannel:
    """A port and its two events.

    Notifications go from process to process without the broker. When the other end notifies several times before this
    end looks, there is one event. ``close`` gives back the descriptors; the port stays until ``client.events.close``,
    and a port of domain 0 at the longest until its connection ends.

    Attributes:
        port: The port's number.
        on: The domain that the port belongs to: 0, or a guest's domid.
    """

    def __init__(self, port: int, on: int, fds: tuple[int, ...]) -> None:
        """Take over two descriptors: of the port's own event, and of the other end's."""
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
        """Both descriptors, of its own event and of the other end's, to be handed to another process."""
        return self._own, self._remote

    def notify(self) -> None:
        """Notify the other end; nothing happens when there is no other end.

        Raises:
            OSError: EBADF, closed.
        """
        if self._remote >= 0:
            # Not writable: its count is at its largest, so it is notified anyway. A write could wait, as whoever else
            # holds the eventfd can clear its O_NONBLOCK.
            poller = select.poll()
            poller.register(self._remote, select.POLLOUT)
            if not poller.poll(0):
                return
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._remote, 1)

    def take(self) -> bool:
        """Take the event if there is one, without waiting. Returns whether there was one.

        Raises:
            OSError: EBADF, closed.
        """
        try:  # whoever else holds the eventfd can clear its O_NONBLOCK, which RWF_NOWAIT does not look at
            return os.preadv(self._own, [bytearray(8)], -1, os.RWF_NOWAIT) > 0
        except BlockingIOError:
            return False

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for an event and take it.

        Args:
            timeout_s: How long to wait, in seconds; None is for ever.

        Returns:
            Whether there was an event in time.

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
