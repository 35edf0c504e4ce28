"""Copies made at gates, as the host sees them: looked at, edited, and one day gone on with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import Conflict, Invalid, KernelRuntimeError, NotFound
from kernel_runtime.workers.branch import Pending

if TYPE_CHECKING:
    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.workers.branch import Branch, Sink
    from kernel_runtime.workers.snapshots import Snapshots

#: Copies that one cell may ask for: gates go off when they are reached, so a person needs few.
MOST_OF_A_CELL = 32
_STACK = list[wire.Level]


class Stop(msgspec.Struct, kw_only=True):
    """One copy: the request of the cell that it is in the middle of, and what is to be changed when it
    goes on."""

    request: str
    count: int
    edits: dict[str, str] = {}


class Stops:
    """All of a session's."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._stops: dict[int, Stop] = {}
        self._asked: dict[str, int] = {}

    def reached(self, branch: Branch, frame: wire.Gated) -> None:
        """A cell waits at a gate: order the copy, or say why there is none."""
        pending = branch.pending.get(frame.parent)
        try:
            if pending is None or not pending.executes:
                raise Conflict("only a cell that runs stops at a gate")
            asked = self._asked.get(pending.id, 0)
            if asked >= MOST_OF_A_CELL:
                raise Conflict(f"the cell has stopped {MOST_OF_A_CELL} times; no more copies of it")
        except Conflict as refused:
            branch.send(wire.Answer(id=frame.id, text=str(refused)))
            return
        running = {cell: count for cell, count in self._asked.items() if cell in branch.pending}
        self._asked = running | {pending.id: asked + 1}
        before = self._snapshots.at_gate
        making = self._make(branch, frame, pending, before)
        self._snapshots.at_gate = asyncio.get_running_loop().create_task(making)

    async def _make(
        self, branch: Branch, frame: wire.Gated, pending: Pending, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            snapshot = await self._snapshots.take_at_gate(branch, frame, pending.count)
        except KernelRuntimeError as error:
            if not branch.link.closed:  # where the guest itself refused, it waits for nothing any more
                branch.send(wire.Answer(id=frame.id, text=str(error)))
            return
        self._stops[snapshot.number] = Stop(request=pending.id, count=pending.count)

    def listing(self) -> list[Snapshot]:
        """The copies there are, oldest first."""
        return [snapshot for snapshot in self._snapshots.listing() if snapshot.number in self._stops]

    def find(self, name: str | int) -> tuple[Snapshot, Stop]:
        """By name or number; ``NotFound`` for one that is not there (any more), ``Conflict`` for a snapshot that was not
        made at a gate."""
        known = ", ".join(str(made.number) for made in self.listing()) or "none"
        try:
            snapshot = self._snapshots.find(name)
        except NotFound:
            is_lost = str(name) in self._snapshots.kept.tree.lost
            why = "its process has ended" if is_lost else "it may have been dropped"
            raise NotFound(f"there is no copy {name} ({why}); copies made at gates: {known}") from None
        stop = self._stops.get(snapshot.number)
        if stop is None:
            raise Conflict(f"{snapshot.title} was not made at a gate; copies made at gates: {known}")
        return snapshot, stop

    async def stack(self, name: str | int) -> list[wire.Level]:
        """The calls at the gate, innermost first, with their local variables."""
        snapshot, stop = self.find(name)
        async with self._snapshots.frozen(snapshot.number) as ((_, frozen),):
            return await frozen.read("stack", _STACK, stop.edits)

    async def evaluate(self, name: str | int, expression: str) -> str:
        """The text of an expression at the gate; ``Invalid`` with what it raised."""
        snapshot, stop = self.find(name)
        return await self._value(snapshot, stop.edits, expression)

    async def set(self, name: str | int, variable: str, expression: str) -> str:
        """Have a local variable changed when the copy goes on; returns the text of its new value."""
        snapshot, stop = self.find(name)
        edits = stop.edits | {variable: expression}
        text = await self._value(snapshot, edits, variable)
        stop.edits = edits
        return text

    async def _value(self, snapshot: Snapshot, edits: dict[str, str], expression: str) -> str:
        async with self._snapshots.frozen(snapshot.number) as ((_, frozen),):
            kind, text = await frozen.read("evaluate", tuple[str, str], (edits, expression))
        if kind:
            raise Invalid(f"{expression}: {kind}: {text}")
        return text

    async def resume(self, name: str | int, sink: Sink) -> tuple[Pending, str]:
        """Go over to a copy; its cell goes on, and what it sends goes to ``sink``. Also what a person should be
        told: that the state that was left is not kept, and why."""
        snapshot, stop = self.find(name)
        request = wire.Request(id=stop.request, kind="execute_request", content=b"{}", count=stop.count)
        pending = Pending(request, sink)
        unkept = (await self._snapshots.resume(snapshot, pending, stop.edits)).unkept
        return pending, unkept and f"the state that was left is not kept, redo cannot bring it back: {unkept}"
