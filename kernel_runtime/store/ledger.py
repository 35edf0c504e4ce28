"""Transactions of the platform: counts, secrets and their audit records, committed together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.audit import FIELDS, Entry, Head, Record, sealed
from kernel_runtime.domain.counters import Count
from kernel_runtime.domain.rules import Grant, Span
from kernel_runtime.domain.scopes import Scope, parse_scope
from kernel_runtime.ports import DataKey, Envelope
from kernel_runtime.store.rotation import Rotation

if TYPE_CHECKING:
    import sqlite3

    from kernel_runtime.store.database import Database

_APPEND = f"INSERT INTO audit ({', '.join(FIELDS)}) VALUES ({', '.join('?' * len(FIELDS))})"  # noqa: S608 - names of ours
_HEAD = "SELECT number, hash, latest, revoked FROM audit_head"
_HEARD = "SELECT revoked FROM audit_head"
_NEW_HEAD = "UPDATE audit_head SET number = ?, hash = ?, latest = ?"
_COUNT = "SELECT period, calls, bytes, tokens, at FROM counters WHERE key = ?"
_GRANTED = "SELECT version, principal, scope, place FROM grants WHERE app = ?"
_REVOKED = "SELECT scope FROM revocations WHERE app = ? AND number > ? AND at >= ?"
_REVOKE = "INSERT OR REPLACE INTO revocations (app, scope, number, at) VALUES (?, ?, ?, ?)"
_ENVELOPES = "SELECT name, version, key, wrapped, sealed, created, until FROM secrets"
_DATA_KEYS = "SELECT space, key, wrapped, whole FROM data_keys"
_KEEP_DATA_KEY = "INSERT OR REPLACE INTO data_keys (space, key, wrapped, whole) VALUES (?, ?, ?, ?)"


class SqlLedger:
    """``ports.Ledger`` on SQLite."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.rotation = Rotation(database.path)

    @contextlib.contextmanager
    def turn(self) -> Iterator[SqlTurn]:
        """One transaction; see ``ports.Turn``."""
        with self.database.transaction() as connection:
            turn = SqlTurn(connection)
            before = turn.number
            yield turn
        self.rotation.written(before, turn.number)

    @contextlib.contextmanager
    def look(self) -> Iterator[SqlTurn]:
        """To read only; see ``ports.Ledger``."""
        with self.database.glance() as connection:
            yield SqlTurn(connection)

    def revoked(self) -> int:
        return self.database.number(_HEARD)

    def changes(self) -> int:
        return self.database.changes()


class SqlTurn:
    """``ports.Turn`` on SQLite: lives as long as its transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.counters: Mapping[str, Count] = SqlCounters(connection)
        number, hash_, self.latest, self.revoked = connection.execute(_HEAD).fetchone()
        self._head = Head(number, hash_)

    @property
    def number(self) -> int:
        """Of the last record."""
        return self._head.number

    def append(self, entry: Entry, at: float) -> Record:
        record = sealed(entry, at, self._head)
        self._connection.execute(_APPEND, msgspec.structs.astuple(record))
        self._head, self.latest = Head(record.number, record.hash), max(self.latest, at)
        self._connection.execute(_NEW_HEAD, (record.number, record.hash, self.latest))
        return record

    def count(self, counts: Mapping[str, Count]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO counters (key, period, calls, bytes, tokens, at) VALUES (?, ?, ?, ?, ?, ?)",
            [(key, c.period, c.calls, c.bytes, c.tokens, c.at) for key, c in counts.items()],
        )

    def envelopes(self, name: str = "") -> list[Envelope]:
        where = " WHERE name = ?" if name else ""
        order = f"{_ENVELOPES}{where} ORDER BY name, version"
        rows = self._connection.execute(order, (name,) if name else ()).fetchall()
        return [
            Envelope(name=n, version=v, key=k, wrapped=w, sealed=s, created=c, until=u)
            for n, v, k, w, s, c, u in rows
        ]

    def keep(self, envelope: Envelope) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO secrets (name, version, key, wrapped, sealed, created, until)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            msgspec.structs.astuple(envelope),
        )

    def drop(self, name: str, version: int) -> None:
        self._connection.execute("DELETE FROM secrets WHERE name = ? AND version = ?", (name, version))

    def data_keys(self, space: str = "") -> list[DataKey]:
        where = " WHERE space = ?" if space else ""
        rows = self._connection.execute(_DATA_KEYS + where, (space,) if space else ()).fetchall()
        return [DataKey(space=s, key=k, wrapped=w, whole=bool(done)) for s, k, w, done in rows]

    def keep_data_key(self, key: DataKey) -> None:
        self._connection.execute(_KEEP_DATA_KEY, msgspec.structs.astuple(key))

    def granted(self, app: str) -> list[Grant]:
        rows = self._connection.execute(_GRANTED, (app,)).fetchall()
        return [
            Grant(
                scope=parse_scope(scope),
                app=app,
                version=version,
                principal=principal,
                span=Span.ALWAYS,
                place=place,
            )
            for version, principal, scope, place in rows
        ]

    def grant(self, grant: Grant) -> None:
        row = (grant.app, grant.version, grant.principal, str(grant.scope), grant.place)
        self._connection.execute(
            "INSERT OR REPLACE INTO grants (app, version, principal, scope, place) VALUES (?, ?, ?, ?, ?)",
            row,
        )

    def withdraw(self, app: str, scope: Scope, record: Record) -> None:
        self._connection.execute("DELETE FROM grants WHERE app = ? AND scope = ?", (app, str(scope)))
        self._connection.execute(_REVOKE, (app, str(scope), record.number, self.latest))
        self._connection.execute("UPDATE audit_head SET revoked = ?", (record.number,))
        self.revoked = record.number

    def withdrawn(self, app: str, *, after: int = 0, since: float = 0.0) -> set[Scope]:
        rows = self._connection.execute(_REVOKED, (app, after, since)).fetchall()
        return {parse_scope(scope) for (scope,) in rows}


class SqlCounters(Mapping[str, Count]):
    """The counts of a transaction, read when they are looked at."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getitem__(self, key: str) -> Count:
        row = self._connection.execute(_COUNT, (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return Count(period=row[0], calls=row[1], bytes=row[2], tokens=row[3], at=row[4])

    def __iter__(self) -> Iterator[str]:
        return iter([key for (key,) in self._connection.execute("SELECT key FROM counters")])

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM counters").fetchone()[0])
