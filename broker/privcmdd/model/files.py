# SPDX-License-Identifier: Apache-2.0
"""Hypercall buffers: which pages of an address space's buffer file are mapped.

The bytes of a hypercall's arguments lie in a file that the caller and the hypervisor share. A process and the
children it forks share one, as they share such pages on Linux (drivers/xen/privcmd-buf.c); a page is in use as
long as a map entry of any of them has it.
"""

from __future__ import annotations

import errno
from typing import Final

import numpy as np

from privcmdd.model.errors import ModelError

# The size of a buffer file: arrays for 16 million frames and as much again. It is sparse.
N_PAGES: Final = 65_536


class BufferPages:
    """The pages of one buffer file.

    Attributes:
        number: Of the address space that it was made for; never used twice.
        n_spaces: Address spaces that share it.
    """

    __slots__ = ("_users", "n_spaces", "number")

    def __init__(self, number: int, n_pages: int = N_PAGES) -> None:
        self.number = number
        self.n_spaces = 1
        self._users = np.zeros(n_pages, dtype=np.uint16)

    def find(self, n_pages: int) -> int:
        """The first of ``n_pages`` unused pages in a row.

        Raises:
            ModelError: ENOMEM.
        """
        used = np.flatnonzero(self._users)
        starts = np.concatenate(([0], used + 1))
        room = np.append(used, len(self._users)) - starts
        fits = np.flatnonzero(room >= n_pages)
        if not len(fits):
            raise ModelError(
                errno.ENOMEM,
                f"no {n_pages} pages in a row are free among the {len(self._users)} for hypercall buffers; unmap some",
                key="len",
            )
        return int(starts[fits[0]])

    def hold(self, page: int, n_pages: int) -> None:
        """An entry has these pages."""
        self._users[page : page + n_pages] += 1

    def release(self, page: int, n_pages: int) -> None:
        """An entry has these pages no more."""
        self._users[page : page + n_pages] -= 1

    def unused(self, runs: list[tuple[int, int]]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """Those pages of runs (first page, number of pages) that nobody has."""
        free = [np.flatnonzero(self._users[page : page + n_pages] == 0) + page for page, n_pages in runs]
        return np.concatenate(free).astype(np.uint32)
