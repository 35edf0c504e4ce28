"""Snapshots without a guest: the real bookkeeping, whose live branch is a stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.errors import Conflict, NotFound
from kernel_runtime.domain.snapshot import Budget, Snapshot, find
from kernel_runtime.jupyter.comms import Comms
from kernel_runtime.jupyter.panels.stage import Stage
from kernel_runtime.workers.restoration import Restoration

if TYPE_CHECKING:
    import asyncio

HOSTILE = "</bdi></td><script>alert(1)</script><img src=x onerror=alert(2)>"


class FakeBoard:
    """Obeys ``deeds.Board``; remembers what was asked of it."""

    def __init__(self, *snapshots: Snapshot) -> None:
        self.budget = Budget()
        self.line = "main"
        self.base: int | None = None
        self.cell = 0
        self.lines = ["main"]
        self.undoable = self.redoable = 0
        self.asked: list[tuple[Any, ...]] = []
        self.busy = False
        self.unkept = ""
        self.gate: asyncio.Event | None = None
        self._known = {each.number: each for each in snapshots}
        self._listeners: list[Any] = []

    def listing(self) -> list[Snapshot]:
        return [self._known[number] for number in sorted(self._known)]

    def on_changed(self, listener: Any) -> Any:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def add(self, **fields: Any) -> Snapshot:
        """Another snapshot, as if a cell had run."""
        snapshot = Snapshot(number=max(self._known, default=0) + 1, parent=self.base, **fields)
        self._known[snapshot.number] = snapshot
        self.base = snapshot.number
        self.changed()
        return snapshot

    async def settled(self) -> None:
        pass

    def changed(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    @property
    def watched(self) -> int:
        return len(self._listeners)

    def drop(self, name: str | int) -> Snapshot:
        self.asked.append(("drop", name))
        return self._known.pop(find(self.listing(), name).number)

    def pin(self, name: str | int, pinned: bool = True) -> Snapshot:
        self.asked.append(("pin", name, pinned))
        number = find(self.listing(), name).number
        self._known[number] = msgspec.structs.replace(self._known[number], pinned=pinned)
        return self._known[number]

    async def restore(self, name: str | int, *, reseed: bool = False) -> Restoration:
        self.asked.append(("restore", name))
        if self.gate is not None:
            await self.gate.wait()
        if self.busy:
            raise Conflict("a cell is running: interrupt it first, or wait for its end")
        snapshot = find(self.listing(), name)
        return Restoration(snapshot=snapshot, seconds=0.012, external=["a socket"], unkept=self.unkept)

    async def undo(self, cells: int = 1) -> Restoration:
        raise ZeroDivisionError("a bug")

    async def redo(self) -> Restoration:
        raise NotFound("there is nothing to redo: no undo since the last cell")

    async def branch(self, line: str, start: str | int | None = None) -> Restoration | Snapshot:
        self.asked.append(("branch", line) if start is None else ("branch", line, start))
        there = line in self.lines
        self.lines = sorted({*self.lines, line})
        self.line = line
        snapshot = self.listing()[0] if start is None else find(self.listing(), start)
        if start is None and not there:
            return snapshot
        return Restoration(
            snapshot=snapshot, seconds=0.007, external=["a socket"], changed=["log"], unkept=self.unkept
        )


class Ear:
    """A publisher that only remembers."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def publish(self, out: Any) -> None:
        self.heard.append(out)

    def kinds(self) -> list[str]:
        return [out.kind for out in self.heard]

    def contents(self, kind: str) -> list[dict[str, Any]]:
        return [msgspec.json.decode(out.content) for out in self.heard if out.kind == kind]


def stage() -> tuple[Stage, Ear, Comms]:
    ear, comms = Ear(), Comms()
    return Stage(ear, comms), ear, comms


def sample() -> FakeBoard:
    """Three cells, one named and pinned, two lines."""
    board = FakeBoard(
        Snapshot(number=1, cell=0, automatic=True, made=1e9, size=1_000_000),
        Snapshot(number=2, parent=1, cell=1, name="loaded", pinned=True, made=1e9 + 60, size=8_000_000),
        Snapshot(number=3, parent=2, cell=2, automatic=True, made=1e9 + 90),
        Snapshot(number=4, parent=2, cell=2, line="other", automatic=True, made=1e9 + 120),
    )
    board.base, board.cell = 3, 3
    return board
