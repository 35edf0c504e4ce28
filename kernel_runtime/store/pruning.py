"""Letting checkpoints go, and giving back what only they used.

A chunk goes when no record names it, a pack when no chunk is left in it; a pack that is mostly
dead is written anew. Such a pack loses its own name first, then the manifest is committed, then the
file is removed: what a crash leaves behind is garbage that tells itself, never a gap.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

from kernel_runtime.domain.checkpoint import Freed, outdated
from kernel_runtime.domain.errors import Damaged, KernelRuntimeError
from kernel_runtime.store import packs
from kernel_runtime.store.packs import PackReader, PackWriter, Place

if TYPE_CHECKING:
    from kernel_runtime.domain.checkpoint import Retention
    from kernel_runtime.store.shelf import Shelf

#: A pack of which less than this part is alive is written anew.
_SPARSE = 0.5


def prune(store: Shelf, retention: Retention, now: float, key: str | None = None) -> Freed:
    """Remove outdated checkpoints (of ``key`` alone, or of each), then dead chunks and packs."""
    before = _size(store)
    made: list[PackWriter] = []
    dead = _Dead()
    try:
        with store.manifest.writing():
            gone = [one.id for one in outdated(store.checkpoints(key), retention, now)]
            store.manifest.change_all("DELETE FROM checkpoints WHERE id = ?", [(one,) for one in gone])
            _drop_chunks(store, dead)
            for number, name in dead.sparse:
                _rewrite(store, number, name, dead, made)
            for name in dead.packs:
                packs.unsettle(store.packs, name)
        for pack in made:
            pack.publish()
    except BaseException:
        _clear_up(store, dead, made)
        raise
    for name in dead.packs:
        packs.remove(store.packs, name)
    store.manifest.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    return Freed(checkpoints=gone, bytes=max(0, before - _size(store)))


def _clear_up(store: Shelf, dead: _Dead, made: list[PackWriter]) -> None:
    """After an error, before the manifest was committed or after."""
    with suppress(KernelRuntimeError):  # the next opening does it
        for name in (*dead.packs, *(pack.name for pack in made)):
            store.judge(name)
    for pack in made:
        pack.close()


class _Dead:
    def __init__(self) -> None:
        self.packs: list[str] = []
        self.sparse: list[tuple[int, str]] = []


def _size(store: Shelf) -> int:
    return sum(path.stat().st_size for path in store.packs.glob("*.pack"))


def _drop_chunks(store: Shelf, dead: _Dead) -> None:
    """Chunks that nothing names. Packs of a key that is not here stay while a checkpoint has it."""
    manifest = store.manifest
    rows = manifest.rows("SELECT id, sealed FROM checkpoints")
    readable = {"", store.key.id}
    live = {
        n
        for identity, sealed in rows
        if sealed in readable
        for p in store.record(identity).parts()
        for n in p.numbers()
    }
    locked = {sealed for _, sealed in rows} - readable
    for number, name, sealed in manifest.rows("SELECT id, name, sealed FROM packs"):
        if sealed in locked:
            continue
        chunks = manifest.rows("SELECT id, size FROM chunks WHERE pack = ?", number)
        kept = sum(size for identity, size in chunks if identity in live)
        manifest.change_all("DELETE FROM chunks WHERE id = ?", [(i,) for i, _ in chunks if i not in live])
        if kept == 0:
            manifest.change("DELETE FROM packs WHERE id = ?", number)
            dead.packs.append(name)
        elif kept < _SPARSE * sum(size for _, size in chunks):
            dead.sparse.append((number, name))


def _rewrite(store: Shelf, number: int, name: str, dead: _Dead, made: list[PackWriter]) -> None:
    """The chunks that are left of a pack, in a new one; the rows follow. A damaged one stays: who
    restores of it is told what is lost.
    """
    manifest = store.manifest
    rows = manifest.rows(
        "SELECT name, block, start, size FROM chunks WHERE pack = ? ORDER BY block, start", number
    )
    try:
        writer = _copy(store, number, name, rows)
    except (Damaged, FileNotFoundError):
        return
    made.append(writer)
    dead.packs.append(name)
    manifest.change("UPDATE packs SET name = ?, size = ? WHERE id = ?", writer.name, writer.size, number)
    places = [(at.block, at.start, chunk) for chunk, at in writer.places.items()]
    manifest.change_all("UPDATE chunks SET block = ?, start = ? WHERE name = ?", places)


def _copy(store: Shelf, number: int, name: str, rows: list[tuple[bytes, int, int, int]]) -> PackWriter:
    ((sealed,),) = store.manifest.rows("SELECT sealed FROM packs WHERE id = ?", number)
    key = store.key_for(sealed)
    with closing(PackReader(store.packs, name, key)) as reader:
        writer = PackWriter(store.packs, key)
        try:
            for chunk, block, start, size in rows:
                writer.add(chunk, reader.chunk(Place(block, start, size)))
            writer.finish()
        except BaseException:
            writer.discard()
            raise
    return writer
