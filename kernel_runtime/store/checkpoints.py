"""The store on disk: packs beside a manifest, in a private directory.

Writing: chunks go into a new pack, the pack is synchronised, and one transaction of the manifest makes
the checkpoint visible; the pack is named after it. Until then all of it is garbage, which the next
opening removes. Chunks are named by a cryptographic hash that is computed here.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.checkpoint import Freed, Quota
from kernel_runtime.domain.errors import Damaged, NotFound
from kernel_runtime.store import pruning
from kernel_runtime.store.choice import choose
from kernel_runtime.store.packs import PackReader, Place, failed
from kernel_runtime.store.shelf import Shelf
from kernel_runtime.store.writer import DiskWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kernel_runtime.domain.checkpoint import Checkpoint, Group, Retention
    from kernel_runtime.store.record import Record


_CHUNKS = (
    "SELECT c.id, c.name, c.block, c.start, c.size, p.name, p.sealed FROM chunks c "
    "JOIN packs p ON p.id = c.pack WHERE c.id IN"
)


class DiskStore(Shelf):
    """``ports.CheckpointStore`` in ``directory`` (by default the user's state directory)."""

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
        self.forget()

    def prune(
        self, retention: Retention, clock: Callable[[], float] | None = None, key: str | None = None
    ) -> Freed:
        self.forget()
        try:
            return pruning.prune(self, retention, (clock or time.time)(), key)
        except OSError as error:
            raise failed(error, str(self.packs)) from None

    # -- reading -------------------------------------------------------------------------------

    def checkpoint(self, name: str, own: str = "") -> Checkpoint:
        return choose(self.checkpoints(), name, own)

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
            rest = "; what else is in it comes back by name (names=[…], --var NAME)" if group.number else ""
            raise Damaged(f"checkpoint {identity}: {error}; lost: {lost}{rest}") from None

    def chunks(self, numbers: Sequence[int]) -> Iterator[bytes]:
        """Contents by number, each compared with its name."""
        readers: dict[str, PackReader] = {}
        try:
            found, readers = self._opened(set(numbers))
            for number in numbers:
                if number not in found:
                    raise Damaged("a chunk is missing in the manifest")
                name, block, start, size, pack, sealed = found[number]
                data = readers[pack].chunk(Place(block, start, size))
                if self.key_for(sealed).name(data) != name:
                    raise Damaged(f"pack {pack} was altered")
                yield data
        except OSError as error:
            raise failed(error, str(self.packs)) from None
        finally:
            for reader in readers.values():
                reader.close()

    def _opened(self, numbers: set[int]) -> tuple[dict[int, Sequence[Any]], dict[str, PackReader]]:
        """Where chunks lie, and their packs, opened: what is pruned after that can be read all the same."""
        lost = ""
        for _ in range(2):  # pruning may write a pack anew just then: its chunks lie elsewhere
            found = {row[0]: row[1:] for row in self.manifest.rows_of(_CHUNKS, numbers)}
            try:
                return found, self._readers({(pack, sealed) for *_, pack, sealed in found.values()})
            except FileNotFoundError as error:
                lost = Path(error.filename).stem
        raise Damaged(f"pack {lost} is missing")

    def _readers(self, wanted: set[tuple[str, str]]) -> dict[str, PackReader]:
        readers: dict[str, PackReader] = {}
        with ExitStack() as opened:
            for name, sealed in wanted:
                readers[name] = PackReader(self.packs, name, self.key_for(sealed))
                opened.callback(readers[name].close)
            opened.pop_all()
        return readers
