"""What apps keep: keys and values, with a quota that holds whoever else writes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import show_bytes
from kernel_runtime.domain.errors import Conflict
from kernel_runtime.store.database import Database
from kernel_runtime.store.migrations import STORAGE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

NAME = "storage.db"
#: Bytes that a key takes beside its text and its value.
OVERHEAD = 64
_VALUE = "SELECT value FROM storage WHERE app = ? AND key = ?"
_SET = "INSERT OR REPLACE INTO storage (app, key, value, size, changed) VALUES (?, ?, ?, ?, ?)"
_USE = "INSERT OR REPLACE INTO used (app, bytes) VALUES (?, ?)"


class SqlStorage:
    """``ports.Storage`` on SQLite, in a file of its own. What an app uses is counted with each change, in one
    transaction with it."""

    def __init__(self, directory: Path, patience: float = 5.0) -> None:
        self._database = Database(directory / NAME, patience, STORAGE)

    def get(self, app: str, key: str) -> bytes | None:
        with self._database.reading() as connection:
            row = connection.execute(_VALUE, (app, key)).fetchone()
        return None if row is None else bytes(row[0])

    def set(self, app: str, key: str, value: bytes, quota: int) -> None:
        size = _taken(key, value)
        with self._database.transaction() as connection:
            used = _used(connection, app) - _size(connection, app, key) + size
            if used > quota:
                raise Conflict(f"storage: {show_bytes(used)} would exceed the quota of {show_bytes(quota)}")
            connection.execute(_SET, (app, key, value, size, time.time()))
            connection.execute(_USE, (app, used))

    def delete(self, app: str, key: str) -> bool:
        with self._database.transaction() as connection:
            size = _size(connection, app, key)
            connection.execute("DELETE FROM storage WHERE app = ? AND key = ?", (app, key))
            connection.execute(_USE, (app, _used(connection, app) - size))
        return size > 0

    def keys(self, app: str, prefix: str, after: str, most: int) -> list[str]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT key FROM storage WHERE app = ? AND key > ? AND substr(key, 1, ?) = ? ORDER BY key LIMIT ?",
                (app, after, len(prefix), prefix, most),
            ).fetchall()
        return [key for (key,) in rows]

    def rewrite(self, app: str, change: Callable[[str, bytes], bytes]) -> None:
        """What was there is overwritten with zeros where it was, and leaves the log of the file."""
        with self._database.transaction() as connection:
            connection.execute("PRAGMA secure_delete = ON")
            keys = connection.execute("SELECT key FROM storage WHERE app = ?", (app,)).fetchall()
            used = _used(connection, app)
            for (key,) in keys:
                size = _size(connection, app, key)
                value = change(key, bytes(connection.execute(_VALUE, (app, key)).fetchone()[0]))
                new = _taken(key, value)
                used += new - size
                connection.execute(_SET, (app, key, value, new, time.time()))
            connection.execute(_USE, (app, used))
        self._database.truncate_log()

    def used(self, app: str) -> int:
        with self._database.reading() as connection:
            return _used(connection, app)

    def close(self) -> None:
        self._database.close()


def _taken(key: str, value: bytes) -> int:
    return len(value) + len(key.encode()) + OVERHEAD


def _used(connection: sqlite3.Connection, app: str) -> int:
    row = connection.execute("SELECT bytes FROM used WHERE app = ?", (app,)).fetchone()
    return 0 if row is None else int(row[0])


def _size(connection: sqlite3.Connection, app: str, key: str) -> int:
    row = connection.execute("SELECT size FROM storage WHERE app = ? AND key = ?", (app, key)).fetchone()
    return 0 if row is None else int(row[0])
