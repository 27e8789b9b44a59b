# SPDX-License-Identifier: Apache-2.0
"""Records in an SQLite database: a transaction is kept whole or not at all, wherever the broker or the host dies.

The database is in WAL mode. A commit is a write of the log to the kernel, without a wait for the disk: what is
committed outlives the broker, however it dies. When the host itself dies, the last commits may be missing; those that
are there are whole, because each part of the log has a checksum. What the log has is moved into the database beside the
loop that serves (``tidy``).
"""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.service.keeping import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privcmdd.service.keeping import Records

# How long to wait for another program that reads the database just now.
BUSY_S: Final = 1.0
SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS record (dom INTEGER, name TEXT, data BLOB NOT NULL, PRIMARY KEY (dom, name))"
)
PUT: Final = "INSERT INTO record VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data"
FORGET: Final = "DELETE FROM record WHERE dom = ? AND name = ?"


class StateStore:
    """One database; ``close`` it.

    Attributes:
        n_commits: Commits since the log was last moved into the database.
    """

    def __init__(self, path: str) -> None:
        """Open a database, or make it.

        Raises:
            StateError: It cannot be opened, or it is damaged.
        """
        self._path = path
        self.n_commits = 0
        try:
            self._database = _connect(path)
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = NORMAL")  # in WAL mode: only ``tidy`` waits for the disk
                self._database.execute("PRAGMA wal_autocheckpoint = 0")
                self._database.execute(SCHEMA)
                ((verdict,),) = self._database.execute("PRAGMA quick_check(1)")
            except BaseException:
                self._database.close()
                raise
        except sqlite3.Error as problem:
            raise StateError(f"{path} cannot be opened: {problem}") from problem
        if verdict != "ok":
            self._database.close()
            raise StateError(f"{path} is damaged: {verdict}")

    def load(self) -> Records:
        """All records.

        Raises:
            StateError: They cannot be read.
        """
        found: Records = {}
        try:
            for dom, name, data in self._database.execute("SELECT dom, name, data FROM record"):
                found.setdefault(dom, {})[name] = data
        except sqlite3.Error as problem:
            raise StateError(f"{self._path} cannot be read: {problem}") from problem
        return found

    def commit(self, changed: Mapping[tuple[int, str], bytes | None]) -> None:
        """Keep new records, and forget those that are None; all of this or nothing.

        Raises:
            ModelError: ENOSPC, the disk is full; EIO, anything else. Nothing has changed.
        """
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            try:
                database.executemany(PUT, [(*key, data) for key, data in changed.items() if data is not None])
                database.executemany(FORGET, [key for key, data in changed.items() if data is None])
                database.execute("COMMIT")
                self.n_commits += 1
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
        except sqlite3.Error as problem:
            full = problem.sqlite_errorcode == sqlite3.SQLITE_FULL
            raise ModelError(
                errno.ENOSPC if full else errno.EIO,
                f"the state cannot be kept in {self._path} ({problem}), so nothing is changed",
            ) from problem

    def tidy(self) -> None:
        """Move what the log has into the database, in a connection of its own: it may be called from another thread.

        Raises:
            OSError: The disk does not take it; the log keeps it.
        """
        self.n_commits = 0
        try:
            beside = _connect(self._path)
            try:
                beside.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            finally:
                beside.close()
        except sqlite3.Error as problem:
            raise OSError(errno.EIO, f"{self._path}: {problem}") from problem

    def close(self) -> None:
        """Close the database. Idempotent."""
        self._database.close()


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
