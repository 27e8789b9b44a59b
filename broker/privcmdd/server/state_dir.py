# SPDX-License-Identifier: Apache-2.0
"""The directory in which a broker keeps its state (``server.state_dir``): records, memory files, a lock.

One broker at a time keeps its state in a directory: it holds the lock of the file ``lock``, which ends with its
process. Nobody but the broker's own user may look into the directory.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.server.state_files import StateFiles
from privcmdd.server.state_store import StateStore
from privcmdd.service.keeping import StateError

LOCK: Final = "lock"
RECORDS: Final = "records.sqlite"
MEMORY: Final = "memory"


class StateDir:
    """A directory that this process keeps its state in; ``close`` it.

    Attributes:
        path: The directory.
        store: Its records.
        files: Memory files and events; the files of domains are in the directory.
    """

    def __init__(self, path: str, lock: int = -1) -> None:
        """Take possession of a directory; it is made, for us alone (0700), when it is missing.

        Args:
            path: The directory.
            lock: The descriptor that holds its lock, passed on by the broker that has kept its state there so far; -1:
                nobody does.

        Raises:
            StateError: Another broker has it; it is no place for us; its file system cannot give pages back; its
                records are damaged.
        """
        self.path = Path(path)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _own(self.path, lock)
        except OSError as problem:
            raise _unusable(path, problem.strerror or str(problem)) from problem
        self.files = StateFiles(self.path / MEMORY)
        try:
            (self.path / MEMORY).mkdir(mode=0o700, exist_ok=True)
            self._try_out()
            self.store = StateStore(str(self.path / RECORDS))
        except (OSError, ModelError, StateError) as problem:
            self.files.close_all()
            os.close(self._lock)
            raise _unusable(path, getattr(problem, "strerror", None) or str(problem)) from problem

    def _try_out(self) -> None:
        """Try whether pages of a file here can be given back: a new frame must not show what another one held.

        Raises:
            OSError: EOPNOTSUPP, the file system cannot do that.
            ModelError: It takes no file.
        """
        files = self.files
        files.create(0, 1)
        try:
            files.write(0, 0, 0, b"\1")
            files.discard(0, np.zeros(1, dtype=np.uint32))
            if files.read(0, 0, 0, 1) != b"\0":
                raise OSError(errno.EOPNOTSUPP, "its file system cannot give pages of a file back")
        finally:
            files.close(0)

    @property
    def lock(self) -> int:
        """The descriptor that holds the lock."""
        return self._lock

    def close(self) -> None:
        """Let another process have the directory. The files are closed already. Idempotent."""
        if self._lock >= 0:
            self.store.close()
            os.close(self._lock)
            self._lock = -1


def _own(path: Path, lock: int) -> int:
    """Become the owner of a directory. Returns the descriptor that holds the lock."""
    if lock < 0:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    except BlockingIOError:
        owner = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        os.close(lock)
        raise _unusable(str(path), f"process {owner} keeps its state there") from None
    except OSError:
        os.close(lock)
        raise
    return lock


def _unusable(path: str, why: str) -> StateError:
    return StateError(f"the state cannot be kept in {path} (server.state_dir): {why}")
