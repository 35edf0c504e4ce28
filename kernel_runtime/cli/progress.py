"""Live progress of a notebook, cell by cell: a moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from kernel_runtime.cli.outcome import colours_wanted
from kernel_runtime.cli.terminal import harmless, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from kernel_runtime.jupyter.notebook import CellReport

_MARKS = {
    "ok": ("✓", "green"),
    "error": ("✗", "red"),
    "expected-error": ("✓", "yellow"),
    "skipped": ("–", "dim"),
    "not-run": ("·", "dim"),
}
_NOTES = {"expected-error": " (raised, as its tag says it may)", "skipped": " (skipped by its tag)"}


def seconds(amount: float) -> str:
    """A duration as people read it: ``0.42 s``, ``1 m 05 s``."""
    if amount < 60:
        return f"{amount:.2f} s" if amount < 10 else f"{amount:.1f} s"
    return f"{int(amount // 60)} m {int(amount % 60):02d} s"


class Progress:
    """A ``Watcher`` that shows each cell's place, first line and time on ``console``.

    With ``log_output`` the cells' text goes to the same place, above the moving line.
    """

    def __init__(self, console: Console, *, log_output: bool = False, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._log_output = log_output
        self._moving = console.is_terminal and not quiet
        self._total = 0
        self._done = 0
        self._spinner = Spinner("dots")
        self._doing = ""
        self._since = 0.0
        self._open_line = ""
        self._live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._line)

    def begin(self, cells: Sequence[CellReport]) -> None:
        self._total = len(cells)
        if self._moving:
            self._spin("starting the guest")
            self._live.start()

    def cell_started(self, cell: CellReport) -> None:
        self._spin(f"[{self._done + 1}/{self._total}] {one_line(cell.line, 60)}")

    def text(self, cell: CellReport, name: str, text: str) -> None:
        if not self._log_output:
            return
        lines = (self._open_line + text).splitlines(keepends=True)
        self._open_line = lines.pop() if lines and not lines[-1].endswith(("\n", "\r")) else ""
        self._say("".join(lines), name)

    def cell_ended(self, cell: CellReport) -> None:
        if self._open_line:
            self._say(self._open_line + "\n", "stdout")
            self._open_line = ""
        self._done += 1
        if self._quiet:
            return
        mark, style = _MARKS[cell.status]
        took = "" if cell.status == "skipped" else f"  {seconds(cell.seconds)}"
        line = Text.assemble(
            (mark, style), f" [{self._done}/{self._total}] {one_line(cell.line, 60)}", (took, "dim")
        )
        line.append(_NOTES.get(cell.status, ""), "dim")
        self._console.print(line)

    def close(self) -> None:
        if self._moving:
            self._live.stop()

    def _spin(self, text: str) -> None:
        self._doing, self._since = text, time.monotonic()

    def _line(self) -> RenderableType:
        elapsed = time.monotonic() - self._since
        taking = f"  {elapsed:.0f} s" if elapsed >= 1 else ""
        self._spinner.update(text=Text.assemble(f" {self._doing}", (taking, "dim")))
        return self._spinner

    def _say(self, text: str, name: str) -> None:
        if text:
            shown = Text.from_ansi(harmless(text, colours=colours_wanted()).rstrip("\n"))
            shown.style = "red" if name == "stderr" else ""
            self._console.print(shown)
