# SPDX-License-Identifier: Apache-2.0
"""The events of event channels: two eventfds each, made when a client first asks for them.

All programs at one end of a channel poll the same eventfd, and all programs at the other end write to it: its count
is the pending bit, kept by the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

FLAGS: Final = os.EFD_CLOEXEC | os.EFD_NONBLOCK


class EventFiles:
    """The events of all channels: the part of ``service.backing.Backing`` that is about them."""

    def __init__(self) -> None:
        self._events: dict[int, tuple[int, int]] = {}

    def make_events(self, channel: int) -> None:
        """Make the two events of a channel, unless they are there.

        Raises:
            ModelError: ENOMEM, no descriptor is left.
        """
        if channel not in self._events:
            self._events[channel] = _two(lambda _: os.eventfd(0, FLAGS))

    def events(self, channel: int) -> tuple[int, int]:
        """Return a new descriptor of each of a channel's events, which the caller owns and closes.

        Raises:
            ModelError: ENOMEM, no descriptor is left.
        """
        pair = self._events[channel]
        return _two(lambda side: os.dup(pair[side]))

    def raise_event(self, channel: int, side: int) -> None:
        """Raise an event, if ``make_events`` has made it."""
        if channel in self._events:
            with contextlib.suppress(BlockingIOError):  # its count is the largest possible: it is raised already
                os.eventfd_write(self._events[channel][side], 1)

    def take_event(self, channel: int, side: int) -> bool:
        """Clear an event. Returns whether it was raised."""
        with contextlib.suppress(KeyError, BlockingIOError):
            return os.eventfd_read(self._events[channel][side]) > 0
        return False

    def close_events(self, channel: int) -> None:
        """Close a channel's events."""
        for fd in self._events.pop(channel, ()):
            os.close(fd)

    def close_all_events(self) -> None:
        """Close all events. Idempotent."""
        for channel in list(self._events):
            self.close_events(channel)


def _two(make: Callable[[int], int]) -> tuple[int, int]:
    """Make a descriptor for each side, or none, and return both.

    Raises:
        ModelError: ENOMEM, no descriptor is left.
    """
    first = -1
    try:
        first = make(0)
        return first, make(1)
    except OSError as problem:
        if first >= 0:
            os.close(first)
        raise ModelError(errno.ENOMEM, f"no descriptor left for an event channel: {problem.strerror}") from problem
