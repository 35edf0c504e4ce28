"""The SQLite file: private, whole, and clear about what is wrong with it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kernel_runtime.domain.errors import Conflict, Invalid, StorageFailed
from kernel_runtime.store.database import Database, directory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


def test_it_is_for_its_owner_only(path: Path) -> None:
    database = Database(path)
    with database.transaction() as connection:
        connection.execute("INSERT INTO counters VALUES ('k', 0, 0, 0, 0, 0)")
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"state.db", "state.db-wal"} <= modes.keys()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    database.close()


def test_one_that_others_can_read_is_refused(path: Path) -> None:
    Database(path).close()
    path.chmod(0o640)
    with pytest.raises(Invalid, match="chmod 600"):
        Database(path)


def test_a_link_in_its_place_is_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    (tmp_path / "other.db").touch(mode=0o600)
    path.symlink_to(tmp_path / "other.db")
    with pytest.raises(StorageFailed):
        Database(path)


def test_a_transaction_is_whole_or_nothing(path: Path) -> None:
    database = Database(path)
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        connection.execute("INSERT INTO counters VALUES ('k', 0, 0, 0, 0, 0)")
        raise ZeroDivisionError
    with database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM counters").fetchone() == (0,)
    with database.transaction(), pytest.raises(Conflict), database.transaction():
        pass
    database.close()


def test_a_locked_one_is_told(path: Path) -> None:
    database = Database(path, patience=0.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageFailed, match="locked by another process"), database.transaction():
        pass
    other.execute("ROLLBACK")
    with database.transaction():
        pass
    other.close()
    database.close()


def test_a_full_one_is_told(path: Path) -> None:
    database = Database(path)
    with database.reading() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFailed, match="full"), database.transaction() as connection:
        connection.executemany(
            "INSERT INTO counters VALUES (?, 0, 0, 0, 0, 0)", [(f"{n}" * 1000,) for n in range(100)]
        )
    database.close()


def test_a_damaged_one_is_told(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database, but as long as the header of one" * 100)
    path.chmod(0o600)
    with pytest.raises(StorageFailed, match="damaged"):
        Database(path)


def test_a_newer_one_is_left_alone(path: Path) -> None:
    Database(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(Invalid, match="newer kernel_runtime"):
        Database(path)


def test_what_others_wrote_is_noticed(path: Path) -> None:
    mine, theirs = Database(path), Database(path)
    before = mine.changes()
    with theirs.transaction() as connection:
        connection.execute("INSERT INTO counters VALUES ('k', 0, 0, 0, 0, 0)")
    assert mine.changes() != before
    mine.close()
    theirs.close()


def test_where_it_lies() -> None:
    assert directory({"KERNEL_RUNTIME_STATE": "/a", "XDG_STATE_HOME": "/b"}) == Path("/a")
    assert directory({"XDG_STATE_HOME": "/b"}) == Path("/b/kernel-runtime")
    assert directory({}) == Path.home() / ".local/state/kernel-runtime"


def test_no_memory_is_told_and_leaves_nothing_half_done(path: Path) -> None:
    database = Database(path)
    with pytest.raises(StorageFailed, match="no memory"), database.transaction() as connection:
        connection.execute("INSERT INTO counters VALUES ('k', 0, 0, 0, 0, 0)")
        raise MemoryError
    with database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM counters").fetchone() == (0,)
    database.close()
