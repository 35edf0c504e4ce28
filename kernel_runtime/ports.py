"""The interfaces between rooms of one floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from kernel_runtime.domain.audit import Entry, Record
    from kernel_runtime.domain.checkpoint import About, Checkpoint, Freed, Group, Quota, Retention
    from kernel_runtime.domain.counters import Count
    from kernel_runtime.domain.log import LogRecord
    from kernel_runtime.domain.question import Question
    from kernel_runtime.domain.rules import Grant, Span
    from kernel_runtime.domain.scopes import Scope


class CheckpointWriter(Protocol):
    """One checkpoint on its way into a store: nothing of it is visible before ``commit``.

    What it is given comes from a guest: ``ProtocolViolation`` for a chunk or a group that is not
    what it says, or that names a chunk that never came; ``StorageFailed`` when the quota is used up
    or the disk does not take it. After an error nothing of it is kept.
    """

    seed: int

    def known(self) -> bytes:
        """Digests of the chunks that the parent has, one after another; asked for once, before the first chunk."""

    def add(self, digests: bytes, chunks: list[memoryview]) -> None:
        """Keep chunks under the names the guest gave them."""

    def group(self, group: Group) -> None:
        """A group; each of its chunks has been added or is known."""

    def skip(self, name: str, reason: str) -> None:
        """A variable that is not inside, and why."""

    def commit(self, about: About) -> Checkpoint:
        """Make it durable and visible, at once."""

    def abort(self) -> None:
        """Forget it; harmless after ``commit``."""


class CheckpointStore(Protocol):
    """Checkpoints, kept. Threads may use one store; a writer belongs to one thread at a time."""

    def begin(
        self, key: str, *, parent: str | None = None, label: str = "", quota: Quota | None = None
    ) -> CheckpointWriter:
        """A writer for the session or notebook ``key``; chunks of ``parent`` (None: the newest of
        the key; "": none) need not come again.
        """

    def checkpoints(self, key: str | None = None) -> list[Checkpoint]:
        """What is kept, newest first."""

    def checkpoint(self, name: str, own: str = "") -> Checkpoint:
        """By id, by label (the newest of the key ``own``; else of the only key that has one), or by the beginning of
        an id; ``NotFound`` says what there is, ``Conflict`` which ones it could be.
        """

    def groups(self, identity: str) -> list[Group]:
        """The groups of a checkpoint, number 0 first."""

    def read(self, identity: str, number: int, part: int) -> Iterator[bytes]:
        """The content of one part of a group; ``Damaged`` when it is not what was written."""

    def remove(self, identity: str) -> None:
        """Forget a checkpoint; ``prune`` frees what only it used."""

    def prune(
        self, retention: Retention, clock: Callable[[], float] | None = None, key: str | None = None
    ) -> Freed:
        """Remove what retention lets go (of ``key``, or of each), and free what nothing refers to."""

    def close(self) -> None:
        """Let go of files; harmless twice."""


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


class DataKey(msgspec.Struct, frozen=True, kw_only=True):
    """What seals the data of one app. ``space``: whose; ``key``: which master key wraps it. ``whole``: nothing of
    that app lies in the open any more."""

    space: str
    key: str
    wrapped: bytes
    whole: bool = False


class Turn(Protocol):
    """One transaction: everything done in it is committed together, or nothing is."""

    @property
    def counters(self) -> Mapping[str, Count]: ...

    @property
    def latest(self) -> float:
        """The latest time that was ever recorded."""

    @property
    def revoked(self) -> int:
        """The number of the record of the newest revocation, whichever app's; 0: there was none."""

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

    def data_keys(self, space: str = "") -> list[DataKey]:
        """Of one app (one, or none), or of all."""

    def keep_data_key(self, key: DataKey) -> None:
        """Add or replace one."""

    def granted(self, app: str) -> list[Grant]:
        """What a person granted an app always, whichever version and principal it was for."""

    def grant(self, grant: Grant) -> None:
        """Remember one, for one app, version and principal."""

    def withdraw(self, app: str, scope: Scope, record: Record) -> None:
        """Forget what an app was granted of exactly this scope, and note that, for sessions that go on."""

    def withdrawn(self, app: str, *, after: int = 0, since: float = 0.0) -> set[Scope]:
        """What was taken back from an app: by a record behind number ``after``, no earlier than ``since``."""


class Ledger(Protocol):
    """The state that decisions depend on, with the log of what was decided."""

    def turn(self) -> AbstractContextManager[Turn]:
        """Begin a transaction; ``StorageFailed`` when it cannot be begun or committed."""

    def look(self) -> AbstractContextManager[Turn]:
        """The same, to read only: nobody waits for it, and it waits for nobody who writes."""

    def revoked(self) -> int:
        """See ``Turn.revoked``, at the price of one small query."""

    def changes(self) -> int:
        """A number that changes when another process has written."""


class LogStore(Protocol):
    """Log records of guests, kept: of each app the newest."""

    def add(self, records: Sequence[LogRecord]) -> None:
        """Keep them, in their order; ``StorageFailed`` when that is not possible now."""

    def records(self, app: str, *, session: str = "", newest: int = 1000) -> list[LogRecord]:
        """The newest, oldest first."""


class Storage(Protocol):
    """What apps keep. Threads may use it."""

    def get(self, app: str, key: str) -> bytes | None:
        """The value, or None."""

    def set(self, app: str, key: str, value: bytes, quota: int) -> None:
        """Keep it; ``Conflict`` when all that the app keeps would take more than ``quota`` bytes."""

    def delete(self, app: str, key: str) -> bool:
        """Forget it; whether it was there."""

    def keys(self, app: str, prefix: str, after: str, most: int) -> list[str]:
        """In order, those after ``after``."""

    def rewrite(self, app: str, change: Callable[[str, bytes], bytes]) -> None:
        """Put what ``change`` makes of key and value in each value's place: all of them, or none."""

    def used(self, app: str) -> int:
        """Bytes that count for the quota."""

    def close(self) -> None:
        """Idempotent."""


class Person(Protocol):
    """Who decides what no rule decides: a card in the notebook, a terminal. Code in a guest never is."""

    async def answer(self, question: Question) -> Span | None:
        """How long it is granted for, or ``None``: denied, for as long as the session lasts. Asked once for equal
        questions at a time, and cancelled when nobody waits for the answer any more (time is up, the guest has
        gone). ``CapabilityDenied`` where they cannot be asked, or do not listen now."""


class Answer(Protocol):
    """What came of a call: plain data, and open files that go beside it (at most one)."""

    @property
    def value(self) -> Any: ...
    @property
    def descriptors(self) -> tuple[int, ...]: ...


class Broker(Protocol):
    """Decides and performs what the guests of one session ask for."""

    async def call(self, capability: str, action: str, arguments: dict[str, Any], parent: str) -> Answer:
        """Do it, or raise a ``KernelRuntimeError`` that may be told to the guest. Cancelled when nobody waits
        for the answer any more. ``parent``: the request in whose name it asks. Descriptors are the caller's."""

    async def close(self) -> None:
        """End what goes on, let go of everything; idempotent."""
