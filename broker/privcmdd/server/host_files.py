# SPDX-License-Identifier: Apache-2.0
"""All that the broker has of the host it runs on: memory and events."""

from __future__ import annotations

from privcmdd.server.events import EventFiles
from privcmdd.server.memory import MemoryFiles


class HostFiles(MemoryFiles, EventFiles):
    """Memory files and events, as ``service.backing.Backing`` asks for them."""

    def __init__(self) -> None:
        MemoryFiles.__init__(self)
        EventFiles.__init__(self)

    def close_all(self) -> None:
        """Close all files and events. Idempotent."""
        super().close_all()
        self.close_all_events()
