"""One checkpoint on its way to disk."""

from __future__ import annotations

import secrets
import struct
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kernel_runtime.domain.checkpoint import DIGEST, Checkpoint
from kernel_runtime.domain.errors import Conflict, ProtocolViolation
from kernel_runtime.store.bounds import Bounds, check_sizes
from kernel_runtime.store.packs import PackWriter, failed
from kernel_runtime.store.record import Record, StoredGroup, StoredPart, pack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.domain.checkpoint import About, Group, Quota
    from kernel_runtime.store.shelf import Shelf

_INSERT_CHUNK = "INSERT OR IGNORE INTO chunks (name, pack, block, start, size) VALUES (?, ?, ?, ?, ?)"
_INSERT_CHECKPOINT = (
    "INSERT INTO checkpoints (id, key, parent, sealed, made, size, added, digest, record) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class DiskWriter:
    """``ports.CheckpointWriter``: a pack that grows, and what the groups say of it."""

    def __init__(
        self, store: Shelf, key: str, parent: str | None, label: str, record: Record | None, quota: Quota
    ) -> None:
        self._store = store
        self._key, self._parent, self._label = key, parent, label
        self._bounds = Bounds(quota)
        self._pack: PackWriter | None = None
        self._groups: list[Group] = []
        #: digest → size and, if the manifest has the chunk, its number; else its name
        self._chunks: dict[bytes, tuple[int, int | bytes]] = {}
        self._reused: set[int] = set()
        self.seed = record.seed if record else secrets.randbits(62)
        if record is not None:
            self._take_known(record)
        self._known = b"".join(self._chunks)

    def _take_known(self, record: Record) -> None:
        """The parent's chunks, but those that are no longer there."""
        numbers = {number for part in record.parts() for number in part.numbers()}
        sizes = dict(self._store.manifest.rows_of("SELECT id, size FROM chunks WHERE id IN", numbers))
        for part in record.parts():
            digests = part.part.digests
            for place, number in enumerate(part.numbers()):
                if number in sizes:
                    digest = digests[place * DIGEST : (place + 1) * DIGEST]
                    self._chunks[digest] = (sizes[number], number)

    def known(self) -> bytes:
        return self._known

    def add(self, digests: bytes, chunks: list[memoryview]) -> None:
        named = {}
        for digest, chunk in self._bounds.chunks(digests, chunks):
            if digest in self._chunks or digest in named:
                raise ProtocolViolation("a chunk came twice")
            named[digest] = (self._store.key.name(chunk), chunk)
        there = self._there([name for name, _ in named.values()])
        with self._disk():
            for digest, (name, chunk) in named.items():
                self._chunks[digest] = (len(chunk), there.get(name, name))
                if name not in there:
                    self._write(name, chunk)

    def _there(self, names: list[bytes]) -> dict[bytes, int]:
        """Which of them some checkpoint has already."""
        rows = self._store.manifest.rows_of("SELECT name, id FROM chunks WHERE name IN", names)
        self._reused.update(number for _, number in rows)
        return dict(rows)

    def _write(self, name: bytes, chunk: memoryview) -> None:
        if self._pack is None:
            self._pack = PackWriter(self._store.packs, self._store.key)
        if name not in self._pack.names:
            self._pack.add(name, bytes(chunk))

    def group(self, group: Group) -> None:
        self._bounds.group(group)
        for part in group.parts:
            try:
                sizes = [self._chunks[digest][0] for digest in self._bounds.part(part)]
            except KeyError:
                raise ProtocolViolation("a chunk that never came is named") from None
            check_sizes(part, sizes)
        self._groups.append(group)

    def skip(self, name: str, reason: str) -> None:
        self._bounds.skip(name, reason)

    # -- the end -------------------------------------------------------------------------------

    def commit(self, about: About) -> Checkpoint:
        names = self._bounds.saved()
        manifest = self._store.manifest
        with self._disk():
            if self._pack is not None:
                self._pack.finish()
            with manifest.writing():
                numbers = self._insert_chunks()
                self._check_reused()
                checkpoint = self._insert(about, names, numbers)
            if self._pack is not None:
                self._pack.close()
                self._pack = None
        return checkpoint

    def _insert_chunks(self) -> dict[bytes, int]:
        """Numbers of the new chunks by name. Another writer may have had one of them first."""
        if self._pack is None:
            return {}
        manifest, written = self._store.manifest, self._pack
        number = manifest.change(
            "INSERT INTO packs (name, sealed, size) VALUES (?, ?, ?)",
            written.name, self._store.key.id, written.size,
        )  # fmt: skip
        rows = ((name, number, at.block, at.start, at.size) for name, at in written.places.items())
        manifest.change_all(_INSERT_CHUNK, rows)
        numbers = dict(manifest.rows("SELECT name, id FROM chunks WHERE pack = ?", number))
        others = [name for name in written.places if name not in numbers]
        return numbers | dict(manifest.rows_of("SELECT name, id FROM chunks WHERE name IN", others))

    def _check_reused(self) -> None:
        """What others had written is still there: pruning may have come between."""
        numbers = self._reused | {ref for _, ref in self._chunks.values() if isinstance(ref, int)}
        if len(self._store.manifest.rows_of("SELECT id FROM chunks WHERE id IN", numbers)) != len(numbers):
            raise Conflict("an older checkpoint was pruned while this one was written; write it again")

    def _insert(self, about: About, names: list[str], numbers: dict[bytes, int]) -> Checkpoint:
        key = self._store.key
        checkpoint = Checkpoint(
            id=uuid.uuid4().hex[:16], key=self._key, parent=self._parent, label=self._label, made=time.time(),
            size=self._bounds.size, added=self._pack.size if self._pack else 0, about=about, names=sorted(names),
            skipped=self._bounds.skipped, sealed=key.id,
        )  # fmt: skip
        record = Record(self.seed, checkpoint, [self._stored(group, numbers) for group in self._groups])
        data, digest = pack(record, key)
        one = checkpoint
        self._store.manifest.change(
            _INSERT_CHECKPOINT,
            one.id, one.key, one.parent, key.id, one.made, one.size, one.added, digest, data,
        )  # fmt: skip
        return checkpoint

    def _stored(self, group: Group, numbers: dict[bytes, int]) -> StoredGroup:
        parts = []
        for part in group.parts:
            digests = (part.digests[start : start + DIGEST] for start in range(0, len(part.digests), DIGEST))
            refs = [self._chunks[digest][1] for digest in digests]
            found = [ref if isinstance(ref, int) else numbers[ref] for ref in refs]
            parts.append(StoredPart(part, struct.pack(f"<{len(found)}q", *found)))
        return StoredGroup(group.number, group.names, group.packages, parts)

    def abort(self) -> None:
        if self._pack is not None:
            self._pack.discard()
            self._pack = None

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Whatever goes wrong: nothing of this checkpoint stays."""
        try:
            yield
        except OSError as error:
            self.abort()
            raise failed(error, f"the checkpoint was not written, {self._store.packs}") from None
        except BaseException:
            self.abort()
            raise
