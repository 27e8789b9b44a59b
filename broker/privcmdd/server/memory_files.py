# SPDX-License-Identifier: Apache-2.0
"""Memory files: a memfd for each domain, and one for the hypercall buffers of each process that has buffers.

The broker makes every file and maps none, so no client's change of a file can raise SIGBUS here.
The size is sealed, and the seals are sealed. The mode is 0400: a client that was given a read-only
descriptor and runs as another user cannot open the file again for writing through /proc. (Root can, and so
can the broker's own user, who may change the mode: they can also ptrace the broker.)

Each descriptor that is handed out is an open file of its own: flags that a client sets on it (O_APPEND moves each
pwrite(2) to the end) hold for nobody else.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.file_keys import SharedFile
from privcmdd.model.units import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from privcmdd.model.file_keys import FileKey

# linux/memfd.h and linux/falloc.h; Python has no names for these.
MFD_NOEXEC_SEAL: Final = 0x0008
FALLOC_FL_KEEP_SIZE: Final = 0x01
FALLOC_FL_PUNCH_HOLE: Final = 0x02

MODE: Final = 0o400
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class MemoryFiles:
    """The memory files: the part of ``service.backing.Backing`` that is about them."""

    def __init__(self) -> None:
        self._fds: dict[FileKey, int] = {}
        # Kernels before 6.3 do not know MFD_NOEXEC_SEAL.
        self._flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL
        self._fallocate = ctypes.CDLL(None, use_errno=True).fallocate
        self._fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

    def create(self, key: FileKey, n_pages: int) -> None:
        """Make a file: sparse, sealed, readable by the owner.

        Raises:
            ModelError: ENOMEM, the kernel refuses: the file is too large, or no descriptor is left.
        """
        assert key not in self._fds, key
        try:
            fd = self._memfd(f"privcmdd-{label(key)}")
        except OSError as problem:
            raise no_memory(f"no memory file for {label(key)}", problem) from problem
        try:
            os.ftruncate(fd, n_pages * PAGE_SIZE)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
            os.fchmod(fd, MODE)
        except (OSError, OverflowError) as problem:
            os.close(fd)
            raise no_memory(f"a memory file of {n_pages} pages for {label(key)}", problem) from problem
        self._fds[key] = fd

    def descriptor(self, key: FileKey, *, writable: bool) -> int:
        """Return a new descriptor of the file, which the caller owns and closes.

        Raises:
            ModelError: ENOMEM, no descriptor is left.
        """
        fd = self._fds[key]
        try:
            if not writable:
                return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
            os.fchmod(fd, 0o600)
            try:
                return self._open_writable(f"/proc/self/fd/{fd}")
            finally:
                os.fchmod(fd, MODE)
        except OSError as problem:
            raise no_memory(f"no descriptor of the memory of {label(key)}", problem) from problem

    def _open_writable(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def read(self, key: FileKey, page: int, offset: int, size: int) -> bytes:
        """Read ``size`` bytes from byte ``offset`` of file page ``page``."""
        data = os.pread(self._fds[key], size, page * PAGE_SIZE + offset)
        assert len(data) == size, "the range was checked against the file, whose size is sealed"
        return data

    def write(self, key: FileKey, page: int, offset: int, data: bytes | memoryview) -> None:
        """Write ``data`` at byte ``offset`` of file page ``page``.

        Raises:
            ModelError: ENOMEM, the host has no page left for it.
        """
        try:
            n_written = os.pwrite(self._fds[key], data, page * PAGE_SIZE + offset)
        except OSError as problem:
            raise no_memory(f"no memory for {len(data)} bytes of {label(key)}", problem) from problem
        assert n_written == len(data), "a memory file takes all or fails"

    def discard(self, key: FileKey, pages: npt.NDArray[np.uint32]) -> None:
        """Give pages back to the host, with a system call for each run of pages; they read as zeros afterwards.

        It works when no memory is left: then each page is a run.

        Raises:
            MemoryError: The kernel has no memory for it now; to give pages back twice does no harm.
        """
        try:
            runs = list(_runs(pages))
        except MemoryError:
            runs = [(page, 1) for page in pages.tolist()]
        fd = self._fds[key]
        for first, n_pages in runs:
            failed = self._fallocate(
                fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first * PAGE_SIZE, n_pages * PAGE_SIZE
            )
            if failed:
                number = ctypes.get_errno()
                if number == errno.ENOMEM:
                    raise MemoryError  # for the moment: it is carried out again
                raise OSError(number, f"fallocate: {os.strerror(number)}")

    def close(self, key: FileKey) -> None:
        """Close a file."""
        os.close(self._fds.pop(key))

    def close_all(self) -> None:
        """Close all files. Idempotent."""
        while self._fds:
            self.close(next(iter(self._fds)))

    def _memfd(self, name: str) -> int:
        try:
            return os.memfd_create(name, self._flags)
        except OSError as problem:
            if problem.errno != errno.EINVAL or not self._flags & MFD_NOEXEC_SEAL:
                raise
            self._flags &= ~MFD_NOEXEC_SEAL
            return os.memfd_create(name, self._flags)


def label(key: FileKey) -> str:
    """The name of a file, in /proc and in messages."""
    if isinstance(key, int):
        return f"domain-{key}"
    return f"{'shared' if isinstance(key, SharedFile) else 'buffers'}-{key.number}"


def no_memory(what: str, problem: Exception) -> ModelError:
    """ENOMEM, because the host has refused something."""
    return ModelError(errno.ENOMEM, f"{what}: {getattr(problem, 'strerror', None) or problem}")


def _runs(pages: npt.NDArray[np.uint32]) -> Iterator[tuple[int, int]]:
    """Yield each run of page numbers, as first page and number of pages. Numbers may be in any order and repeated."""
    ordered = pages.copy()
    ordered.sort()
    last = [*(ordered[1:] - ordered[:-1] > 1).nonzero()[0].tolist(), len(ordered) - 1]
    first = 0
    for end in last if len(ordered) else ():
        yield int(ordered[first]), int(ordered[end]) - int(ordered[first]) + 1
        first = end + 1
