"""``%limits``: what holds in this kernel and from where; answered by the front itself."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import show_amount
from kernel_runtime.jupyter.front_magics import HELP_WORDS
from kernel_runtime.jupyter.settings import LIMITS

if TYPE_CHECKING:
    from kernel_runtime.jupyter.settings import Settings

NAME = "%limits"
HELP = """%limits

    Show what this kernel's guest may use, and the place each amount comes from:
    the default, Jupyter configuration (KernelRuntime.*), the kernelspec, the
    environment (KERNEL_RUNTIME_*) or the notebook's metadata, which may only tighten:

        "metadata": {"kernel_runtime": {"limits": {"memory": "512M", "wall": "30s"}}}

    Answered by the trusted front, also while a cell is running.
"""
_MEANING = {
    "memory": "of the whole guest",
    "cpu": "of CPU time per cell",
    "cpus": "of CPU time at any moment; beyond it slower, not ended",
    "wall": "of time per cell",
    "session": "for the whole session",
    "pids": "processes and threads at once",
    "disk": "written to the layer in memory",
    "inodes": "files and directories in that layer",
    "file_size": "in one file",
    "open_files": "open at once in one process",
    "output": "of output per cell",
    "messages": "of output at length",
    "network": "over the network in total",
    "bandwidth": "over the network",
}

_FLOODS = {
    "cut": "cut: its middle is left out, the cell goes on",
    "end": "end: it ends its cell",
}
_ASKED = {f"?{NAME}", f"??{NAME}", f"{NAME}?", f"{NAME}??", *(f"{NAME} {word}" for word in HELP_WORDS)}


def recognise(code: str) -> str | None:
    """``"show"`` or ``"help"`` when the cell is nothing but this magic."""
    text = code.strip()
    if text == NAME:
        return "show"
    return "help" if text in _ASKED else None


def answer(what: str, settings: Settings) -> dict[str, str]:
    """The mime bundle that the cell displays."""
    if what == "help":
        return {"text/plain": HELP}
    rows = table(settings)
    return {"text/plain": as_text(rows, settings), "text/html": as_html(rows, settings)}


def table(settings: Settings) -> list[tuple[str, str, str]]:
    """(name, amount, place) of the level and each limit."""
    origin = settings.origins.get
    rows = [("level", str(settings.level), origin("level", "default"))]
    for name in LIMITS:
        amount = show_amount(name, getattr(settings.limits, name))
        meaning = f" {_MEANING[name]}" if amount != "not limited" else ""
        rows.append((name, amount + meaning, origin(name, "default")))
    rows.append(("flood", _FLOODS[settings.flood], origin("flood", "default")))
    return rows


def as_text(rows: list[tuple[str, str, str]], settings: Settings) -> str:
    """Aligned columns, for consoles."""
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    lines = [f"{name:<{widths[0]}}  {amount:<{widths[1]}}  {place}" for name, amount, place in rows]
    return "\n".join([*lines, *remarks(settings)])


def as_html(rows: list[tuple[str, str, str]], settings: Settings) -> str:
    """A plain table, for notebooks."""
    cells = ["<tr><th>limit</th><th>amount</th><th>from</th></tr>"]
    cells += ["<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows]
    notes = "".join(f"<p>{html.escape(text)}</p>" for text in remarks(settings))
    return f"<table>{''.join(cells)}</table>{notes}"


def remarks(settings: Settings) -> list[str]:
    """What was asked and not given, and what is wrong."""
    trouble = [f"No cell runs: {settings.error}"] if settings.error else []
    return [*filter(None, [settings.warning]), *settings.notes, *trouble]


def completions(before: str) -> list[str]:
    """Front magics that complete the word before the cursor."""
    return [NAME] if before.startswith("%") and NAME.startswith(before) and before != NAME else []
