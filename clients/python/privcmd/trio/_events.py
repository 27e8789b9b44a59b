# SPDX-License-Identifier: Apache-2.0
"""Waiting for events in a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from privcmd.evtchn import EventChannel


async def wait_event(channel: EventChannel) -> None:
    """Wait for an event of a channel and take it.

    When it is cancelled, it has taken no event. One task at a time may wait for a channel.

    Raises:
        OSError: EBADF, the channel is closed.
        trio.BusyResourceError: Another task waits for it.
    """
    await trio.lowlevel.checkpoint()
    while not channel.take():
        await trio.lowlevel.wait_readable(channel.fileno())
