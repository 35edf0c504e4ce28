"""The directory as it lies there: its manifest, its packs, the key, and what can be read of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Conflict, Damaged, NotFound
from kernel_runtime.store import keys
from kernel_runtime.store.manifest import Manifest
from kernel_runtime.store.packs import is_abandoned
from kernel_runtime.store.place import default_directory, make_private
from kernel_runtime.store.record import nameless, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kernel_runtime.domain.checkpoint import Checkpoint
    from kernel_runtime.store.record import Record

_COLUMNS = "id, key, parent, made, size, added, sealed, digest, record"


class Shelf:
    """An opened directory; opening removes what writers that died have left."""

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

    def checkpoints(self, key: str | None = None) -> list[Checkpoint]:
        where = "" if key is None else "WHERE key = ?"
        values = () if key is None else (key,)
        rows = self.manifest.rows(f"SELECT {_COLUMNS} FROM checkpoints {where} ORDER BY number DESC", *values)  # noqa: S608 - names of ours
        return [self._listed(row) for row in rows]

    def _listed(self, row: Sequence[object]) -> Checkpoint:
        identity, key, parent, made, size, added, sealed, digest, data = row
        try:
            return unpack(identity, data, digest, self.key_for(sealed)).checkpoint  # type: ignore[arg-type] # as the table has them
        except (Conflict, Damaged):
            return nameless(identity, key, parent, made, size, added, sealed)  # type: ignore[arg-type] # as the table has them

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

    def forget(self) -> None:
        """The record that is kept at hand may be another now."""
        self._last = None

    def close(self) -> None:
        self.manifest.close()
