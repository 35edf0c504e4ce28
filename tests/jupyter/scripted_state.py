"""The state of a scripted guest: one list of commands that ran, kept and brought back by name."""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.domain.difference import Change, Difference
from kernel_runtime.domain.errors import Conflict, Invalid, NotFound
from kernel_runtime.domain.snapshot import Budget, Snapshot, check_name, find
from kernel_runtime.domain.variables import Variable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class ScriptedSnapshots:
    """Snapshots of ``ran``: what a test sees as the state."""

    budget = Budget()

    def __init__(self, names: str = "") -> None:
        """``names``: some that are there from the beginning, with ``|`` between them."""
        self.ran: list[str] = []
        self.line = "main"
        self.base: int | None = None
        self._known: dict[int, tuple[Snapshot, list[str]]] = {}
        self._heads: dict[str, int] = {}
        self._befores: dict[int, int] = {}
        self._future: list[list[str]] = []
        self._numbers = itertools.count(1)
        self._listeners: list[Callable[[], None]] = []
        for name in filter(None, names.split("|")):
            self._keep(name=name)

    def take_dropped(self) -> str:
        """The budget lets the oldest go when one is called ``one-too-many``."""
        return "dropped the snapshot oldest" if self.listing()[-1].name == "one-too-many" else ""

    # What the panel needs beside the magics.

    async def settled(self) -> None: ...

    @property
    def cell(self) -> int:
        return len(self.ran)

    @property
    def undoable(self) -> int:
        return len(self._befores)

    @property
    def redoable(self) -> int:
        return len(self._future)

    def on_changed(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @property
    def lines(self) -> list[str]:
        return sorted({self.line, *self._heads})

    def listing(self) -> list[Snapshot]:
        return [snapshot for snapshot, _ in self._known.values()]

    def find(self, name: str | int) -> Snapshot:
        return find(self.listing(), name)

    def befores(self) -> dict[int, Snapshot]:
        return {cell: self._known[n][0] for cell, n in self._befores.items() if n in self._known}

    def before_cell(self, count: int) -> None:
        self._future.clear()
        self._befores[count] = self._keep(automatic=True).number

    def _keep(self, **fields: Any) -> Snapshot:
        number = next(self._numbers)
        cell = len(self.ran)
        made = Snapshot(number=number, parent=self.base, line=self.line, cell=cell, **fields)
        self._known[number] = (made, list(self.ran))
        self.base = number
        return made

    async def take(self, name: str = "", *, pinned: bool = False) -> Snapshot:
        if name:
            check_name(name, self.listing())
        return self._keep(name=name, pinned=pinned)

    def drop(self, name: str | int) -> Snapshot:
        snapshot = self.find(name)
        del self._known[snapshot.number]
        return snapshot

    def pin(self, name: str | int, pinned: bool = True) -> Snapshot:
        snapshot = self.find(name)
        return self._known[snapshot.number][0]

    async def restore(self, name: str | int, *, reseed: bool = False) -> Any:
        self._future.append(self.ran)
        unkept = "other threads were running: a\x1b[31mb" if "thread" in self.ran else ""
        return SimpleNamespace(**vars(await self.visit(name)) | {"unkept": unkept})

    async def visit(self, name: str | int) -> Any:
        snapshot, ran = self._known[self.find(name).number]
        self.ran, self.base = list(ran), snapshot.number
        external = ["descriptor 5: a socket"] if "socket" in ran else []
        return SimpleNamespace(snapshot=snapshot, seconds=0.009, external=external, changed=[], unkept="")

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[Snapshot]:
        here = self._keep(pinned=True)
        yield here
        await self.visit(here.number)
        self.drop(here.number)

    async def undo(self, cells: int = 1) -> Any:
        if cells < 1 or cells > len(self._befores):
            raise NotFound(f"{cells} cells cannot be undone")
        counts = sorted(self._befores)[-cells:]
        number = self._befores[counts[0]]
        for count in counts:
            del self._befores[count]
        return await self.restore(number)

    async def redo(self) -> Any:
        if not self._future:
            raise NotFound("there is nothing to redo: no undo since the last cell")
        self.ran = self._future.pop()
        snapshot = self._keep(automatic=True)
        return SimpleNamespace(snapshot=snapshot, seconds=0.002, external=[], changed=[], unkept="")

    async def branch(self, line: str) -> Any:
        head = self._keep(automatic=True)
        self._heads[self.line], self.line = head.number, line
        return await self.visit(self._heads.pop(line)) if line in self._heads else head


class ScriptedStops:
    """One copy at a gate, number 7."""

    def __init__(self) -> None:
        self.edits: dict[str, str] = {}

    def listing(self) -> list[Snapshot]:
        return [Snapshot(number=7, cell=3, gate="f, line 2")]

    def find(self, name: str | int) -> tuple[Snapshot, Any]:
        if str(name) != "7":
            raise Conflict(f"#{name} was not made at a gate; copies made at gates: 7")
        return self.listing()[0], SimpleNamespace(count=3)

    async def stack(self, name: str | int) -> list[wire.Level]:
        self.find(name)
        return [wire.Level(place="f, line 2", names={"a": self.edits.get("a", "1"), "b\x1b]0;x\x07": "<b>"})]

    async def evaluate(self, name: str | int, expression: str) -> str:
        self.find(name)
        if expression == "1/0":
            raise Invalid("1/0: ZeroDivisionError: division by zero")
        return f"value of {expression}"

    async def set(self, name: str | int, variable: str, expression: str) -> str:
        self.edits[variable] = expression
        return expression


def differing(a: list[str], b: list[str], titles: tuple[str, str]) -> Difference:
    """One variable for each command."""
    made = [Change(name=n, after=Variable(name=n, type="<b>str</b>")) for n in b if n not in a]
    unknown = {"<i>f": "File"} if "say file" in b else {}
    return Difference(a=titles[0], b=titles[1], changes=made, same=len(a), uncompared=unknown)
