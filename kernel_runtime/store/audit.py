"""The audit log as it is read: search, verification, archives. It is written in ``ledger``."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.audit import FIELDS, GENESIS, Head, Record, Trouble, check_chain
from kernel_runtime.domain.errors import StorageFailed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from kernel_runtime.store.database import Database

_COLUMNS = ", ".join(FIELDS)
_SEARCHED = ("app", "capability", "decision", "event", "holder", "principal", "tenant")
_BATCH = 1000
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found. ``head``: to be noted elsewhere, and given to the next one."""

    records: int
    archived: int
    head: Head
    troubles: tuple[Trouble, ...]


class AuditLog:
    """The log in a database, and the archives beside it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.archive = database.path.parent / "audit"

    def records(
        self, equal: Mapping[str, str] | None = None, *, since: float = 0.0, last: int | None = None
    ) -> Iterator[Record]:
        """Records still in the database, the oldest first; ``equal``: fields and what they are to be;
        ``last``: only so many, the newest."""
        equal = equal or {}
        unknown = set(equal) - set(_SEARCHED)
        if unknown:
            raise TypeError(f"records are searched by {_SEARCHED}, not {unknown}")
        where = " AND ".join(["at >= ?", *(f"{name} = ?" for name in equal)])
        query = f"SELECT {_COLUMNS} FROM audit WHERE {where} ORDER BY number"  # noqa: S608 - names of ours
        values: list[object] = [since, *equal.values()]
        if last is not None:
            query = f"SELECT * FROM ({query} DESC LIMIT ?) ORDER BY number"  # noqa: S608 - names of ours
            values.append(last)
        with self._database.reading() as connection:
            yield from _rows(connection, query, values)

    def everything(self) -> Iterator[Record]:
        """All records, archives first."""
        with self._database.reading() as connection:
            for _, _, _, file in _segments(connection):
                yield from _read_archive(self.archive / file)
            yield from _rows(connection, f"SELECT {_COLUMNS} FROM audit ORDER BY number", [])  # noqa: S608 - names of ours

    def verify(self, noted: Head | None = None) -> Report:
        """Check every record, archive and link; ``noted``: a head that an earlier verification gave."""
        troubles: list[Trouble] = []
        with self._database.reading() as connection:
            number, hash_, _ = connection.execute("SELECT number, hash, latest FROM audit_head").fetchone()
            start, archived = Head(), 0
            for first, last, last_hash, file in _segments(connection):
                end = Head(last, last_hash)
                troubles += self._verify_archive(file, first, start, end, noted)
                archived, start = archived + last - first + 1, end
            end = Head(number, hash_)
            live = _rows(connection, f"SELECT {_COLUMNS} FROM audit ORDER BY number", [])  # noqa: S608 - names of ours
            noting = _Noting(live, noted)
            troubles += check_chain(noting, start, end)
            records = noting.count
            if noted is not None and noted.number > start.number and not noting.seen:
                troubles.append(_not_noted(noted))
        return Report(records=records, archived=archived, head=end, troubles=tuple(troubles))

    def _verify_archive(
        self, file: str, first: int, start: Head, end: Head, noted: Head | None
    ) -> Iterator[Trouble]:
        noting = _Noting(_read_archive(self.archive / file), noted)
        try:
            yield from check_chain(noting, start, end)
        except StorageFailed as error:
            yield Trouble(first, f"the archive of records {first} to {end.number}: {error}")
        else:
            if noted is not None and first <= noted.number <= end.number and not noting.seen:
                yield _not_noted(noted)

    def live(self) -> int:
        """Records in the database."""
        with self._database.reading() as connection:
            number = connection.execute("SELECT number FROM audit_head").fetchone()[0]
            return int(number - _archived(connection))

    def archives(self) -> tuple[int, int]:
        """How many there are, and their bytes."""
        try:
            sizes = [path.stat().st_size for path in self.archive.glob("audit-*.jsonl")]
        except OSError as error:
            raise StorageFailed(f"{self.archive} cannot be read: {error.strerror or error}") from None
        return len(sizes), sum(sizes)

    def rotate(self, keep: int, most: int | None = None) -> int:
        """Move all but the newest ``keep`` records, ``most`` of them, into an archive; how many were moved.

        The archive is on disk before its records leave the database. The chain goes on through it. While it is
        written others may write to the log.
        """
        with _alone(self.archive) as directory:
            records = self._oldest(keep, most)
            if not records:
                return 0
            first, end = records[0].number, records[-1]
            file = f"audit-{first:012}-{end.number:012}.jsonl"
            _write_archive(self.archive / file, records)
            os.fsync(directory)
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT INTO audit_segments VALUES (?, ?, ?, ?)", (first, end.number, end.hash, file)
                )
                connection.execute("DELETE FROM audit WHERE number <= ?", (end.number,))
        return len(records)

    def _oldest(self, keep: int, most: int | None) -> list[Record]:
        with self._database.reading() as connection:
            number = connection.execute("SELECT number FROM audit_head").fetchone()[0]
            query = f"SELECT {_COLUMNS} FROM audit WHERE number <= ? ORDER BY number LIMIT ?"  # noqa: S608 - names of ours
            return list(_rows(connection, query, [number - keep, -1 if most is None else most]))


class _Noting:
    """Records going by, counted, and whether the noted head was among them."""

    def __init__(self, records: Iterator[Record], noted: Head | None) -> None:
        self._records = records
        self._noted = noted
        self.count = 0
        self.seen = noted is not None and noted == Head(0, GENESIS)

    def __iter__(self) -> Iterator[Record]:
        for record in self._records:
            self.count += 1
            self.seen = self.seen or self._noted == Head(record.number, record.hash)
            yield record


def _not_noted(noted: Head) -> Trouble:
    return Trouble(
        noted.number, f"it is not the one that was noted ({noted.hash[:12]}…): the log was rewritten"
    )


def _archived(connection: sqlite3.Connection) -> int:
    """The last number that is in an archive."""
    return int(connection.execute("SELECT coalesce(max(last), 0) FROM audit_segments").fetchone()[0])


def _segments(connection: sqlite3.Connection) -> list[tuple[int, int, str, str]]:
    return connection.execute("SELECT first, last, hash, file FROM audit_segments ORDER BY first").fetchall()


def _rows(connection: sqlite3.Connection, query: str, values: list[object]) -> Iterator[Record]:
    cursor = connection.execute(query, values)
    while rows := cursor.fetchmany(_BATCH):
        for row in rows:
            yield Record(**dict(zip(FIELDS, row, strict=True)))


def _read_archive(path: Path) -> Iterator[Record]:
    try:
        with path.open("rb") as file:
            for line in file:
                yield _decoder.decode(line)
    except OSError as error:
        raise StorageFailed(f"{path.name} cannot be read: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise StorageFailed(f"{path.name} is damaged: {error}") from None


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[int]:
    """The directory of archives, made if it is not there, while nobody else rotates."""
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise StorageFailed(f"{place} cannot be used: {error.strerror or error}") from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield directory
    finally:
        os.close(directory)


def _write_archive(path: Path, records: list[Record]) -> None:
    """Whole and on disk, or not there. One left by a rotation that was not committed is replaced."""
    temporary = path.with_suffix(".part")
    try:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(temporary, flags, 0o400), "wb") as file:
            file.writelines(_encoder.encode(record) + b"\n" for record in records)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written: {error.strerror or error}") from None
