"""The SQLite file: opened privately, migrated, written in whole transactions."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Conflict, Invalid, StorageFailed
from kernel_runtime.store.migrations import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME = "state.db"
_PATIENCE = 5.0


def directory(environment: Mapping[str, str]) -> Path:
    """Where state is kept: ``KERNEL_RUNTIME_STATE``, or the person's state directory."""
    if chosen := environment.get("KERNEL_RUNTIME_STATE"):
        return Path(chosen)
    state = environment.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "kernel-runtime"


class Database:
    """One connection. Transactions of several threads and processes take turns; one that waits
    longer than ``patience`` seconds gets ``StorageFailed``."""

    def __init__(
        self, path: Path, patience: float = _PATIENCE, steps: tuple[tuple[str, ...], ...] = MIGRATIONS
    ) -> None:
        self.path = path
        self._steps = steps
        self._lock = threading.RLock()
        self._closed = False
        self._explained = _Explained(path)
        _make_private(path)
        with self._explained:
            self._connection = sqlite3.connect(
                path, timeout=patience, isolation_level=None, check_same_thread=False, cached_statements=64
            )
        try:
            with self._explained:
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def wait_at_most(self, seconds: float) -> None:
        """Change the patience: who must not hold others up asks again instead."""
        with self._lock, self._explained:
            self._connection.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._closed = True
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that may write; all of it is committed, or nothing."""
        with self._lock, self._explained:
            self._refuse_nesting()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view, whatever others write meanwhile."""
        with self._lock, self._explained:
            self._refuse_nesting()
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._roll_back()

    @contextlib.contextmanager
    def glance(self) -> Iterator[sqlite3.Connection]:
        """For one query, or several that need no common view: each sees what is committed when it is made."""
        with self._lock, self._explained:
            self._refuse_nesting()
            yield self._connection

    def changes(self) -> int:
        """A number that changes when another connection has written."""
        return self.number("PRAGMA data_version")

    def number(self, query: str) -> int:
        """The one number that a query gives."""
        with self._lock, self._explained:
            return int(self._connection.execute(query).fetchone()[0])

    def truncate_log(self) -> None:
        """Move what the write-ahead log holds into the file, and empty it, as far as readers let that happen."""
        with self._lock, self._explained:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _refuse_nesting(self) -> None:
        if self._connection.in_transaction:
            raise Conflict("a transaction of this store is open already")

    def _roll_back(self) -> None:
        """SQLite may have done it by itself (a full disk, say); a closed one has nothing to take back."""
        if not self._closed and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _prepare(self) -> None:
        # WAL with NORMAL: a crash of this process loses nothing, a power failure perhaps the last
        # transactions; what is left is whole, and the chain of the audit log with it.
        for pragma in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "trusted_schema = OFF",
            "foreign_keys = ON",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        if self._version() < len(self._steps):
            with self.transaction() as connection:
                for number in range(self._version(), len(self._steps)):
                    for statement in self._steps[number]:
                        connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {len(self._steps)}")
        if self._version() > len(self._steps):
            raise Invalid(f"{self.path} was written by a newer kernel_runtime: update this one")

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])


class _Explained:
    """What goes wrong within it is told as ``StorageFailed``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise StorageFailed(f"{self._path}: {_cause(error)}: {error}") from error
        # SQLite's own, when a guest's query takes all that it may in this process.
        if isinstance(error, MemoryError):
            raise StorageFailed(f"{self._path}: no memory is left for it") from error


def _cause(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    causes = {
        "SQLITE_BUSY": "locked by another process",
        "SQLITE_LOCKED": "locked by another process",
        "SQLITE_FULL": "full: the disk or the file has no room",
        "SQLITE_CORRUPT": "damaged",
        "SQLITE_NOTADB": "damaged, or no database",
        "SQLITE_READONLY": "not writable",
        "SQLITE_CANTOPEN": "cannot be opened",
        "SQLITE_CONSTRAINT": "refused",
    }
    found = [text for word, text in causes.items() if name.startswith(word)]
    return found[0] if found else "not usable"


def _make_private(path: Path) -> None:
    """Make the file, for its owner only; ``Invalid`` when others can get at it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        status = os.fstat(descriptor)
        os.close(descriptor)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be opened: {error.strerror or error}") from None
    if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
        raise Invalid(f"{path}: the state is to be a file of your own")
    if status.st_mode & 0o077:
        raise Invalid(f"{path}: others can read or write this state; chmod 600 {path}")
