# SPDX-License-Identifier: Apache-2.0
"""The keys of memory files: the key of a domain's file is its domid, each other kind of file has a type of its own.

The keys stand apart from ``files``, which needs numpy: code that only makes and opens files runs before numpy is
imported.
"""

from __future__ import annotations

from typing import NamedTuple


class SharedFile(NamedTuple):
    """The key of the file of one allocation of shared pages (gntalloc).

    Attributes:
        number: The number of the allocation.
        what: Always the same text; it makes the key unequal to every key of another kind.
    """

    number: int
    what: str = "shared"


class BufferFile(NamedTuple):
    """The key of a file of hypercall buffers.

    Attributes:
        number: The number of the address space that the file was made for.
    """

    number: int


FileKey = int | BufferFile | SharedFile
