"""The panel of snapshots: the tree, one choice in it, and what can be done with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import ipywidgets

from kernel_runtime.domain.amounts import counted, show_bytes
from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.snapshot import show_tree
from kernel_runtime.jupyter.panels import differences, picture
from kernel_runtime.jupyter.panels.acting import Acting, offer, row, show
from kernel_runtime.jupyter.panels.deeds import Deeds
from kernel_runtime.jupyter.panels.differences import escape
from kernel_runtime.jupyter.panels.style import SHEET

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.jupyter.panels.deeds import Board
    from kernel_runtime.jupyter.panels.differences import Diff
    from kernel_runtime.jupyter.state_text import WrittenSince

#: Changes that come together are drawn together.
DRAW_SECONDS = 0.1


class SnapshotView:
    """One panel. It redraws itself when the snapshots change, also while a cell runs. ``guest``: whose they are,
    where there are several; ``written``: which files were written since one."""

    def __init__(
        self,
        board: Board,
        diff: Diff | None = None,
        guest: str = "",
        written: WrittenSince | None = None,
    ) -> None:
        self._board = board
        self._title = f"Snapshots of {guest}" if guest else "Snapshots"
        self._diff = diff
        self._deeds = Deeds(board, written)
        self._acting = Acting(self._draw)
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._drawing = False
        self._make_parts()
        self.root = self._assemble()
        self._end = board.on_changed(self._draw_soon)
        self._choice.observe(lambda _: self._acting.soon(self._chosen), "value")
        self._draw()

    # -- parts -----------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        self._head = ipywidgets.HTML()
        self._picture = ipywidgets.HTML().add_class("kr-picture")
        self._choice = ipywidgets.ToggleButtons(options=[]).add_class("kr-rows")
        self._difference = ipywidgets.HTML()
        self._name = ipywidgets.Text(placeholder=self._deeds.free_line(), tooltip="name of the new line")
        self._lines = ipywidgets.Dropdown(options=[])
        self._others = ipywidgets.Dropdown(options=[])
        on_one, button = self._on_one, self._acting.button
        self._restore = button("Restore", "history", "go back to this snapshot", on_one(self._deeds.restore))
        self._restore.button_style = "primary"
        self._pin = button("Pin", "thumb-tack", "keep it whatever the budget says", on_one(self._deeds.pin))
        self._drop = button("Drop", "trash", "forget it; its memory comes back", on_one(self._deeds.drop))
        self._branch = button("Branch", "code-fork", "begin a new line of state here", on_one(self._branched))
        self._undo = button("Undo", "undo", "the state before the last cell", self._deeds.undo)
        self._redo = button("Redo", "repeat", "take back the last undo or restore", self._deeds.redo)
        self._switch = button("Switch", "exchange", "go over to this line of state", self._switched)
        self._compare = button("Compare", "columns", "which variables differ", on_one(self._compared))

    def _assemble(self) -> Any:
        stack = ipywidgets.Box([self._choice, self._picture]).add_class("kr-stack")
        on_chosen = [self._restore, self._pin, self._drop, self._branch, self._name]
        self._undo.add_class("kr-gap")
        self._switching = row(ipywidgets.Label("Line of state"), self._lines, self._switch)
        self._comparing = row(ipywidgets.Label("Compare the chosen one with"), self._others, self._compare)
        rows = [row(*on_chosen, self._undo, self._redo), self._switching, self._comparing]
        parts = [ipywidgets.HTML(SHEET), self._head, stack, *rows, self._acting.said, self._difference]
        return ipywidgets.VBox(parts).add_class("kr-panel")

    # -- what is shown ---------------------------------------------------------------------------

    async def look(self) -> None:
        """It is told of what changes."""

    def still(self) -> tuple[str, str]:
        """The tree as text and as HTML, as it is now."""
        self._draw()
        lines = show_tree(self._board.listing(), self._board.base)
        plain = "\n".join([self._summary(), *lines])
        return plain, f'{SHEET}<div class="kr-panel">{self._head.value}{self._picture.value}</div>'

    def close(self) -> None:
        """No more changes."""
        self._closed = True
        self._acting.close()
        self._end()
        if self._timer is not None:
            self._timer.cancel()

    def _draw_soon(self) -> None:
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(DRAW_SECONDS, self._draw)

    def _draw(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drawing = True
        try:
            self._draw_tree()
        finally:
            self._drawing = False
        self._chosen()

    def _draw_tree(self) -> None:
        board = self._board
        listing = board.listing()
        self._head.value = self._heading()
        self._picture.value = picture.draw(listing, board.base, board.line, board.cell)
        numbers = [(_label(each), each.number) for each in reversed(listing)]
        offer(self._choice, numbers)
        others = [option for option in board.lines if option != board.line]
        offer(self._lines, [(option, option) for option in others], first=True)
        show(self._switching, bool(others))
        self._name.placeholder = self._deeds.free_line()

    def _heading(self) -> str:
        held = sum(each.size or 0 for each in self._board.listing())
        meter = picture.bar(held, self._board.budget.memory)
        head = f"<b>{escape(self._title)}</b><span>{escape(self._summary())}</span>"
        return f'<div class="kr-head">{head}{meter}</div>'

    def _summary(self) -> str:
        listing = self._board.listing()
        held = sum(each.size or 0 for each in listing)
        budget = show_bytes(self._board.budget.memory)
        count = counted(len(listing), "snapshot") if listing else "none yet"
        return f"{count}, {show_bytes(held)} of {budget}" if held else count

    def _chosen(self) -> None:
        """Only what can be done is offered."""
        if self._drawing:
            return
        chosen = self._snapshot()
        idle = self._acting.idle
        able = chosen is not None and idle
        self._pin.disabled = not able
        inside = chosen is not None and bool(chosen.gate)  # it is resumed, with the rest of its cell
        for each in (self._restore, self._branch, self._name):
            each.disabled = not able or inside
        self._drop.disabled = not able or (chosen is not None and chosen.pinned)
        self._pin.description = "Unpin" if chosen is not None and chosen.pinned else "Pin"
        self._undo.disabled = not (idle and self._board.undoable)
        self._redo.disabled = not (idle and self._board.redoable)
        self._switch.disabled = not idle
        others = [each for each in reversed(self._board.listing()) if each != chosen]
        offer(self._others, [(_label(each), each.number) for each in others], first=True)
        show(self._comparing, self._diff is not None and len(others) > 0)
        self._compare.disabled = not able

    def _snapshot(self) -> Snapshot | None:
        """The chosen one, if it is still there."""
        return self._find(self._choice.value)

    def _find(self, number: int | None) -> Snapshot | None:
        return next((each for each in self._board.listing() if each.number == number), None)

    # -- what is done ----------------------------------------------------------------------------

    def _on_one(self, deed: Callable[[int], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
        async def on_the_chosen() -> str:
            chosen = self._snapshot()
            if chosen is None:
                raise NotFound("choose a snapshot first; the one that was chosen is gone")
            return await deed(chosen.number)

        return on_the_chosen

    async def _branched(self, number: int) -> str:
        said = await self._deeds.branch(number, self._name.value)
        self._name.value = ""
        return said

    async def _switched(self) -> str:
        return await self._deeds.switch(str(self._lines.value))

    async def _compared(self, number: int) -> str:
        first, second = self._find(number), self._find(self._others.value)
        if self._diff is None or first is None or second is None:
            raise NotFound("one of the two snapshots is gone")
        first, second = sorted((first, second), key=lambda each: each.number)
        rows = await self._diff(first, second)
        self._difference.value = differences.as_html(rows, first.title, second.title)
        count = len(differences.changes(rows))
        differ = "1 variable differs" if count == 1 else f"{count} variables differ"
        return f"{differ} from {first.title} to {second.title}"


def _label(snapshot: Snapshot) -> str:
    name = f" {snapshot.name}" if snapshot.name else ""
    when = f"after cell {snapshot.cell}" if snapshot.cell else "at the start"
    if snapshot.gate:
        when = f"at a gate in cell {snapshot.cell}"
    return f"#{snapshot.number}{name}, {when}"
