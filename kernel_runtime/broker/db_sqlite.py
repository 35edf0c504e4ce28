"""SQLite for guests. A read grant opens the file read-only, and the authorizer lets nothing but reading be
prepared; a write grant can still attach no file, load nothing and set nothing."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kernel_runtime.broker.db_statements import bound, driver_said, first_word, parse_url
from kernel_runtime.domain.errors import (
    CapabilityDenied,
    Conflict,
    Invalid,
    KernelRuntimeError,
    NotFound,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds to wait for another who writes.
PATIENCE = 5.0
#: One value, or one row in the making; all values of one row, which are here before anybody can weigh them.
MOST_VALUE, MOST_ROW = 32 << 20, 128 << 20
#: What SQLite takes in this process, with all that it sorts and puts aside: on disk nothing would bound that.
MOST_MEMORY = 512 << 20
_STEPS = 10_000
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_NEVER = {
    sqlite3.SQLITE_ATTACH,
    sqlite3.SQLITE_DETACH,
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_SAVEPOINT,
    sqlite3.SQLITE_CREATE_VTABLE,
}
_TELLING = {
    "table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list",
    "function_list", "compile_options",
}  # fmt: skip
_REACHING_OUT = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
#: A denied statement says no more than that; the name of the error is SQLITE_AUTH.
_DENIED = "not authorized"


class Sqlite:
    """A file, by its URL."""

    def __init__(self, url: str) -> None:
        path = parse_url(url).database
        if not path or path == ":memory:" or path.startswith("file:"):
            raise Invalid("a granted SQLite database is a file, like sqlite:////srv/sales.db")
        self._path = os.path.abspath(path)
        from sqlalchemy.dialects import sqlite

        self._dialect = sqlite.dialect(paramstyle="named")

    @contextlib.contextmanager
    def connect(self, *, writes: bool, seconds: float) -> Iterator[_Connection]:
        """See ``Driver``."""
        with _told(writes=writes):
            raw = self._opened(writes=writes, seconds=seconds)
        try:
            with _told(writes=writes):
                yield _Connection(raw, self._dialect, writes=writes, seconds=seconds)
        finally:
            raw.set_authorizer(None)
            raw.close()  # what was not committed is rolled back

    def _opened(self, *, writes: bool, seconds: float) -> sqlite3.Connection:
        if not os.path.isfile(self._path):
            raise NotFound("the database's file is not there")
        raw = sqlite3.connect(
            f"file:{quote(self._path)}?mode={'rw' if writes else 'ro'}",
            uri=True,
            timeout=min(seconds, PATIENCE),
            isolation_level=None,
            check_same_thread=False,
            cached_statements=0,
        )
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_VALUE)
        raw.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        return raw


class _Connection:
    def __init__(self, raw: sqlite3.Connection, dialect: Any, *, writes: bool, seconds: float) -> None:
        self._raw = raw
        self._dialect = dialect
        self._ends = time.monotonic() + seconds
        raw.execute("PRAGMA trusted_schema = OFF")
        raw.execute("PRAGMA temp_store = MEMORY")
        raw.execute(f"PRAGMA hard_heap_limit = {MOST_MEMORY}")
        raw.execute(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
        raw.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        raw.set_authorizer(_may_write if writes else _may_read)
        raw.set_progress_handler(lambda: time.monotonic() > self._ends, _STEPS)

    def execute(self, sql: str, params: dict[str, Any]) -> _Rows:
        """See ``Connection``; sqlite3 itself takes one statement only."""
        statement, values = bound(sql, params, self._dialect)
        if first_word(statement) != "explain":
            widest = MOST_ROW // self._columns(statement, values)
            self._raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(MOST_VALUE, widest))
        return _Rows(self._raw.execute(statement, values))

    def _columns(self, statement: str, values: dict[str, Any]) -> int:
        """Of its rows, as it would be run; it is not."""
        steps = self._raw.execute(f"EXPLAIN {statement}", values)
        return max((step[3] for step in steps if step[1] == "ResultRow"), default=1)

    def commit(self) -> None:
        self._raw.set_authorizer(None)
        self._raw.execute("COMMIT")

    def cancel(self) -> None:
        self._ends = 0.0
        self._raw.interrupt()


class _Rows:
    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self.columns = [column[0] for column in cursor.description or ()]
        self.changed = cursor.rowcount

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._cursor)


def _may_read(action: int, one: str | None, two: str | None, *_: str | None) -> int:
    return _allowed(action in _READING or _is_harmless(action, one, two))


def _may_write(action: int, one: str | None, two: str | None, *_: str | None) -> int:
    if action in (sqlite3.SQLITE_PRAGMA, sqlite3.SQLITE_FUNCTION):
        return _allowed(_is_harmless(action, one, two))
    return _allowed(action not in _NEVER)


def _is_harmless(action: int, one: str | None, two: str | None) -> bool:
    if action == sqlite3.SQLITE_PRAGMA:
        return (one or "").lower() in _TELLING
    return action == sqlite3.SQLITE_FUNCTION and (two or "").lower() not in _REACHING_OUT


def _allowed(allowed: bool) -> int:
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


@contextlib.contextmanager
def _told(*, writes: bool) -> Iterator[None]:
    """Every trouble of SQLite's as one of ours."""
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _explained(error, writes=writes) from None
    except MemoryError:
        raise Conflict(
            f"it takes more than the {MOST_MEMORY >> 20} MiB that there are for databases"
        ) from None


def _explained(error: Exception, *, writes: bool) -> KernelRuntimeError:
    name = getattr(error, "sqlite_errorname", "")
    said = driver_said(error)
    if name in ("SQLITE_AUTH", "SQLITE_READONLY") or _DENIED in said:
        granted = "a write grant reads and writes rows and tables" if writes else "a read grant reads"
        return CapabilityDenied(f"{said}: {granted}, and nothing else")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Conflict(f"the database is locked: somebody else was writing for {PATIENCE:g} s; try again")
    if name == "SQLITE_INTERRUPT":
        return Conflict("it took longer than it may")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FULL")):
        return Conflict(f"the database cannot be used: {said}")
    return Invalid(f"sql: {said}")
