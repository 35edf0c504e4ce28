"""One checkpoint on its way to disk."""

from __future__ import annotations

import secrets
import struct
import time
import uuid
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING

from kernel_runtime.domain.checkpoint import Checkpoint, split
from kernel_runtime.domain.errors import Conflict, KernelRuntimeError, ProtocolViolation
from kernel_runtime.store.bounds import Bounds, check_sizes
from kernel_runtime.store.packs import PackWriter, failed
from kernel_runtime.store.record import Record, StoredGroup, StoredPart, pack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.domain.checkpoint import About, Group, Quota
    from kernel_runtime.store.shelf import Shelf

_INSERT_CHUNK = "INSERT OR IGNORE INTO chunks (name, pack, block, start, size) VALUES (?, ?, ?, ?, ?)"
_IF_FULL = "those that were kept before are whole. Make room there, or let older ones go (`kernel-runtime checkpoints prune`)"
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
        self._record = record
        self._version = store.manifest.version()
        #: By digest: sizes of all chunks; numbers of those that the manifest has; names of those that are new.
        self._sizes: dict[bytes, int] = {}
        self._numbers: dict[bytes, int] = {}
        self._names: dict[bytes, bytes] = {}
        self.seed = record.seed if record else secrets.randbits(62)

    def known(self) -> bytes:
        """The parent's chunks, but those that are no longer there."""
        parts = list(self._record.parts()) if self._record else []
        digests = split(b"".join(part.part.digests for part in parts))
        numbers = list(chain.from_iterable(part.numbers() for part in parts))
        sizes = self._store.manifest.sizes_of(set(numbers))
        self._numbers = {
            digest: number for digest, number in zip(digests, numbers, strict=True) if number in sizes
        }
        self._sizes = {digest: sizes[number] for digest, number in self._numbers.items()}
        return b"".join(self._numbers)

    def add(self, digests: bytes, chunks: list[memoryview]) -> None:
        named = {}
        for digest, chunk in self._bounds.chunks(digests, chunks):
            if digest in self._sizes or digest in named:
                raise ProtocolViolation("a chunk came twice")
            named[digest] = (self._store.key.name(chunk), chunk)
        there = self._there([name for name, _ in named.values()])
        with self._disk():
            for digest, (name, chunk) in named.items():
                self._sizes[digest] = len(chunk)
                if name in there:
                    self._numbers[digest] = there[name]
                else:
                    self._names[digest] = name
                    self._write(name, chunk)

    def _there(self, names: list[bytes]) -> dict[bytes, int]:
        """Which of them some checkpoint has already."""
        return dict(self._store.manifest.rows_of("SELECT name, id FROM chunks WHERE name IN", names))

    def _write(self, name: bytes, chunk: memoryview) -> None:
        if self._pack is None:
            self._pack = PackWriter(self._store.packs, self._store.key)
        if name not in self._pack.names:
            self._pack.add(name, bytes(chunk))

    def group(self, group: Group) -> None:
        self._bounds.group(group)
        for part in group.parts:
            try:
                sizes = list(map(self._sizes.__getitem__, self._bounds.part(part)))
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
                self._check_reused()
                numbers = self._insert_chunks()
                self._numbers |= {digest: numbers[name] for digest, name in self._names.items()}
                checkpoint = self._insert(about, names)
            if self._pack is not None:
                self._pack.publish()
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
        if self._store.manifest.version() == self._version:
            return
        numbers = set(self._numbers.values())
        if not numbers <= self._store.manifest.sizes_of(numbers).keys():
            raise Conflict("an older checkpoint was pruned while this one was written; write it again")

    def _insert(self, about: About, names: list[str]) -> Checkpoint:
        key = self._store.key
        checkpoint = Checkpoint(
            id=uuid.uuid4().hex[:16], key=self._key, parent=self._parent, label=self._label, made=time.time(),
            size=self._bounds.size, added=self._pack.size if self._pack else 0, about=about, names=sorted(names),
            skipped=self._bounds.skipped, sealed=key.id,
        )  # fmt: skip
        record = Record(self.seed, checkpoint, [self._stored(group) for group in self._groups])
        data, digest = pack(record, key)
        one = checkpoint
        self._store.manifest.change(
            _INSERT_CHECKPOINT,
            one.id, one.key, one.parent, key.id, one.made, one.size, one.added, digest, data,
        )  # fmt: skip
        return checkpoint

    def _stored(self, group: Group) -> StoredGroup:
        parts = []
        for part in group.parts:
            found = list(map(self._numbers.__getitem__, split(part.digests)))
            parts.append(StoredPart(part, struct.pack(f"<{len(found)}q", *found)))
        return StoredGroup(group.number, group.names, group.packages, parts)

    def abort(self) -> None:
        pack, self._pack = self._pack, None
        if pack is not None:
            with suppress(KernelRuntimeError):  # the next opening does it
                self._store.judge(pack.name)
            pack.close()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Whatever goes wrong: nothing of this checkpoint stays."""
        try:
            yield
        except OSError as error:
            self.abort()
            raise failed(error, f"the checkpoint was not written, {self._store.packs}", _IF_FULL) from None
        except BaseException:
            self.abort()
            raise
