"""Log records of guests on disk: the newest of each app, for panels and later looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.log import LogRecord, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernel_runtime.store.database import Database

#: Records of one app that are kept, and bytes of what they say.
KEPT, KEPT_BYTES = 50_000, 128 * MIB
#: Of the bytes that may be kept, what is made free at a time beyond the excess: looking for the oldest takes a while.
_SPARE = 16
_INSERT = "INSERT INTO logs (at, app, session, level, message, fields, size) VALUES (?, ?, ?, ?, ?, ?, ?)"
_LIMIT = (
    "DELETE FROM logs WHERE app = ? AND number <= "
    "(SELECT number FROM logs WHERE app = ? ORDER BY number DESC LIMIT 1 OFFSET ?)"
)
_SUM = "SELECT total(size) FROM logs WHERE app = ?"
_LIMIT_BYTES = (
    "DELETE FROM logs WHERE app = ? AND number <= (SELECT max(number) FROM "
    "(SELECT number, sum(size) OVER (ORDER BY number DESC) AS newer FROM logs WHERE app = ?) WHERE newer > ?)"
)
_SELECT = "SELECT number, at, app, session, level, message, fields FROM logs WHERE app = ?"


class SqlLogs:
    """``ports.LogStore`` on SQLite."""

    def __init__(self, database: Database, kept: int = KEPT, kept_bytes: int = KEPT_BYTES) -> None:
        self._database = database
        self._kept = kept
        self._kept_bytes = kept_bytes

    def add(self, records: Sequence[LogRecord]) -> None:
        rows = list(map(_row, records))
        with self._database.transaction() as connection:
            connection.executemany(_INSERT, rows)
            for app in {record.app for record in records}:
                connection.execute(_LIMIT, (app, app, self._kept))
                if connection.execute(_SUM, (app,)).fetchone()[0] > self._kept_bytes:
                    left = self._kept_bytes - self._kept_bytes // _SPARE
                    connection.execute(_LIMIT_BYTES, (app, app, left))

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


def _row(record: LogRecord) -> tuple[object, ...]:
    fields = msgspec.json.encode(record.fields)
    size = len(record.message.encode(errors="surrogatepass")) + len(fields)
    return (record.at, record.app, record.session, str(record.level), record.message, fields.decode(), size)
