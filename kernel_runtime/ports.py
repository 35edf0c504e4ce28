"""The interfaces between rooms of one floor: what the broker needs of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from kernel_runtime.domain.audit import Entry, Record
    from kernel_runtime.domain.counters import Count


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a secret, sealed. ``key``: which master key wraps its own key. Times are
    seconds since 1970; ``until``: when an older version ends (``None``: it is the current one)."""

    name: str
    version: int
    key: str
    wrapped: bytes
    sealed: bytes
    created: float
    until: float | None = None


class Turn(Protocol):
    """One transaction: everything done in it is committed together, or nothing is."""

    @property
    def counters(self) -> Mapping[str, Count]: ...

    @property
    def latest(self) -> float:
        """The latest time that was ever recorded."""

    def append(self, entry: Entry, at: float) -> Record:
        """Add a record to the audit log."""

    def count(self, counts: Mapping[str, Count]) -> None:
        """Replace counts."""

    def envelopes(self, name: str = "") -> list[Envelope]:
        """Sealed versions, of one secret or all; by name and version."""

    def keep(self, envelope: Envelope) -> None:
        """Add or replace one version."""

    def drop(self, name: str, version: int) -> None:
        """Destroy one version."""


class Ledger(Protocol):
    """The state that decisions depend on, with the log of what was decided."""

    def turn(self) -> AbstractContextManager[Turn]:
        """Begin a transaction; ``StoreUnavailable`` when it cannot be begun or committed."""

    def changes(self) -> int:
        """A number that changes when another process has written."""
