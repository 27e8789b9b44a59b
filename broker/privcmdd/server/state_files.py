# SPDX-License-Identifier: Apache-2.0
"""Memory files that outlive the broker: the files of domains lie in a directory, all others are memfds as ever.

A file of the directory cannot be sealed, and a client that makes it shorter has accesses by others end in SIGBUS. So
the descriptors that clients get are opened under a Landlock rule that forbids to change a file's size; the rule stays
with a descriptor wherever it goes (Linux 6.2). Two ways remain: who may open the file himself (root, and the broker's
own user), and fallocate(2) with FALLOC_FL_COLLAPSE_RANGE on file systems that have it (ext4 and XFS, not tmpfs). A file
that became shorter nevertheless gets its size back when the broker next reads it or hands it out.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from privcmdd.model.units import DOMID_FIRST_RESERVED, PAGE_SIZE
from privcmdd.server.host_files import HostFiles
from privcmdd.server.landlock import Opener
from privcmdd.server.memory_files import MODE, label, no_memory

if TYPE_CHECKING:
    from pathlib import Path

    from privcmdd.model.file_keys import FileKey

FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class StateFiles(HostFiles):
    """Memory files and events, the files of domains in a directory.

    Attributes:
        guarded: Whether clients can be kept from changing the size of files.
    """

    def __init__(self, directory: Path) -> None:
        """Use a directory, which is there, for the files of domains."""
        super().__init__()
        self._directory = directory
        self._sizes: dict[FileKey, int] = {}
        self._opener = Opener.of_this_kernel()
        self.guarded = self._opener is not None

    def create(self, key: FileKey, n_pages: int) -> None:
        """As ``MemoryFiles.create``; the file of a domain is made in the directory."""
        if not _stays(key):
            super().create(key, n_pages)
            return
        assert key not in self._fds, key
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)  # a file that could not be removed when its domain ended
            fd = os.open(path, FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as problem:
            raise no_memory(f"no memory file {path}", problem) from problem
        try:
            os.ftruncate(fd, n_pages * PAGE_SIZE)
            os.fchmod(fd, MODE)
        except (OSError, OverflowError) as problem:
            os.close(fd)
            path.unlink()
            raise no_memory(f"a memory file of {n_pages} pages, {path}", problem) from problem
        self._fds[key] = fd
        self._sizes[key] = n_pages * PAGE_SIZE

    def reopen(self, key: FileKey, n_pages: int) -> bool:
        """Open the file of a domain that an earlier broker made. Returns whether it is there."""
        path = self._path(key)
        try:
            path.chmod(0o600)  # a broker that is not root may not open it for writing otherwise
            fd = os.open(path, FLAGS)
        except FileNotFoundError:
            return False
        self._fds[key] = fd
        self._sizes[key] = n_pages * PAGE_SIZE
        os.fchmod(fd, MODE)
        self._lengthen(key)
        return True

    def passed_on(self) -> tuple[dict[int, int], dict[int, tuple[int, int]]]:
        """As ``HostFiles.passed_on``; files of the directory are opened by their paths instead."""
        files, events = super().passed_on()
        return {key: fd for key, fd in files.items() if key not in self._sizes}, events

    def sweep(self) -> None:
        """Remove files that an earlier broker left and that were not opened again."""
        known = {self._path(key) for key in self._sizes}
        for path in self._directory.iterdir():
            if path not in known:
                path.unlink()

    def read(self, key: FileKey, page: int, offset: int, size: int) -> bytes:
        """As ``MemoryFiles.read``; a file that a client made shorter gets its size back first."""
        if key in self._sizes:
            self._lengthen(key)
        return super().read(key, page, offset, size)

    def descriptor(self, key: FileKey, *, writable: bool) -> int:
        """As ``MemoryFiles.descriptor``, but the size of the file of a domain cannot be changed through it."""
        if key in self._sizes:
            self._lengthen(key)
        return super().descriptor(key, writable=writable)

    def close(self, key: FileKey) -> None:
        """Close a file; the file of a domain is removed."""
        super().close(key)
        if self._sizes.pop(key, None) is not None:
            with contextlib.suppress(OSError):  # removed when the number is used again, or at the next start
                self._path(key).unlink()

    def close_all(self) -> None:
        """Close all files; those of domains stay in the directory. Idempotent."""
        while self._sizes:
            key, _ = self._sizes.popitem()
            os.close(self._fds.pop(key))
        if self._opener is not None:
            self._opener.close()
            self._opener = None
        super().close_all()

    def _open_writable(self, path: str) -> int:
        if self._opener is None:
            return super()._open_writable(path)
        return self._opener.open(path, os.O_RDWR | os.O_CLOEXEC)

    def _lengthen(self, key: FileKey) -> None:
        fd, size = self._fds[key], self._sizes[key]
        if os.fstat(fd).st_size < size:
            os.ftruncate(fd, size)

    def _path(self, key: FileKey) -> Path:
        return self._directory / label(key)


def _stays(key: FileKey) -> bool:
    """Whether a file outlives the broker: those of domains do, and the machine's own memory does not."""
    return isinstance(key, int) and key < DOMID_FIRST_RESERVED
