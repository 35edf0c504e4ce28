"""The store on disk: packs beside a manifest, in a private directory.

Writing: chunks go into a new pack, the pack is synchronised and named, and one transaction of the
manifest makes the checkpoint visible. Until then all of it is garbage, which the next opening
removes. Chunks are named by a cryptographic hash that is computed here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kernel_runtime.domain.checkpoint import Freed, Quota
from kernel_runtime.domain.errors import Conflict, Damaged, NotFound
from kernel_runtime.store import keys, pruning
from kernel_runtime.store.choice import choose
from kernel_runtime.store.manifest import Manifest
from kernel_runtime.store.packs import PackReader, Place, failed, is_abandoned
from kernel_runtime.store.place import default_directory, make_private
from kernel_runtime.store.record import nameless, unpack
from kernel_runtime.store.writer import DiskWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from kernel_runtime.domain.checkpoint import Checkpoint, Group, Retention
    from kernel_runtime.store.record import Record

_COLUMNS = "id, key, parent, made, size, added, sealed, digest, record"


class DiskStore:
    """``ports.CheckpointStore`` in ``directory`` (by default the user's state directory)."""

    def __init__(self, directory: Path | None = None, key: keys.Key | keys.NoKey | None = None) -> None:
        self.directory = make_private(directory or default_directory())
        self.packs = make_private(self.directory / "packs")
        self.key = keys.configured() if key is None else key
        self.manifest = Manifest(self.directory / "manifest.sqlite")
        self._last: Record | None = None
        self._remove_garbage()

    def _remove_garbage(self) -> None:
        """Packs of writers that died before they committed."""
        for path in (*self.packs.glob("*.pack"), *self.packs.glob(".*.tmp")):
            if not self._is_listed(path) and is_abandoned(path) and not self._is_listed(path):
                path.unlink(missing_ok=True)

    def _is_listed(self, path: Path) -> bool:
        return bool(self.manifest.rows("SELECT 1 FROM packs WHERE name = ?", path.stem))

    # -- writing -------------------------------------------------------------------------------

    def begin(
        self, key: str, *, parent: str | None = None, label: str = "", quota: Quota | None = None
    ) -> DiskWriter:
        if parent is None:
            newest = self.manifest.rows(
                "SELECT id FROM checkpoints WHERE key = ? ORDER BY number DESC LIMIT 1", key
            )
            parent = newest[0][0] if newest else None
        record = self._usable(parent) if parent else None
        try:
            return DiskWriter(self, key, parent, label, record, quota or Quota())
        except OSError as error:
            raise failed(error, str(self.packs)) from None

    def _usable(self, parent: str) -> Record | None:
        """The parent's record, if its chunks may be used again: sealed alike, and whole."""
        rows = self.manifest.rows("SELECT sealed FROM checkpoints WHERE id = ?", parent)
        if not rows:
            raise NotFound(f"there is no checkpoint {parent}")
        try:
            return self.record(parent) if rows[0][0] == self.key.id else None
        except Damaged:
            return None

    def remove(self, identity: str) -> None:
        with self.manifest.writing():
            if not self.manifest.rows("SELECT 1 FROM checkpoints WHERE id = ?", identity):
                raise NotFound(f"there is no checkpoint {identity}")
            self.manifest.change("DELETE FROM checkpoints WHERE id = ?", identity)
        self._last = None

    def prune(self, retention: Retention, clock: Callable[[], float] | None = None) -> Freed:
        self._last = None
        try:
            return pruning.prune(self, retention, (clock or time.time)())
        except OSError as error:
            raise failed(error, str(self.packs)) from None

    # -- reading -------------------------------------------------------------------------------

    def checkpoints(self, key: str | None = None) -> list[Checkpoint]:
        where = "" if key is None else "WHERE key = ?"
        values = () if key is None else (key,)
        rows = self.manifest.rows(f"SELECT {_COLUMNS} FROM checkpoints {where} ORDER BY number DESC", *values)  # noqa: S608
        return [self._listed(row) for row in rows]

    def _listed(self, row: Sequence[object]) -> Checkpoint:
        identity, key, parent, made, size, added, sealed, digest, data = row
        try:
            return unpack(identity, data, digest, self.key_for(sealed)).checkpoint  # type: ignore[arg-type]
        except (Conflict, Damaged):
            return nameless(identity, key, parent, made, size, added, sealed)  # type: ignore[arg-type]

    def checkpoint(self, name: str) -> Checkpoint:
        return choose(self.checkpoints(), name)

    def record(self, identity: str) -> Record:
        """The whole record; ``NotFound``, ``Damaged``, or ``Conflict`` if another key is needed."""
        last = self._last  # part after part is read of the same one
        if last is not None and last.checkpoint.id == identity:
            return last
        rows = self.manifest.rows("SELECT record, digest, sealed FROM checkpoints WHERE id = ?", identity)
        if not rows:
            raise NotFound(f"there is no checkpoint {identity}")
        data, digest, sealed = rows[0]
        self._last = last = unpack(identity, data, digest, self.key_for(sealed))
        return last

    def key_for(self, sealed: str) -> keys.Key | keys.NoKey:
        if not sealed:
            return keys.NoKey()
        if sealed != self.key.id:
            raise Conflict(f"it is encrypted with the key {sealed}; set {keys.VARIABLE} to that key")
        return self.key

    def groups(self, identity: str) -> list[Group]:
        return [stored.group() for stored in self.record(identity).groups]

    def read(self, identity: str, number: int, part: int) -> Iterator[bytes]:
        group = next((one for one in self.record(identity).groups if one.number == number), None)
        if group is None or part >= len(group.parts):
            raise NotFound(f"checkpoint {identity} has no group {number} with a part {part}")
        try:
            yield from self.chunks(group.parts[part].numbers())
        except Damaged as error:
            lost = ", ".join(group.names) or "what the notebook defines"
            raise Damaged(f"checkpoint {identity}: {error}; lost: {lost}") from None

    def chunks(self, numbers: Sequence[int]) -> Iterator[bytes]:
        """Contents by number, each compared with its name."""
        rows = self.manifest.rows_of(
            "SELECT c.id, c.name, c.block, c.start, c.size, p.name, p.sealed FROM chunks c "
            "JOIN packs p ON p.id = c.pack WHERE c.id IN",
            set(numbers),
        )
        found = {row[0]: row[1:] for row in rows}
        readers: dict[str, PackReader] = {}
        try:
            for number in numbers:
                if number not in found:
                    raise Damaged("a chunk is missing in the manifest")
                name, block, start, size, pack, sealed = found[number]
                key = self.key_for(sealed)
                if pack not in readers:
                    readers[pack] = self._reader(pack, key)
                data = readers[pack].chunk(Place(block, start, size))
                if key.name(data) != name:
                    raise Damaged(f"pack {pack} was altered")
                yield data
        except OSError as error:
            raise failed(error, str(self.packs)) from None
        finally:
            for reader in readers.values():
                reader.close()

    def _reader(self, pack: str, key: keys.Key | keys.NoKey) -> PackReader:
        try:
            return PackReader(self.packs / f"{pack}.pack", key)
        except FileNotFoundError:
            raise Damaged(f"pack {pack} is missing") from None

    def close(self) -> None:
        self.manifest.close()
