"""The terminal: what a guest prints is made harmless before it gets there.

A terminal obeys escape sequences (clipboard, title, key bindings, answers typed in the
person's name). Only colours pass, and nothing at all where colours are not wanted.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, TextIO

from kernel_runtime.cli.outcome import colours_wanted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_SEQUENCE = re.compile(
    r"\x1b\[(?P<colour>[0-9;:]*)m"  # SGR: colours and weights
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # any other CSI
    r"|\x1b[PX^_\]].*?(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, SOS, PM, APC with their text
    r"|\x1b[ -/]*[0-~]?"  # what is left of escapes
    r"|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]",  # control characters but tab, newline, return
    re.DOTALL,
)

#: Columns of what is no terminal.
_ENDLESS = 100_000


def harmless(text: str, *, colours: bool) -> str:
    """``text`` without anything a terminal would obey; colours stay if ``colours``."""
    return _SEQUENCE.sub(lambda m: m[0] if colours and m["colour"] is not None else "", text)


def one_line(text: str, width: int = 100) -> str:
    """A harmless, single, short line of foreign text."""
    line = " ".join(harmless(text, colours=False).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def cell(text: str) -> str:
    """A harmless line of foreign text for a table: short on a terminal, whole for another program."""
    return one_line(text) if sys.stdout.isatty() else one_line(text, sys.maxsize)


def write_guest_text(file: TextIO, text: str) -> None:
    """Guest output to a file of ours: as it is into a pipe, harmless onto a terminal."""
    if file.isatty():
        text = harmless(text, colours=colours_wanted())
    try:
        file.write(text)
    except UnicodeEncodeError:
        encoding = file.encoding or "ascii"
        file.write(text.encode(encoding, "backslashreplace").decode(encoding))
    file.flush()


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A rich console; it honours NO_COLOR and writes plain lines where there is no terminal."""
    from rich.console import Console

    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=True, emoji=False, markup=False)


def show_table(table: Table) -> None:
    """Within the columns of a terminal; for another program nothing is cut."""
    console(width=None if sys.stdout.isatty() else _ENDLESS).print(table)
