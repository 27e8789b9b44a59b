# SPDX-License-Identifier: Apache-2.0
"""The face for trio under its former name, which goes on working; see `privcmd.trio`."""

from privcmd.aio.client import AsyncClient
from privcmd.aio.events import wait_event
from privcmd.aio.foreign import AsyncForeignMemory, AsyncMapping
from privcmd.aio.guest import AsyncGuest
from privcmd.methods import AsyncDomains, AsyncEvents

__all__ = [
    "AsyncClient",
    "AsyncDomains",
    "AsyncEvents",
    "AsyncForeignMemory",
    "AsyncGuest",
    "AsyncMapping",
    "wait_event",
]
