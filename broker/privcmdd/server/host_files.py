# SPDX-License-Identifier: Apache-2.0
"""All that the broker uses of the host that it runs on: memory files and events."""

from __future__ import annotations

from privcmdd.server.event_files import EventFiles
from privcmdd.server.memory_files import MemoryFiles


class HostFiles(MemoryFiles, EventFiles):
    """Memory files and events: all of ``service.backing.Backing``."""

    def __init__(self) -> None:
        MemoryFiles.__init__(self)
        EventFiles.__init__(self)

    def close_all(self) -> None:
        """Close all files and events. Idempotent."""
        super().close_all()
        self.close_all_events()
