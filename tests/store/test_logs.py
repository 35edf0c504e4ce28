"""Log records of guests on disk: of each app the newest, bounded by their number and by what they say."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.log import LogRecord, Severity
from kernel_runtime.store.database import Database
from kernel_runtime.store.logs import SqlLogs
from kernel_runtime.store.migrations import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "state.db")
    yield opened
    opened.close()


def record(text: str, app: str = "app", **fields: str) -> LogRecord:
    return LogRecord(number=0, at=1.0, level=Severity.INFO, message=text, fields=fields, app=app)


def messages(logs: SqlLogs, app: str = "app") -> list[str]:
    return [found.message[:1] for found in logs.records(app)]


def test_beyond_the_bytes_of_an_app_its_oldest_go(database: Database) -> None:
    logs = SqlLogs(database, kept_bytes=3200)
    logs.add([record("x" * 3000, app="other")])
    for letter in "abcdef":
        logs.add([record(letter * 1000)])
        held = database._connection.execute("SELECT total(size) FROM logs WHERE app = 'app'").fetchone()[0]
        assert held <= 3200
    assert messages(logs) == [
        "e",
        "f",
    ]  # a sixteenth is left free, so that not every record looks for the oldest
    assert messages(logs, "other") == ["x"]


def test_bytes_count_as_they_lie_there_and_fields_with_them(database: Database) -> None:
    logs = SqlLogs(database, kept_bytes=10_000)
    for letter in ("a", "ä", "\U0001f600"):
        logs.add([record(letter * 1000, more="y" * 2000)])
    assert messages(logs) == ["\U0001f600"]
    logs.add([record("z")])
    assert messages(logs) == ["\U0001f600", "z"]


def test_a_burst_that_is_more_than_all_leaves_its_newest(database: Database) -> None:
    logs = SqlLogs(database, kept_bytes=5000)
    logs.add([record("abcdefgh"[number % 8] * 1000) for number in range(80)])
    assert messages(logs) == ["e", "f", "g", "h"]


def test_records_from_before_count_too(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    Database(path, steps=MIGRATIONS[:4]).close()
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO logs (at, app, session, level, message, fields) VALUES (1, 'app', '', 'info', ?, '{}')",
            [("o" * 4000,), ("p" * 4000,)],
        )
    connection.close()
    opened = Database(path)
    logs = SqlLogs(opened, kept_bytes=6000)
    logs.add([record("n")])
    assert messages(logs) == ["p", "n"]
    opened.close()
