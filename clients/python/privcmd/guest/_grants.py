# SPDX-License-Identifier: Apache-2.0
"""A guest's grant table, version 1, as the guest writes it (xen/include/public/grant_table.h)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mmap

PERMIT_ACCESS = 1
READ_ONLY = 4
READING = 8
WRITING = 16
FLAGS = struct.Struct("<H")
MAPPER_AND_FRAME = struct.Struct("<HI")
ENTRY_BYTES = 8
ENTRIES_PER_PAGE = 512


class GrantEntry:
    """One entry of a page of the table."""

    def __init__(self, page: mmap.mmap, ref: int) -> None:
        self._page = page
        self._at = ref % ENTRIES_PER_PAGE * ENTRY_BYTES

    @property
    def flags(self) -> int:
        """The entry's flags as they are now; Xen changes them when the page is mapped."""
        return int(FLAGS.unpack_from(self._page, self._at)[0])

    @property
    def in_use(self) -> bool:
        """Whether the page is mapped: then the grant must not be ended."""
        return bool(self.flags & (READING | WRITING))

    def permit(self, gfn: int, mapper: int, *, readonly: bool) -> None:
        """Grant a frame. The flags are written last: they make the grant valid."""
        MAPPER_AND_FRAME.pack_into(self._page, self._at + 2, mapper, gfn)
        FLAGS.pack_into(self._page, self._at, PERMIT_ACCESS | (READ_ONLY if readonly else 0))

    def end(self) -> None:
        """End the grant."""
        FLAGS.pack_into(self._page, self._at, 0)
