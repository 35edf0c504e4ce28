"""States of a program's guest: kept, gone back to, compared, written to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.client import arguments
from kernel_runtime.client.gates import AsyncGates
from kernel_runtime.workers.durable import kept_in_memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernel_runtime.domain.checkpoint import Checkpoint
    from kernel_runtime.domain.difference import Difference
    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.workers.checkpoints import Restored
    from kernel_runtime.workers.restoration import Restoration


_NAME = "a name, like 'clean'"


class AsyncStates(AsyncGates):
    """What an ``AsyncSession`` does with its snapshots and checkpoints."""

    async def snapshot(
        self, name: str = "", *, pin: bool = False, refuse: bool = False, durable: bool = False
    ) -> Snapshot:
        """Keep the present state. ``pin``: whatever the budget says; ``refuse``: raise
        ``ExternalStateError`` while the code holds sockets or child processes, which no copy has.
        ``durable``: on disk as well, as ``checkpoint(name)`` does, which is in the snapshot's ``checkpoint``; where
        that fails the snapshot is there all the same, and the error says so.

        Raises ``UnsafeThreads`` naming the threads that run beside the code, ``Conflict`` while code
        runs or for a name that is taken, ``Invalid`` for one that is no name.
        """
        session, name = self._open, arguments.text(name, "snapshot", _NAME)
        made = await session.snapshots.take(name, pinned=pin, refuse=refuse)
        if not durable:
            return made
        with kept_in_memory(made, f"checkpoint({name!r})"):
            return msgspec.structs.replace(made, checkpoint=await session.checkpoint(name))

    async def restore(self, name: str | int, *, reseed: bool = False) -> Restoration:
        """Go back to a snapshot, by name or number; as often as you like. ``reseed``: ``random`` and
        ``np.random`` begin anew, while generators of your own go on from where they were. The present state can be had back by ``redo``."""
        return await self._open.snapshots.restore(arguments.title(name, "restore"), reseed=reseed)

    async def undo(self, runs: int = 1) -> Restoration:
        """The state before the last ``runs`` runs. Files that were written stay written. ``Conflict`` where there is
        no snapshot before them: it says why, and which other number of runs can be undone. ``unkept`` of what is
        returned (by ``restore``, too): why ``redo`` cannot bring back what was left, if it cannot."""
        return await self._open.snapshots.undo(arguments.whole(runs, "undo"))

    async def redo(self) -> Restoration:
        """Take back the last ``undo`` or ``restore``; ``Conflict`` where what it left is not kept, with the reason."""
        return await self._open.snapshots.redo()

    async def branch(self, line: str) -> Restoration | Snapshot:
        """Go over to the line of state ``line``: where it was left, or a new one that begins here."""
        return await self._open.snapshots.branch(arguments.text(line, "branch", _NAME))

    @property
    def line(self) -> str:
        """The line of state that runs (``main`` at first)."""
        return self._open.snapshots.line

    @property
    def lines(self) -> list[str]:
        """The lines of state that ``branch`` can go over to, and the one that runs."""
        return self._open.snapshots.lines

    @property
    def current(self) -> int | None:
        """The number of the snapshot that the present state came from, if there is one."""
        return self._open.snapshots.base

    def snapshots(self) -> list[Snapshot]:
        """All of them, the automatic ones too, oldest first."""
        return self._open.snapshots.listing()

    async def pin(self, name: str | int, pinned: bool = True) -> Snapshot:
        """Keep a snapshot whatever the budget says, or no longer."""
        return self._open.snapshots.pin(arguments.title(name, "pin"), pinned)

    async def drop(self, name: str | int) -> Snapshot:
        """Forget a snapshot."""
        return self._open.snapshots.drop(arguments.title(name, "drop"))

    async def checkpoint(self, label: str = "") -> Checkpoint:
        """Write the variables to disk, where they survive this process: what has not changed since
        the last time is not written again. ``skipped`` names what cannot be saved, with the reason. One with a
        label stays until it is removed; others go when there are more than 20 of this session."""
        return await self._open.durable.save(arguments.text(label, "checkpoint", _NAME))

    async def load(
        self, checkpoint: str, *, names: Iterable[str] | None = None, force: bool = False
    ) -> Restored:
        """Bring the variables of a checkpoint back, by id, beginning of an id, or label. ``names``:
        only these; ``NotFound`` for one that is not inside. ``Conflict`` for another Python or other packages,
        unless ``force``. A label means this session's own newest, or the newest of the only other session or notebook
        that has one (then ``Restored.of`` says whose it is; several are a ``Conflict`` that lists them). So a session
        without a name finds what an earlier one has kept. ``Restored.unkept``: why ``undo`` cannot take that back, if it
        cannot."""
        wanted = arguments.names(names, "load: names")
        name = arguments.text(checkpoint, "load", "a checkpoint's id or label, like 'monday'")
        return (await self._open.durable.load(name, names=wanted, force=force))[1]

    async def diff(self, a: str | int, b: str | int | None = None) -> Difference:
        """The variables added, removed and changed between two snapshots, or one and now: types,
        shapes, sizes, the first places that differ. ``print`` shows it."""
        other = None if b is None else arguments.title(b, "diff")
        return await self._open.diff(arguments.title(a, "diff"), other)

    async def written_since(self, name: str | int) -> list[str]:
        """The files that were written since a snapshot: going back to it leaves them as they are."""
        return await self._open.written_since(arguments.title(name, "written_since"))
