# SPDX-License-Identifier: Apache-2.0
"""The face for trio: the same names as the blocking one, to be awaited.

Cancellation: a call that is cancelled before it is sent has not happened. One that is cancelled after sending
may happen; its answer is dropped when it comes, and the connection goes on. One that is cancelled when only
part of it was sent ends the connection. Setting up or replacing a mapping cannot be cancelled half way: once
sent it runs to its end (a dead broker ends it with `BrokerGone`), except while it waits for paged frames, and
then everything is undone.
"""

from privcmd.aio import (
    AsyncClient,
    AsyncDomains,
    AsyncEvents,
    AsyncForeignMemory,
    AsyncGuest,
    AsyncMapping,
    wait_event,
)

__all__ = [
    "AsyncClient",
    "AsyncDomains",
    "AsyncEvents",
    "AsyncForeignMemory",
    "AsyncGuest",
    "AsyncMapping",
    "wait_event",
]
