"""The manifest: which checkpoints there are, and where each chunk lies. SQLite, committed last.

It is in WAL mode with full synchronisation: a commit is one fsync, and readers never wait.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Conflict, Damaged, KernelRuntimeError, StorageFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_VERSION = 1
_BATCH = 500
#: Numbers among which more than this many others lie, for each, are asked for one by one.
_SPARSE = 8
_TABLES = """
CREATE TABLE packs (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, sealed TEXT NOT NULL, size INTEGER NOT NULL);
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, pack INTEGER NOT NULL REFERENCES packs,
    block INTEGER NOT NULL, start INTEGER NOT NULL, size INTEGER NOT NULL);
CREATE INDEX chunks_by_pack ON chunks (pack);
CREATE TABLE checkpoints (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, key TEXT NOT NULL, parent TEXT, sealed TEXT NOT NULL,
    made REAL NOT NULL, size INTEGER NOT NULL, added INTEGER NOT NULL, digest BLOB NOT NULL, record BLOB NOT NULL);
"""


class Manifest:
    """One connection, one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        with _explained(path):
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            try:
                self._prepare(path)
            except BaseException:
                self._db.close()
                raise

    def _prepare(self, path: Path) -> None:
        path.chmod(0o600)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("BEGIN IMMEDIATE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={_VERSION}")
        self._db.execute("COMMIT")
        if version > _VERSION:
            raise Conflict(f"{path} was written by a newer kernel_runtime")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: all of it, or nothing."""
        with self._lock, _explained("the manifest"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def rows(self, query: str, *values: Any) -> list[Any]:
        with self._lock, _explained("the manifest"):
            return self._db.execute(query, values).fetchall()

    def rows_of(self, query: str, keys: Iterable[Any]) -> list[Any]:
        """Rows of a query that ends in ``IN``, for any number of keys."""
        wanted = list(keys)
        found = []
        for start in range(0, len(wanted), _BATCH):
            some = wanted[start : start + _BATCH]
            found += self.rows(f"{query} ({','.join('?' * len(some))})", *some)
        return found

    def sizes_of(self, numbers: set[int]) -> dict[int, int]:
        """Sizes of chunks by number: at least of those of ``numbers`` that are there."""
        if not numbers:
            return {}
        first, last = min(numbers), max(numbers)
        if last - first < _SPARSE * len(numbers):  # a checkpoint's numbers lie together: one query is faster
            return dict(self.rows("SELECT id, size FROM chunks WHERE id BETWEEN ? AND ?", first, last))
        return dict(self.rows_of("SELECT id, size FROM chunks WHERE id IN", numbers))

    def version(self) -> tuple[int, int]:
        """Another one after whatever was written, by this connection or by others."""
        with self._lock:
            return self.rows("PRAGMA data_version")[0][0], self._db.total_changes

    def change(self, statement: str, *values: Any) -> int:
        with self._lock, _explained("the manifest"):
            cursor = self._db.execute(statement, values)
            return cursor.lastrowid or 0

    def change_all(self, statement: str, rows: Iterable[Any]) -> None:
        with self._lock, _explained("the manifest"):
            self._db.executemany(statement, rows)

    def close(self) -> None:
        with self._lock:
            self._db.close()


@contextmanager
def _explained(what: object) -> Iterator[None]:
    """SQLite's errors as this package's."""
    try:
        yield
    except KernelRuntimeError:
        raise
    except sqlite3.OperationalError as error:
        raise StorageFailed(f"{what}: {error}") from None
    except sqlite3.DatabaseError as error:
        raise Damaged(f"{what} cannot be read: {error}") from None
