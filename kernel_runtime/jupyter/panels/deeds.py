"""What the panel of snapshots can do, each deed with the sentence that tells how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kernel_runtime.domain.errors import Conflict
from kernel_runtime.domain.snapshot import Snapshot
from kernel_runtime.jupyter import state_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.snapshot import Budget
    from kernel_runtime.jupyter.state_text import WrittenSince
    from kernel_runtime.workers.restoration import Restoration


class Board(Protocol):
    """The part of ``workers.snapshots.Snapshots`` that the panel uses."""

    @property
    def budget(self) -> Budget: ...
    @property
    def line(self) -> str: ...
    @property
    def base(self) -> int | None: ...
    @property
    def cell(self) -> int: ...
    @property
    def lines(self) -> list[str]: ...
    @property
    def undoable(self) -> int: ...
    @property
    def redoable(self) -> int: ...
    def listing(self) -> list[Snapshot]: ...
    def on_changed(self, listener: Callable[[], None]) -> Callable[[], None]: ...
    def drop(self, name: str | int) -> Snapshot: ...
    def pin(self, name: str | int, pinned: bool = True) -> Snapshot: ...
    async def restore(self, name: str | int, *, reseed: bool = False) -> Restoration: ...
    async def undo(self, cells: int = 1) -> Restoration: ...
    async def redo(self) -> Restoration: ...
    async def branch(self, line: str, start: str | int | None = None) -> Restoration | Snapshot: ...


class Deeds:
    """The deeds on one session's snapshots; each raises what prevents it. ``written``: None where nobody knows."""

    def __init__(self, board: Board, written: WrittenSince | None = None) -> None:
        self._board = board
        self._written = written

    async def restore(self, number: int) -> str:
        return await self._back(f"#{number} is back", await self._board.restore(number))

    async def undo(self) -> str:
        return await self._back("the last cell is undone", await self._board.undo())

    async def redo(self) -> str:
        return await self._back("taken back", await self._board.redo())

    async def branch(self, number: int, line: str) -> str:
        """A new line of state that begins at a snapshot; the present one stays where it is."""
        line = line.strip() or self.free_line()
        if line in self._board.lines:
            raise Conflict(f"there is a line {line!r} already; choose another name, or switch to it")
        left = self._board.line
        came = await self._board.branch(line, number)
        begins = f"the line {line} begins at #{number}; {left} stays where it was"
        return begins if isinstance(came, Snapshot) else await self._back(begins, came)

    async def switch(self, line: str) -> str:
        came = await self._board.branch(line)
        goes_on = f"the line {line} goes on where it was left"
        return goes_on if isinstance(came, Snapshot) else await self._back(goes_on, came)

    async def pin(self, number: int) -> str:
        """Pinned, or no longer."""
        pinned = not next(each.pinned for each in self._board.listing() if each.number == number)
        self._board.pin(number, pinned)
        return f"#{number} is kept whatever the budget says" if pinned else f"#{number} is no longer pinned"

    async def drop(self, number: int) -> str:
        self._board.drop(number)
        return f"#{number} is dropped"

    def free_line(self) -> str:
        """A name for the next line of state."""
        taken = {*self._board.lines, *(each.line for each in self._board.listing())}
        return next(name for n in range(2, len(taken) + 3) if (name := f"line-{n}") not in taken)

    async def _back(self, what: str, restoration: Restoration) -> str:
        """With the time it took, and what is not as it was then: what the magics say."""
        written = await state_text.written_by(self._written, restoration)
        after = f"{what} after {1000 * restoration.seconds:.0f} ms"
        return "; ".join([after, *state_text.as_it_is(restoration, written)])
