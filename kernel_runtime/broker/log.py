"""Capability ``log``: structured records of a guest, in memory for who looks and on disk for later."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.broker.arguments import Arguments, read
from kernel_runtime.broker.handler import Performed
from kernel_runtime.domain.amounts import KIB, MIB
from kernel_runtime.domain.bucket import Bucket
from kernel_runtime.domain.errors import Conflict, Damaged, StorageFailed
from kernel_runtime.domain.log import MAX_TEXT, Fields, LogRecord, Message, Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.broker.handler import Call, Demand
    from kernel_runtime.ports import LogStore

#: Records in memory and their bytes, and of those that wait to be written: when the disk is slower, the oldest go.
IN_MEMORY, IN_MEMORY_BYTES = 5000, 32 * MIB
#: Bytes on disk of one session, or of all called apps of a front: at once, and for ever in a second. It needs no grant, and the disk is the host's.
AT_ONCE, A_SECOND = 64 * MIB, 16 * KIB
_WRITE_SECONDS = 0.2


class Write(Arguments, frozen=True, kw_only=True):
    level: Severity = Severity.INFO
    message: Message
    fields: Fields = msgspec.field(default_factory=dict)


class Newest(deque[LogRecord]):
    """As many records as there is room for, the newest last."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = 0

    def add(self, record: LogRecord) -> int:
        """How many went for it."""
        self.append(record)
        self._bytes += taken(record)
        gone = 0
        while len(self) > IN_MEMORY or self._bytes > IN_MEMORY_BYTES:
            self._bytes -= taken(self.popleft())
            gone += 1
        return gone

    def take(self) -> list[LogRecord]:
        """All of them; none are left."""
        records = list(self)
        self.clear()
        self._bytes = 0
        return records


class Logs:
    """The newest records of one session, or of all called apps of one front. ``lost``: those that were not written to
    disk; ``disk``: what may be."""

    def __init__(self) -> None:
        self.records = Newest()
        self.lost = 0
        self.disk = Bucket(A_SECOND, AT_ONCE, time.monotonic())
        self._number = 0

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def since(self, number: int) -> list[LogRecord]:
        """Those after ``number``, oldest first."""
        newer = []
        for record in reversed(self.records):
            if record.number <= number:
                break
            newer.append(record)
        return newer[::-1]


class LogHandler:
    """Needs no grant: what a guest says about itself, it could print. ``redact`` takes secrets out."""

    name = "log"

    def __init__(self, logs: Logs, store: Callable[[], LogStore], redact: Callable[[str], str] = str) -> None:
        self._logs = logs
        self._store = store
        self._redact = redact
        self._unwritten = Newest()
        self._writing: asyncio.Task[None] | None = None

    async def perform(self, call: Call, demand: Demand) -> Performed:
        """``write``: a message with its level and fields."""
        del demand
        said: Write = read(call, {"write": Write})
        return Performed(size=len(self.keep(said, call.app, call.session).message))

    def keep(self, said: Write, app: str, session: str) -> LogRecord:
        """In memory at once, and soon on disk. To be called in the loop."""
        record = LogRecord(
            number=self._logs.next_number(),
            at=time.time(),
            level=said.level,
            message=self._redact(said.message),
            fields={self._redact(name): self._redact(_text(value)) for name, value in said.fields.items()},
            app=app,
            session=session,
        )
        self._logs.records.add(record)
        if not self._logs.disk.take(time.monotonic(), taken(record)):
            self._logs.lost += 1
            return record
        self._logs.lost += self._unwritten.add(record)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_soon())
        return record

    async def close(self) -> None:
        """Write what waits."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        if self._unwritten:
            await self._write()

    async def _write_soon(self) -> None:
        """Many records in one transaction, off the loop."""
        while self._unwritten:
            await asyncio.sleep(_WRITE_SECONDS)
            await self._write()

    async def _write(self) -> None:
        records = self._unwritten.take()
        try:
            await asyncio.shield(asyncio.to_thread(self._add, records))
        except (StorageFailed, Conflict, Damaged):  # also: no key for an app that asks for encryption
            self._logs.lost += len(records)

    def _add(self, records: list[LogRecord]) -> None:
        self._store().add(records)


def taken(record: LogRecord) -> int:
    """Bytes that a record takes, about."""
    return sum(map(sys.getsizeof, (record.message, *record.fields, *record.fields.values())))


def _text(value: Any) -> str:
    """Shortened so that it shows: what is left of a secret is looked for before such a mark."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
