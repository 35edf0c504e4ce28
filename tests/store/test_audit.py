"""The audit log on disk: tampering is told, rotation keeps the chain."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.domain.audit import FIELDS, GENESIS, Entry, Head
from kernel_runtime.domain.errors import StorageFailed
from kernel_runtime.store import audit as audit_store
from kernel_runtime.store import rotation
from kernel_runtime.store.audit import AuditLog
from kernel_runtime.store.database import Database
from kernel_runtime.store.ledger import SqlLedger
from kernel_runtime.store.migrations import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "state" / "state.db")
    yield opened
    opened.close()


@pytest.fixture
def log(database: Database) -> AuditLog:
    """Eight records."""
    append(database, 8)
    return AuditLog(database)


def append(database: Database, count: int) -> None:
    for number in range(count):
        with SqlLedger(database).turn() as turn:
            entry = Entry(
                event="decision", app=f"app-{number % 2}", capability="net", decision="allow", bytes=number
            )
            turn.append(entry, at=100.0 + number)


def tamper(database: Database, *statements: str) -> None:
    """As somebody would who can write the file: without the triggers."""
    connection = sqlite3.connect(database.path)
    for statement in ("DROP TRIGGER audit_is_not_changed", "DROP TRIGGER audit_is_not_deleted", *statements):
        connection.execute(statement)
    connection.commit()
    connection.close()


def told(log: AuditLog, noted: Head | None = None) -> list[str]:
    return [f"{trouble.number}: {trouble.text}" for trouble in log.verify(noted).troubles]


def test_a_whole_log_is_whole(log: AuditLog) -> None:
    report = log.verify()
    assert (report.records, report.archived, report.head.number, report.troubles) == (8, 0, 8, ())


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET app = 'x' WHERE number = 3", "DELETE FROM audit WHERE number = 3"]
)
def test_nothing_of_ours_changes_a_record(database: Database, log: AuditLog, statement: str) -> None:
    with pytest.raises(StorageFailed, match="audit records are not"), database.transaction() as connection:
        connection.execute(statement)
    assert told(log) == []


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["UPDATE audit SET decision = 'deny' WHERE number = 3"], "3: it was altered"),
        (["UPDATE audit SET at = 0 WHERE number = 8"], "8: it was altered"),
        (["DELETE FROM audit WHERE number = 3"], "4: record 3 is missing before it"),
        (["DELETE FROM audit WHERE number <= 2"], "3: records 1 to 2 are missing before it"),
        (["DELETE FROM audit WHERE number > 5"], "5: records 6 to 8 are missing"),
        (["DELETE FROM audit"], "0: records 1 to 8 are missing"),
        (["UPDATE audit SET number = -1 WHERE number = 3", "UPDATE audit SET number = 3 WHERE number = 4",
          "UPDATE audit SET number = 4 WHERE number = -1"], "3: it was altered"),
        (["UPDATE audit_head SET number = 5, hash = (SELECT hash FROM audit WHERE number = 5)"], "8: the end is not the noted one"),
    ],
)  # fmt: skip
def test_what_was_done_to_it_is_told(
    database: Database, log: AuditLog, statements: list[str], said: str
) -> None:
    tamper(database, *statements)
    assert any(line.startswith(said) for line in told(log)), told(log)


def test_a_log_cut_off_with_its_head_is_told_by_a_noted_head(database: Database, log: AuditLog) -> None:
    noted = log.verify().head
    tamper(
        database,
        "DELETE FROM audit WHERE number > 5",
        "UPDATE audit_head SET number = 5, hash = (SELECT hash FROM audit WHERE number = 5)",
    )
    assert told(log) == []
    assert told(log, noted) == [
        f"8: it is not the one that was noted ({noted.hash[:12]}…): the log was rewritten"
    ]


def test_a_noted_head_stays_valid_while_the_log_grows_and_is_archived(
    database: Database, log: AuditLog
) -> None:
    noted = log.verify().head
    append(database, 4)
    assert told(log, noted) == []
    assert log.rotate(2) == 10
    assert told(log, noted) == []
    assert told(log, Head(8, "f" * 64))


def test_rotation_keeps_the_chain(database: Database, log: AuditLog) -> None:
    assert log.rotate(3) == 5
    assert [record.number for record in log.records()] == [6, 7, 8]
    append(database, 2)
    assert log.rotate(1) == 4
    assert log.rotate(1) == 0
    report = log.verify()
    assert (report.records, report.archived, report.troubles) == (1, 9, ())
    assert [record.number for record in log.everything()] == list(range(1, 11))
    assert {path.stat().st_mode & 0o777 for path in log.archive.iterdir()} == {0o400}


def test_everything_may_be_archived(database: Database, log: AuditLog) -> None:
    assert log.rotate(0) == 8
    append(database, 1)
    assert log.verify().troubles == ()
    assert [record.number for record in log.records()] == [9]


def _before_holders(database: Database, count: int) -> None:
    """Records as the release wrote them whose schema had no holder: the chain of then, by hand."""
    connection = sqlite3.connect(database.path)
    previous = GENESIS
    names = [name for name in FIELDS if name not in ("holder", "hash")]
    for number in range(1, count + 1):
        values = ["decision", "ann", "", "old", "1", "net", "x.org", "allow", "a rule", "", 0, 0.0, 0]
        row = [*values, number, 100.0 + number, previous]
        previous = hashlib.sha256(json.dumps(row, separators=(",", ":")).encode()).hexdigest()
        columns, marks = ", ".join([*names, "hash"]), ", ".join("?" * (len(row) + 1))
        connection.execute(f"INSERT INTO audit ({columns}) VALUES ({marks})", [*row, previous])
    connection.execute("UPDATE audit_head SET number = ?, hash = ?", (count, previous))
    connection.commit()
    connection.close()


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[Database]:
    """A log of four records from before there were holders, opened by this release."""
    path = tmp_path / "state" / "state.db"
    old = Database(path, steps=MIGRATIONS[:4])
    _before_holders(old, 4)
    old.close()
    opened = Database(path)
    yield opened
    opened.close()


def test_a_log_of_before_there_were_holders_is_whole_and_goes_on(migrated: Database) -> None:
    log = AuditLog(migrated)
    noted = log.verify().head
    assert (told(log), noted.number) == ([], 4)
    with SqlLedger(migrated).turn() as turn:
        turn.append(Entry(event="decision", app="old", holder="here"), at=200.0)
    assert told(log, noted) == []
    assert [record.number for record in log.records({"app": "old"})] == [1, 2, 3, 4, 5]
    assert [record.number for record in log.records({"holder": "here"})] == [5]
    assert log.rotate(2) == 3
    (archive,) = log.archive.iterdir()
    archive.chmod(0o600)
    archive.write_text(archive.read_text().replace(',"holder":""', ""))  # as that release wrote archives
    assert told(log, noted) == []
    assert [record.holder for record in log.everything()] == ["", "", "", "", "here"]


@pytest.mark.parametrize(
    ("number", "statement"),
    [
        (2, "UPDATE audit SET holder = 'here' WHERE number = 2"),
        (5, "UPDATE audit SET holder = '' WHERE number = 5"),
        (5, "UPDATE audit SET holder = 'there' WHERE number = 5"),
    ],
)
def test_whose_a_record_is_cannot_be_changed(migrated: Database, number: int, statement: str) -> None:
    with SqlLedger(migrated).turn() as turn:
        turn.append(Entry(event="decision", app="old", holder="here"), at=200.0)
    tamper(migrated, statement)
    assert told(AuditLog(migrated)) == [f"{number}: it was altered: its content is not what its hash says"]


def _altered(text: str) -> str:
    return text.replace('"bytes":2', '"bytes":3')


def _cut(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:-1])


def _shuffled(text: str) -> str:
    return "".join(reversed(text.splitlines(keepends=True)))


def _broken(text: str) -> str:
    return text[:-30]


@pytest.mark.parametrize("harm", [_altered, _cut, _shuffled, _broken])
def test_what_was_done_to_an_archive_is_told(log: AuditLog, harm: Callable[[str], str]) -> None:
    log.rotate(3)
    (archive,) = log.archive.iterdir()
    before = archive.read_text()
    archive.chmod(0o600)
    archive.write_text(harm(before))
    assert told(log)
    archive.write_text(before)
    assert told(log) == []


def test_a_missing_archive_is_told(log: AuditLog) -> None:
    log.rotate(3)
    (archive,) = log.archive.iterdir()
    archive.unlink()
    assert told(log)[0].startswith("1: the archive of records 1 to 5")


def test_what_an_interrupted_rotation_left_does_no_harm(log: AuditLog) -> None:
    log.archive.mkdir()
    (log.archive / "audit-000000000001-000000000005.part").write_text("half")
    assert log.rotate(3) == 5
    assert told(log) == []


def test_search(log: AuditLog) -> None:
    assert [record.bytes for record in log.records({"app": "app-1"})] == [1, 3, 5, 7]
    assert [record.bytes for record in log.records(since=104.0)] == [4, 5, 6, 7]
    assert [record.bytes for record in log.records(last=2)] == [6, 7]
    assert list(log.records({"decision": "deny"})) == []
    with pytest.raises(TypeError):
        list(log.records({"hash": "x"}))


def test_who_stops_reading_after_it_was_closed_does_no_harm(database: Database, log: AuditLog) -> None:
    reading = log.records()
    assert next(reading).number == 1
    database.close()
    reading.close()


def test_as_many_as_are_wanted_are_moved_the_oldest_first(log: AuditLog) -> None:
    assert (log.rotate(1, most=3), log.live()) == (3, 5)
    assert [record.number for record in log.records()] == [4, 5, 6, 7, 8]
    assert (log.rotate(1, most=10), log.rotate(1, most=10)) == (4, 0)
    assert log.verify().troubles == ()
    assert log.archives()[0] == 2
    assert log.archives()[1] == sum(path.stat().st_size for path in log.archive.iterdir())


def test_who_writes_does_not_wait_for_an_archive_to_be_written(
    database: Database, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another connection, as another process has one, writes in the middle; the chain goes on."""
    other = Database(database.path, patience=0.0)
    write = audit_store._write_archive

    def while_others_write(*arguments: Any) -> None:
        append(other, 2)
        write(*arguments)

    monkeypatch.setattr(audit_store, "_write_archive", while_others_write)
    assert log.rotate(3) == 5
    report = log.verify()
    assert (report.records, report.archived, report.head.number, report.troubles) == (5, 5, 10, ())
    other.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six records stay, four are an archive, each fifth one looks."""
    for name, amount in {"LIVE": 6, "ARCHIVED": 4, "EVERY": 5}.items():
        monkeypatch.setattr(rotation, name, amount)


def _appended(database: Database, count: int) -> SqlLedger:
    """Each in a transaction of one ledger, and what it began is done."""
    ledger = SqlLedger(database)
    for number in range(count):
        with ledger.turn() as turn:
            turn.append(Entry(event="decision", bytes=number), at=float(number))
        if ledger.rotation.thread is not None:
            ledger.rotation.thread.join()
    return ledger


@pytest.mark.usefixtures("small")
def test_a_log_that_grows_is_archived_by_itself(database: Database) -> None:
    _appended(database, 103)
    log = AuditLog(database)
    report = log.verify()
    assert report.troubles == ()
    assert report.records + report.archived == 103
    assert 6 <= report.records < 6 + 4 + 5
    assert [record.number for record in log.everything()] == list(range(1, 104))


@pytest.mark.usefixtures("small")
def test_a_log_that_has_grown_long_ago_is_archived_in_several(
    database: Database, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(rotation.Rotation, "written", lambda *_: None)
        append(database, 22)
    rotation.Rotation(database.path)._rotate()
    assert (log.live(), log.archives()[0]) == (6, 6)
    assert told(AuditLog(database)) == []


@pytest.mark.usefixtures("small")
def test_a_rotation_that_cannot_be_is_tried_again_and_nothing_is_lost(database: Database) -> None:
    (database.path.parent / "audit").write_text("no directory")
    _appended(database, 30)
    assert AuditLog(database).live() == 30
    (database.path.parent / "audit").unlink()
    _appended(database, 5)
    assert AuditLog(database).live() < 6 + 4 + 5
    assert told(AuditLog(database)) == []


@pytest.mark.usefixtures("small")
def test_what_was_not_committed_rotates_nothing(database: Database, log: AuditLog) -> None:
    ledger = SqlLedger(database)
    with pytest.raises(ZeroDivisionError), ledger.turn() as turn:
        for _ in range(10):
            turn.append(Entry(event="decision"), at=1.0)
        raise ZeroDivisionError
    assert ledger.rotation.thread is None
    assert log.live() == 8
