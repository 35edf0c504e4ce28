"""Input history in SQLite, in IPython's tables, so that IPython's own tools read it.

Opened at the first use, written after the reply is out, bounded in rows and in text. A file
that is no database is moved aside, with a message on the kernel's stderr.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

MEMORY = ":memory:"
MAX_SOURCE = 1024 * 1024
MAX_ROWS = 100_000
MAX_ANSWER = 10_000
_TABLES = """
CREATE TABLE IF NOT EXISTS sessions (session integer primary key autoincrement,
    start timestamp, end timestamp, num_cmds integer, remark text);
CREATE TABLE IF NOT EXISTS history (session integer, line integer, source text, source_raw text,
    PRIMARY KEY (session, line));
CREATE TABLE IF NOT EXISTS output_history (session integer, line integer, output text,
    PRIMARY KEY (session, line));
"""
Row = tuple[int, int, Any]


class Question(msgspec.Struct):
    """Content of a ``history_request``."""

    hist_access_type: str = "tail"
    output: bool = False
    raw: bool = True
    session: int | None = 0
    start: int | None = 0
    stop: int | None = None
    n: int | None = None
    pattern: str | None = None
    unique: bool = False


class History:
    """The history of all kernels of this person, and this kernel's session in it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None
        self._session = 0
        self._waiting: list[tuple[int, str]] = []
        self._written = 0

    def add(self, line: int, source: str) -> None:
        """Remember an input; it is written by the next ``write`` or question."""
        self._waiting.append((line, source[:MAX_SOURCE]))

    def write(self) -> None:
        """Write what waits; trouble with the file never reaches a cell."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        self._guarded(lambda db: self._insert(db, waiting), None)

    def ask(self, question: Question) -> list[Row]:
        """The rows a ``history_request`` asks for, oldest first, at most 10 000."""
        self.write()
        kinds = {"tail": self._tail, "range": self._range, "search": self._search}
        find = kinds.get(question.hist_access_type)
        if find is None:
            return []
        rows: list[Row] = self._guarded(lambda db: find(db, question), [])
        return rows

    def close(self) -> None:
        """Write, note the session's end, close."""
        self.write()
        if self._db is None:
            return
        self._guarded(self._end, None)
        self._db.close()
        self._db = None

    def _guarded(self, action: Any, otherwise: Any) -> Any:
        """Run ``action`` on the database; a broken file is moved aside and tried once again."""
        import sqlite3

        for _ in range(2):
            try:
                if self._db is None:
                    self._db = self._open(sqlite3)
                return action(self._db)
            except (sqlite3.OperationalError, OSError) as error:  # locked, read-only, full: not corrupt
                _say(f"history is not kept: {error} ({self.path})")
                self._forget(MEMORY)
            except sqlite3.DatabaseError as error:
                self._move_aside(error)
        return otherwise

    def _open(self, sqlite: Any) -> sqlite3.Connection:
        if self.path != MEMORY:
            Path(self.path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        db: sqlite3.Connection = sqlite.connect(self.path, timeout=0.2)
        db.executescript(_TABLES)
        with db:
            started = datetime.now().isoformat(" ")
            row = db.execute("INSERT INTO sessions VALUES (NULL, ?, NULL, NULL, '')", (started,))
            self._session = row.lastrowid or 0
        return db

    def _insert(self, db: sqlite3.Connection, waiting: list[tuple[int, str]]) -> None:
        rows = [(self._session, line, source, source) for line, source in waiting]
        with db:
            db.executemany("INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?)", rows)
            self._written += len(rows)
            if self._written % 1000 < len(rows):
                self._thin(db)

    def _thin(self, db: sqlite3.Connection) -> None:
        db.execute(
            "DELETE FROM history WHERE rowid NOT IN (SELECT rowid FROM history"
            " ORDER BY session DESC, line DESC LIMIT ?)",
            (MAX_ROWS,),
        )

    def _end(self, db: sqlite3.Connection) -> None:
        with db:
            db.execute(
                "UPDATE sessions SET end=?, num_cmds=? WHERE session=?",
                (datetime.now().isoformat(" "), self._written, self._session),
            )

    def _tail(self, db: sqlite3.Connection, question: Question) -> list[Row]:
        n = _bounded(question.n, 10)
        return _rows(db, question, "ORDER BY session DESC, line DESC LIMIT ?", (n,))[::-1]

    def _range(self, db: sqlite3.Connection, question: Question) -> list[Row]:
        session, start = question.session or 0, question.start or 0
        session = session + self._session if session <= 0 else session
        last = db.execute("SELECT max(line) FROM history WHERE session=?", (session,)).fetchone()[0] or 0
        stop = question.stop or last + 1
        start, stop = (n + last + 1 if n < 0 else n for n in (start, stop))
        where = "WHERE session=? AND line>=? AND line<? ORDER BY line LIMIT ?"
        return _rows(db, question, where, (session, start, stop, MAX_ANSWER))

    def _search(self, db: sqlite3.Connection, question: Question) -> list[Row]:
        where = "WHERE history.source_raw GLOB ?"
        if question.unique:
            where += " GROUP BY history.source_raw"
        where += " ORDER BY session DESC, line DESC LIMIT ?"
        values = (question.pattern or "*", _bounded(question.n, MAX_ANSWER))
        return _rows(db, question, where, values)[::-1]

    def _move_aside(self, error: Exception) -> None:
        aside = f"{self.path}.corrupt-{int(time.time())}"
        with suppress(OSError):
            Path(self.path).rename(aside)
            _say(f"the history {self.path} cannot be read ({error}); it was moved to {aside}")
        self._forget(self.path if not Path(self.path).exists() else MEMORY)

    def _forget(self, path: str) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None
        self.path = path


def _rows(db: sqlite3.Connection, question: Question, where: str, values: tuple[Any, ...]) -> list[Row]:
    column = "source_raw" if question.raw else "source"
    latest = ", max(session * 131072 + line)" if question.unique and "GROUP BY" in where else ""
    if question.output:
        query = f"SELECT session, line, {column}, output{latest} FROM history"  # noqa: S608 - our own words
        query += " LEFT JOIN output_history USING (session, line) "
        return [(row[0], row[1], (row[2], row[3])) for row in _run(db, query + where, values)]
    query = f"SELECT session, line, {column}{latest} FROM history "  # noqa: S608 - our own words
    return [(row[0], row[1], row[2]) for row in _run(db, query + where, values)]


def _run(db: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> Iterable[tuple[Any, ...]]:
    return db.execute(query, values)


def _bounded(n: int | None, otherwise: int) -> int:
    return min(max(otherwise if n is None else n, 0), MAX_ANSWER)


def _say(text: str) -> None:
    print(f"kernel_runtime: {text}", file=sys.stderr)
