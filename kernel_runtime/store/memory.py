"""The store's twin in memory: for tests, and for hosts that keep nothing."""

from __future__ import annotations

import secrets
import time
import uuid
from typing import TYPE_CHECKING

from kernel_runtime.domain.checkpoint import DIGEST, Checkpoint, Freed, Quota, outdated
from kernel_runtime.domain.errors import NotFound, ProtocolViolation
from kernel_runtime.store.bounds import Bounds, check_sizes
from kernel_runtime.store.choice import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernel_runtime.domain.checkpoint import About, Group, Retention


class _Kept:
    def __init__(
        self, checkpoint: Checkpoint, groups: list[Group], chunks: dict[bytes, bytes], seed: int
    ) -> None:
        self.checkpoint, self.groups, self.chunks, self.seed = checkpoint, groups, chunks, seed


class MemoryStore:
    """``ports.CheckpointStore`` that ends with its process."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def begin(
        self, key: str, *, parent: str | None = None, label: str = "", quota: Quota | None = None
    ) -> MemoryWriter:
        if parent is None:
            parent = next((one.id for one in self.checkpoints(key)), None)
        return MemoryWriter(self, key, parent, label, self._of(parent) if parent else None, quota or Quota())

    def keep(
        self, checkpoint: Checkpoint, groups: list[Group], chunks: dict[bytes, bytes], seed: int
    ) -> None:
        self._kept[checkpoint.id] = _Kept(checkpoint, groups, chunks, seed)

    def _of(self, identity: str) -> _Kept:
        if identity not in self._kept:
            raise NotFound(f"there is no checkpoint {identity}")
        return self._kept[identity]

    def checkpoints(self, key: str | None = None) -> list[Checkpoint]:
        found = [kept.checkpoint for kept in reversed(self._kept.values())]
        return [one for one in found if key is None or one.key == key]

    def checkpoint(self, name: str, own: str = "") -> Checkpoint:
        return choose(self.checkpoints(), name, own)

    def groups(self, identity: str) -> list[Group]:
        return self._of(identity).groups

    def read(self, identity: str, number: int, part: int) -> Iterator[bytes]:
        kept = self._of(identity)
        group = next((one for one in kept.groups if one.number == number), None)
        if group is None or part >= len(group.parts):
            raise NotFound(f"checkpoint {identity} has no group {number} with a part {part}")
        digests = group.parts[part].digests
        for start in range(0, len(digests), DIGEST):
            yield kept.chunks[digests[start : start + DIGEST]]

    def remove(self, identity: str) -> None:
        self._of(identity)
        del self._kept[identity]

    def prune(
        self, retention: Retention, clock: Callable[[], float] | None = None, key: str | None = None
    ) -> Freed:
        gone = outdated(self.checkpoints(key), retention, (clock or time.time)())
        freed = sum(self._kept.pop(one.id).checkpoint.added for one in gone)
        return Freed(checkpoints=[one.id for one in gone], bytes=freed)

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryWriter:
    """``ports.CheckpointWriter`` of the twin."""

    def __init__(
        self, store: MemoryStore, key: str, parent: str | None, label: str, known: _Kept | None, quota: Quota
    ) -> None:
        self._store, self._key, self._parent, self._label = store, key, parent, label
        self._bounds = Bounds(quota)
        self._chunks = dict(known.chunks) if known else {}
        self._known = b"".join(self._chunks)
        self._groups: list[Group] = []
        self.seed = known.seed if known else secrets.randbits(62)

    def known(self) -> bytes:
        return self._known

    def add(self, digests: bytes, chunks: list[memoryview]) -> None:
        for digest, chunk in self._bounds.chunks(digests, chunks):
            if digest in self._chunks:
                raise ProtocolViolation("a chunk came twice")
            self._chunks[digest] = bytes(chunk)

    def group(self, group: Group) -> None:
        self._bounds.group(group)
        for part in group.parts:
            digests = self._bounds.part(part)
            if not self._chunks.keys() >= set(digests):
                raise ProtocolViolation("a chunk that never came is named")
            check_sizes(part, [len(self._chunks[digest]) for digest in digests])
        self._groups.append(group)

    def skip(self, name: str, reason: str) -> None:
        self._bounds.skip(name, reason)

    def commit(self, about: About) -> Checkpoint:
        bounds = self._bounds
        checkpoint = Checkpoint(
            id=uuid.uuid4().hex[:16], key=self._key, parent=self._parent, label=self._label, made=time.time(),
            size=bounds.size, added=bounds.added, about=about, names=sorted(bounds.saved()), skipped=bounds.skipped,
        )  # fmt: skip
        self._store.keep(checkpoint, self._groups, self._chunks, self.seed)
        return checkpoint

    def abort(self) -> None:
        self._chunks, self._groups = {}, []
