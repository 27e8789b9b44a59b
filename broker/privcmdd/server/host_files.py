# SPDX-License-Identifier: Apache-2.0
"""All that the broker uses of the host that it runs on: memory files and events."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from privcmdd.model.units import PAGE_SIZE
from privcmdd.server.event_files import EventFiles
from privcmdd.server.memory_files import MemoryFiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privcmdd.model.file_keys import FileKey


class HostFiles(MemoryFiles, EventFiles):
    """Memory files and events: all of ``service.backing.Backing``."""

    def __init__(self) -> None:
        MemoryFiles.__init__(self)
        EventFiles.__init__(self)

    def adopt(self, files: Mapping[int, int], events: Mapping[int, tuple[int, int]]) -> None:
        """Take over memory files and events that another broker has passed on, as descriptors."""
        for key, fd in files.items():
            self._fds[key] = fd
        self._adopt_events(events)

    def passed_on(self) -> tuple[dict[int, int], dict[int, tuple[int, int]]]:
        """What ``adopt`` takes: the files of domains and of the machine's own memory, and all events."""
        return {key: fd for key, fd in self._fds.items() if isinstance(key, int)}, dict(self._events)

    def reopen(self, key: FileKey, n_pages: int) -> bool:  # noqa: ARG002 - see state_files.py
        """Return whether there is such a file: one that is a memfd can only have been passed on by another broker."""
        return key in self._fds

    def sweep(self) -> None:
        """Do nothing: an earlier broker has left no file."""

    def filled(self, key: FileKey) -> list[tuple[int, int]]:
        """Return the runs of pages that the host has memory for, as first page and number of pages."""
        runs = []
        fd, end = self._fds[key], 0
        with contextlib.suppress(OSError):  # ENXIO: there is no more data
            while True:
                start = os.lseek(fd, end, os.SEEK_DATA)
                end = os.lseek(fd, start, os.SEEK_HOLE)
                first = start // PAGE_SIZE
                runs.append((first, -(-end // PAGE_SIZE) - first))
        return runs

    def close_all(self) -> None:
        """Close all files and events. Idempotent."""
        super().close_all()
        self.close_all_events()
