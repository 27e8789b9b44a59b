# SPDX-License-Identifier: Apache-2.0
"""A mapping of guest frames: real memory with the buffer protocol, and an error for each frame."""

from __future__ import annotations

import errno
import mmap
from array import array
from typing import TYPE_CHECKING, Self

from privcmd import _mman as mman
from privcmd.errors import FrameError, PrivcmdError

if TYPE_CHECKING:
    from collections.abc import Callable

_MAP_NORESERVE = 0x4000
_NO_FRAME = 2**64 - 1


class BaseMapping(mmap.mmap):
    """Guest frames in this process's memory; made by ``ForeignMemory.map``, not by a call of this class.

    It is an :class:`mmap.mmap`, so it has slices, ``len``, ``find``, and works with :mod:`struct` and
    ``memoryview``; what is written is in the guest, and in every other process that maps the frame, at once.
    A mapping made with PROT_READ is read-only (TypeError). Touching a page whose frame failed kills the
    process with SIGBUS; look at ``errors``, or use ``page``.

    Attributes:
        address: Its address, here and in the broker's model of this process.
        prot: The ``PROT_*`` bits that it was made with.
        domid: The domain that was last mapped into it; None before the first.
        owners: The domain of each page, where one was mapped.
        gfns: The frame of each page, as asked for (mfns of a PV domain); 2^64-1 where none was mapped yet.
        errors: For each page 0 or a negative errno: -EINVAL, -ENOENT (paged out), -ESRCH, ...
    """

    address: int
    prot: int
    domid: int | None
    owners: array[int]
    gfns: array[int]
    errors: array[int]
    _leave: Callable[[BaseMapping], None]

    def __new__(cls, n_pages: int, prot: int, leave: Callable[[BaseMapping], None]) -> Self:
        """Reserve the addresses; ``leave`` is called when the object is collected without having been closed."""
        if not prot & (mmap.PROT_READ | mmap.PROT_WRITE):
            raise PrivcmdError(errno.EINVAL, f"prot {prot:#x} allows neither reading nor writing")
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        try:
            self = super().__new__(cls, -1, n_pages * mman.PAGE_SIZE, flags=flags, prot=prot)
        except OSError as error:
            raise PrivcmdError(
                error.errno or errno.ENOMEM, f"no room to reserve {n_pages} pages of addresses"
            ) from error
        self.address = mman.address_of(self)
        self.prot = prot
        self.domid = None
        self.owners = array("H", bytes(2 * n_pages))
        self.gfns = array("Q", b"\xff" * (8 * n_pages))
        self.errors = array("i", bytes(4 * n_pages))
        self._leave = leave
        mman.forbid_fork(self.address, len(self))
        mman.guard_after_fork(self)
        return self

    @property
    def n_pages(self) -> int:
        """Pages of 4096 bytes."""
        return len(self.gfns)

    def page(self, index: int) -> memoryview:
        """A view of one page, writable if the mapping is; the view keeps the mapping open.

        Raises:
            FrameError: The page has no frame; with the frame's errno.
            IndexError: There is no such page.
        """
        if not 0 <= index < len(self.errors):
            raise IndexError(f"page {index} of {len(self.errors)}")
        number = -self.errors[index]
        if number or self.gfns[index] == _NO_FRAME:
            frame = self.gfns[index]
            raise FrameError(
                number or errno.EFAULT,
                f"page {index} has no frame: mapping frame {frame:#x} of domain {self.domid} failed"
                if number
                else f"page {index} has no frame: none was mapped there yet",
                {"index": index, "frame": frame, "dom": self.domid},
            )
        start = index * mman.PAGE_SIZE
        with memoryview(self) as whole:
            return whole[start : start + mman.PAGE_SIZE]

    def spans(self) -> list[tuple[int, int, int]]:
        """Runs of pages that frames of one domain were mapped to: the domain, the first page, the number of pages."""
        found: list[tuple[int, int, int]] = []
        for page, (owner, gfn) in enumerate(zip(self.owners, self.gfns, strict=True)):
            if gfn == _NO_FRAME:
                continue
            if found and found[-1][0] == owner and sum(found[-1][1:]) == page:
                found[-1] = (owner, found[-1][1], found[-1][2] + 1)
            else:
                found.append((owner, page, 1))
        return found

    def resize(self, newsize: int) -> None:
        """Refuse: a mapping of guest memory cannot be resized.

        Raises:
            PrivcmdError: ENOTSUP, always.
        """
        raise PrivcmdError(errno.ENOTSUP, f"a mapping of frames has no other size, not even {newsize}")

    def close(self) -> None:
        """Unmap here; the broker is told with the next request. Idempotent.

        Raises:
            BufferError: A view of the mapping is still in use; nothing was done.
        """
        self.unmap_here()

    def unmap_here(self) -> None:
        """Do the part of `close` that concerns this process; the face that made the mapping does the rest."""
        if not self.closed:
            super().close()
            self._leave(self)

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Before the memory is unmapped, so that the next mapping of these addresses comes later in the queue.
        if hasattr(self, "_leave") and not self.closed:
            self._leave(self)

    def __repr__(self) -> str:
        if self.closed:
            return f"<{type(self).__name__} closed>"
        n_failed = sum(map(bool, self.errors))
        return (
            f"<{type(self).__name__} of domain {self.domid} at {self.address:#x}: {self.n_pages} pages, "
            f"{n_failed} failed>"
        )
