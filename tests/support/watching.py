# SPDX-License-Identifier: Apache-2.0
"""A toolstack that checks of each hypercall that no byte of its caller's buffers is read twice.

Hypercall arguments are in memory that the caller can change at any time. A value that is checked in one copy and used
from another is not checked at all (XSA-155).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from privcmdd.model.file_keys import BufferFile
from support.backing import MemoryBacking
from support.tool import Tool

if TYPE_CHECKING:
    from privcmdd.model.file_keys import FileKey


class CountingBacking(MemoryBacking):
    """Remembers which bytes of buffer files were read.

    Attributes:
        fetched: Positions of the bytes that were read.
        twice: Positions of the bytes that were read again. Whoever watches clears both sets first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fetched: set[int] = set()
        self.twice: set[int] = set()

    def read(self, key: FileKey, page: int, offset: int, size: int) -> bytes:
        """Read bytes."""
        if isinstance(key, BufferFile):
            at = page * 4096 + offset
            span = set(range(at, at + size))
            self.twice |= self.fetched & span
            self.fetched |= span
        return super().read(key, page, offset, size)


class WatchingTool(Tool):
    """A toolstack whose every hypercall is checked."""

    n_fetched = 0

    def call(self, op: int, *args: int) -> int:
        """Make a hypercall, and check what it read."""
        backing = self.desk.backing
        assert isinstance(backing, CountingBacking)
        backing.fetched.clear()
        backing.twice.clear()
        ret = super().call(op, *args)
        assert not backing.twice, f"hypercall {op} with {args} reads bytes of its caller twice: {min(backing.twice):#x}"
        self.n_fetched += len(backing.fetched)
        return ret
