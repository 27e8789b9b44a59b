# SPDX-License-Identifier: Apache-2.0
"""Records in a database: whole transactions, also of a log that was torn, and refusals that change nothing."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.server.state_store import StateStore
from privcmdd.service.keeping import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privcmdd.service.keeping import Records

SIZES = (10, 3_000, 20_000)  # bytes of records: within a page of the database, a page, and many


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "records.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    """An empty one."""
    made = StateStore(str(path))
    yield made
    made.close()
    made.close()


def stages(store: StateStore) -> list[Records]:
    """Make some commits. Returns the records before the first, and after each."""
    found: list[Records] = [store.load()]
    for number in range(12):
        changed: dict[tuple[int, str], bytes | None] = {
            (number % 3 + 1, f"part/{size}"): bytes([number]) * size for size in SIZES
        }
        changed[0, "machine"] = b"%d" % number
        if number > 6:
            changed[number % 3 + 1, f"part/{SIZES[0]}"] = None
        store.commit(changed)
        found.append(store.load())
    return found


def test_what_is_committed_is_there_when_the_database_is_opened_again(path: Path) -> None:
    """New values in place of old ones, and nothing of what was forgotten."""
    store = StateStore(str(path))
    found = stages(store)
    store.close()

    again = StateStore(str(path))

    assert again.load() == found[-1]
    assert found[-1][0] == {"machine": b"11"}
    again.close()


def test_c8_a_torn_log_loses_whole_commits_and_never_a_part_of_one(path: Path, tmp_path: Path) -> None:
    """Promise C8: the log cut at any place, or damaged there, leaves the records as they were after some commit."""
    store = StateStore(str(path))
    store.tidy()
    found = stages(store)
    log = Path(f"{path}-wal").read_bytes()
    base = path.read_bytes()
    store.close()
    seen = set()
    for cut in [*range(0, len(log), 509), len(log)]:
        for damage in (log[:cut], log[:cut] + b"\xa5" * 64 + log[cut + 64 :]):
            torn = tmp_path / "torn"
            shutil.rmtree(torn, ignore_errors=True)
            torn.mkdir()
            (torn / path.name).write_bytes(base)
            (torn / f"{path.name}-wal").write_bytes(damage)
            left = StateStore(str(torn / path.name))
            records = left.load()
            left.close()
            assert records in found, f"cut at {cut}"
            seen.add(found.index(records))

    assert seen == set(range(len(found)))


def test_d1_a_full_disk_is_enospc_and_changes_nothing(store: StateStore) -> None:
    """Promise D1: the commit is refused whole, those before it stay, and there is a next one when there is room."""
    store.commit({(1, "domain"): b"old", (2, "domain"): b"other"})
    database = store._database
    ((n_pages,),) = database.execute("PRAGMA page_count")
    database.execute(f"PRAGMA max_page_count = {n_pages}")
    before = store.load()

    with pytest.raises(ModelError, match=r"cannot be kept in .*records.sqlite .*full.*nothing is changed") as refused:
        store.commit({(1, "domain"): b"new", (2, "domain"): None, (3, "part/0"): bytes(100_000)})

    assert refused.value.errno == errno.ENOSPC
    assert store.load() == before
    database.execute("PRAGMA max_page_count = 1000000")
    store.commit({(1, "domain"): b"new", (2, "domain"): None, (3, "part/0"): bytes(100_000)})
    assert store.load() == {1: {"domain": b"new"}, 3: {"part/0": bytes(100_000)}}


def test_d1_any_other_failure_is_eio_and_changes_nothing(store: StateStore, path: Path) -> None:
    """Promise D1: as when another program holds the database for longer than we wait."""
    store.commit({(1, "domain"): b"old"})
    store._database.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(ModelError, match="locked") as refused:
            store.commit({(1, "domain"): b"new"})
    finally:
        other.execute("ROLLBACK")
        other.close()

    assert refused.value.errno == errno.EIO
    assert store.load() == {1: {"domain": b"old"}}
    store.commit({(1, "domain"): b"new"})
    assert store.load() == {1: {"domain": b"new"}}


def test_a_damaged_database_is_refused_and_named(path: Path) -> None:
    """Whatever is wrong with it, before anything is served."""
    store = StateStore(str(path))
    stages(store)
    store.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 6] = b"\xa5" * 4096 * 4
    path.write_bytes(data)

    with pytest.raises(StateError, match=r"records\.sqlite is damaged|records\.sqlite cannot be opened"):
        StateStore(str(path)).load()


def test_what_is_no_database_is_refused(path: Path) -> None:
    """Somebody else's file is left as it is."""
    path.write_bytes(b"a diary" * 1000)

    with pytest.raises(StateError, match=r"records\.sqlite cannot be opened: file is not a database"):
        StateStore(str(path))

    assert path.read_bytes() == b"a diary" * 1000


def test_the_log_is_moved_into_the_database(store: StateStore, path: Path) -> None:
    """After ``tidy`` the log is used from its beginning: it does not grow for ever."""
    found = stages(store)[-1]
    size = Path(f"{path}-wal").stat().st_size
    assert store.n_commits
    for _ in range(20):
        store.tidy()
        assert store.n_commits == 0
        stages(store)

    assert Path(f"{path}-wal").stat().st_size < 2 * size
    assert store.load() == found
