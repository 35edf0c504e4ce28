"""Audit records and their chain: each record carries the hash of the one before it.

Whoever alters, deletes, reorders or cuts off records and cannot rewrite all that follow is told by
``check_chain``. Whoever can rewrite everything is told only by a head that was noted elsewhere.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GENESIS = "0" * 64
#: What an entry may be of: a request decided, what came of it, a person's answer, a grant in advance, one taken back,
#: and what was done beside any decision.
EVENTS = ("decision", "performed", "answered", "granted", "revoked", "changed")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What happened. ``event``: one of ``EVENTS``. ``capability`` and ``resource``: kind
    and the rest of the scope. ``of``: the number of the decision that this performed. ``holder``: which
    of the apps that call themselves ``app`` (``Manifest.holder``); empty where no app is meant."""

    event: str
    principal: str = ""
    tenant: str = ""
    app: str = ""
    version: str = ""
    capability: str = ""
    resource: str = ""
    decision: str = ""
    rule: str = ""
    reason: str = ""
    bytes: int = 0
    duration: float = 0.0
    of: int = 0
    holder: str = ""


class Record(Entry, frozen=True, kw_only=True):
    """An entry in the log: ``number`` from 1, ``at`` seconds since 1970, hashes in hex."""

    number: int
    at: float
    previous: str
    hash: str


class Head(msgspec.Struct, frozen=True):
    """The end of the log: number and hash of its last record."""

    number: int = 0
    hash: str = GENESIS

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


class Trouble(msgspec.Struct, frozen=True):
    """What is wrong with the log, at which record."""

    number: int
    text: str


FIELDS = Record.__struct_fields__
_HOLDER = FIELDS.index("holder")


def sealed(entry: Entry, at: float, head: Head) -> Record:
    """The record that follows ``head``."""
    own = [*msgspec.structs.astuple(entry), head.number + 1, at, head.hash]
    return Record(**dict(zip(FIELDS, [*own, _hash(own)], strict=True)))


def hash_of(record: Record) -> str:
    """SHA-256 over all but the hash itself, in one fixed form."""
    return _hash(list(msgspec.structs.astuple(record)[:-1]))


def _hash(values: list[object]) -> str:
    """Records of before there were holders were hashed without one, and so is each that has none."""
    if not values[_HOLDER]:
        values = [*values[:_HOLDER], *values[_HOLDER + 1 :]]
    return hashlib.sha256(msgspec.json.encode(values)).hexdigest()


def check_chain(records: Iterable[Record], start: Head, end: Head | None) -> Iterator[Trouble]:
    """Every break between ``start`` and ``end`` (``None``: wherever the records end)."""
    last = start
    for record in records:
        if record.hash != hash_of(record):
            yield Trouble(record.number, "it was altered: its content is not what its hash says")
        if record.number <= last.number:
            yield Trouble(record.number, f"it stands after number {last.number}: reordered or repeated")
        elif record.number != last.number + 1:
            yield Trouble(record.number, f"{_missing(last.number + 1, record.number - 1)} before it")
        elif record.previous != last.hash:
            yield Trouble(record.number, "it does not follow from the record before it")
        last = Head(record.number, record.hash)
    if end is not None and end != last:
        text = (
            _missing(last.number + 1, end.number)
            if end.number > last.number
            else "the end is not the noted one"
        )
        yield Trouble(last.number, f"{text}: the log should end with {end.number}:{end.hash[:12]}…")


def _missing(first: int, last: int) -> str:
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
