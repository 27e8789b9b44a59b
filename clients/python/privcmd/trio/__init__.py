# SPDX-License-Identifier: Apache-2.0
"""The face for trio: the same names as the blocking one, to be awaited.

Cancellation: a call that is cancelled before it is sent has not happened. A call that is cancelled after it is sent
may happen; its answer is dropped when it comes, and the connection goes on. A call that is cancelled when only a part
of it is sent ends the connection. To make or replace a mapping cannot be cancelled half way: once sent, it runs to its
end (a dead broker ends it with `BrokerGone`), except while it waits for paged-out frames; then everything is undone.
"""

from privcmd._methods import AsyncDomains, AsyncEvents
from privcmd.trio._client import AsyncClient
from privcmd.trio._events import wait_event
from privcmd.trio._foreign import AsyncForeignMemory, AsyncMapping
from privcmd.trio._guest import AsyncGuest

__all__ = [
    "AsyncClient",
    "AsyncDomains",
    "AsyncEvents",
    "AsyncForeignMemory",
    "AsyncGuest",
    "AsyncMapping",
    "wait_event",
]
