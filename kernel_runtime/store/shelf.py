"""The directory as it lies there: its manifest, its packs, the key, and what can be read of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Conflict, Damaged, NotFound
from kernel_runtime.store import keys, packs
from kernel_runtime.store.manifest import Manifest
from kernel_runtime.store.place import default_directory, make_private
from kernel_runtime.store.record import nameless, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kernel_runtime.domain.checkpoint import Checkpoint
    from kernel_runtime.store.record import Record

_ADVICE = (
    "Nothing was removed. Put the manifest back that belongs to them (with its -wal file, if it had one), "
    "or move the packs away"
)
_COLUMNS = "id, key, parent, made, size, added, sealed, digest, record"


class Shelf:
    """An opened directory; opening removes what writers that died have left. ``Damaged`` where packs lie beside a
    manifest that is not theirs: none of them is touched.
    """

    def __init__(self, directory: Path | None = None, key: keys.Key | keys.NoKey | None = None) -> None:
        self.directory = make_private(directory or default_directory())
        self.packs = make_private(self.directory / "packs")
        self.key = keys.configured() if key is None else key
        self._last: Record | None = None
        self.manifest = self._open_manifest()
        try:
            self._check_packs()
            self._tidy()
        except BaseException:
            self.manifest.close()
            raise

    def _open_manifest(self) -> Manifest:
        path = self.directory / "manifest.sqlite"
        there = [
            pack.name for pack in self.packs.iterdir()
        ]  # asked for first: the manifest is older than any pack
        new = not path.exists() or path.stat().st_size == 0
        if new and there:
            raise Damaged(f"{path} is empty or gone, but {len(there)} packs are there. {_ADVICE}")
        manifest = Manifest(path)
        if new:
            packs.sync_directory(self.directory)
        return manifest

    def _check_packs(self) -> None:
        """Each pack under its own name is in the manifest, or this is not their manifest."""
        found = [path for path in self.packs.glob("*.pack") if not self._is_listed(path.stem)]
        found = [path for path in found if path.exists()]  # not pruned meanwhile
        if found:
            raise Damaged(
                f"{self.directory} has {len(found)} packs that its manifest does not know ({found[0].name}): "
                f"it was replaced by another one, or an older one. {_ADVICE}"
            )

    def _tidy(self) -> None:
        """What a crash has left under a temporary name: its own name where the manifest lists it, and else no more."""
        for path in self.packs.glob(".*.tmp"):
            name = path.stem.removeprefix(".")
            if packs.is_abandoned(path):
                with self.manifest.writing():
                    self.judge(name)

    def judge(self, name: str) -> None:
        """A pack that is listed has its own name; one that is not is removed."""
        (packs.settle if self._is_listed(name) else packs.remove)(self.packs, name)

    def _is_listed(self, name: str) -> bool:
        return bool(self.manifest.rows("SELECT 1 FROM packs WHERE name = ?", name))

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
        self._last = last = unpack(identity, data, digest, self.key_for(sealed, f"checkpoint {identity}"))
        return last

    def key_for(self, sealed: str, what: str = "it") -> keys.Key | keys.NoKey:
        if not sealed:
            return keys.NoKey()
        if sealed != self.key.id:
            raise Conflict(
                f"{what} is encrypted with the key {sealed}: start with {keys.VARIABLE} set to that key, or "
                f"{keys.FILE_VARIABLE} to the path of a file that holds it"
            )
        return self.key

    def forget(self) -> None:
        """The record that is kept at hand may be another now."""
        self._last = None

    def close(self) -> None:
        self.manifest.close()
