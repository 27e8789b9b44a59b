# SPDX-License-Identifier: Apache-2.0
"""The events of event channels: two eventfds each, made when a client first asks for them.

All programs at one end of a channel poll the same eventfd, and all programs at the other end write to it: its count
is the pending bit, kept by the kernel. What a client does to an eventfd never makes the broker wait (``eventfd``).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.server.eventfd import Raiser, take_event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from privcmdd.server.event_store import EventStore

# O_NONBLOCK is for the clients that read it; the broker does not rely on it.
FLAGS: Final = os.EFD_CLOEXEC | os.EFD_NONBLOCK


class EventFiles:
    """The events of all channels: the part of ``service.backing.Backing`` that is about them."""

    def __init__(self) -> None:
        self._events: dict[int, tuple[int, int]] = {}
        self._raiser: Raiser | None = None
        self._store: EventStore | None = None

    def keep_events(self, store: EventStore) -> None:
        """Have events kept for the next broker from now on, and take over those that an earlier one has had kept.

        Raises:
            ModelError: As ``make_events``.
        """
        self._adopt_events(store.left)
        self._store = store

    def drop_events(self, has_channel: Callable[[int], bool]) -> None:
        """Close the events of channels that there are none of."""
        for channel in [channel for channel in self._events if not has_channel(channel)]:
            self.close_events(channel)

    def make_events(self, channel: int) -> None:
        """Make the two events of a channel, unless they are there.

        Raises:
            ModelError: ENOMEM, no descriptor is left, or the kernel has no AIO context for us.
        """
        if channel not in self._events:
            if self._raiser is None:
                self._raiser = _raiser()
            self._events[channel] = _two(lambda _: os.eventfd(0, FLAGS))
            if self._store is not None:
                self._store.keep(channel, self._events[channel])

    def _adopt_events(self, events: Mapping[int, tuple[int, int]]) -> None:
        """Take over events that another broker has made.

        Raises:
            ModelError: As ``make_events``.
        """
        self._events.update(events)
        if events and self._raiser is None:
            self._raiser = _raiser()

    def events(self, channel: int) -> tuple[int, int]:
        """Return a new descriptor of each of a channel's events, which the caller owns and closes.

        Raises:
            ModelError: ENOMEM, no descriptor is left.
        """
        pair = self._events[channel]
        return _two(lambda side: os.dup(pair[side]))

    def raise_event(self, channel: int, side: int) -> None:
        """Raise an event, if ``make_events`` has made it."""
        if channel in self._events and self._raiser is not None:
            self._raiser.raise_event(self._events[channel][side])

    def take_event(self, channel: int, side: int) -> bool:
        """Clear an event. Returns whether it was raised."""
        return channel in self._events and take_event(self._events[channel][side])

    def close_events(self, channel: int) -> None:
        """Close a channel's events."""
        if self._store is not None and channel in self._events:
            self._store.forget(channel)
        self._close(channel)

    def close_all_events(self) -> None:
        """Close all events. Idempotent."""
        for channel in list(self._events):
            self._close(channel)
        if self._raiser is not None:
            self._raiser.close()
            self._raiser = None

    def _close(self, channel: int) -> None:
        for fd in self._events.pop(channel, ()):
            os.close(fd)


def _raiser() -> Raiser:
    try:
        return Raiser()
    except OSError as problem:
        raise ModelError(
            errno.ENOMEM, f"no event channels: the kernel gives no AIO context ({problem.strerror}; fs.aio-max-nr)"
        ) from problem


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
