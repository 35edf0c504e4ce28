"""Log records of guests on disk: the newest of each app, for panels and later looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.log import LogRecord, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernel_runtime.store.database import Database

#: Records of one app that are kept.
KEPT = 50_000
_INSERT = "INSERT INTO logs (at, app, session, level, message, fields) VALUES (?, ?, ?, ?, ?, ?)"
_LIMIT = (
    "DELETE FROM logs WHERE app = ? AND number <= "
    "(SELECT number FROM logs WHERE app = ? ORDER BY number DESC LIMIT 1 OFFSET ?)"
)
_SELECT = "SELECT number, at, app, session, level, message, fields FROM logs WHERE app = ?"


class SqlLogs:
    """``ports.LogStore`` on SQLite."""

    def __init__(self, database: Database, kept: int = KEPT) -> None:
        self._database = database
        self._kept = kept

    def add(self, records: Sequence[LogRecord]) -> None:
        rows = [
            (r.at, r.app, r.session, str(r.level), r.message, msgspec.json.encode(r.fields).decode())
            for r in records
        ]
        with self._database.transaction() as connection:
            connection.executemany(_INSERT, rows)
            for app in {record.app for record in records}:
                connection.execute(_LIMIT, (app, app, self._kept))

    def records(self, app: str, *, session: str = "", newest: int = 1000) -> list[LogRecord]:
        where, arguments = _SELECT, [app]
        if session:
            where, arguments = f"{where} AND session = ?", [app, session]
        with self._database.reading() as connection:
            rows = connection.execute(
                f"{where} ORDER BY number DESC LIMIT ?", (*arguments, newest)
            ).fetchall()
        return [
            LogRecord(
                number=number,
                at=at,
                app=name,
                session=of,
                level=Severity(level),
                message=message,
                fields=msgspec.json.decode(fields, type=dict[str, str]),
            )
            for number, at, name, of, level, message, fields in reversed(rows)
        ]
