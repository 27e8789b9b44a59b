# SPDX-License-Identifier: Apache-2.0
"""The keys of memory files: a domain's is its domid, each other kind has a type of its own.

They stand apart from ``files``, which needs numpy: who only makes and opens files answers before numpy is there.
"""

from __future__ import annotations

from typing import NamedTuple


class SharedFile(NamedTuple):
    """The key of the file of one allocation of shared pages (gntalloc).

    Attributes:
        number: Of the allocation.
        what: Always the same; it makes the key unequal to every key of another kind.
    """

    number: int
    what: str = "shared"


class BufferFile(NamedTuple):
    """The key of a file of hypercall buffers.

    Attributes:
        number: Of the address space that the file was made for.
    """

    number: int


FileKey = int | BufferFile | SharedFile
