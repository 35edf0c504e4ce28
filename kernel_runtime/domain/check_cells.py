"""A cell's Python without IPython's own syntax: magics, ``!`` lines and ``?`` taken out and named.

Lines keep their numbers and columns. Nothing of IPython is imported: this reads foreign source
outside every guest, and must be cheap and unable to fail.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Cell magics whose body is Python that runs in the notebook's namespace.
PYTHON_CELLS = frozenset({"time", "timeit", "capture", "prun", "sandbox", "snakeviz", "memit", "mprun"})
_PYTHON_LINES = frozenset({"time", "timeit", "prun", "memit", "memray"})
_MAGIC = re.compile(
    r"(?P<indent>\s*+)(?P<target>[\w.,\[\]'\" ]*=\s*)?(?P<mark>!!|!|%%|%)(?P<rest>.*)", re.DOTALL
)
_HELP = re.compile(r"\s*(\?{1,2}\s*[%\w.*]+|[%\w.*\[\]'\"]+\?{1,2})\s*+(?:;\s*)?")
_NAME = re.compile(r"[\w.]+")
_OPTION = re.compile(r"(?:-\w++(?:\s*+\d++\b)?\s++|--[\w-]++(?:=\S++)?\s++)*+")
_STRING = re.compile(r"[rRbBuUfFtT]{0,3}('''|\"\"\"|'|\")")


class Magic(NamedTuple):
    """A magic or shell line: ``name`` is ``!`` or the magic's name; line and column from 1 and 0."""

    name: str
    line: int
    column: int


class Fragment(NamedTuple):
    """Python within a magic's line (``%time f(x)``)."""

    source: str
    line: int
    column: int


class Cell(NamedTuple):
    """``python`` has as many lines as the cell; where magics stood it has nothing, or ``pass``."""

    python: str
    magics: list[Magic]
    fragments: list[Fragment]


def split(source: str) -> Cell:
    """Take IPython's syntax out of ``source``."""
    lines = source.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is not None and lines[first].startswith("%%"):
        return _cell_magic(lines, first)
    return _line_magics(lines, Cell("", [], []))


def _cell_magic(lines: list[str], first: int) -> Cell:
    named = _NAME.match(lines[first][2:])
    name = named[0] if named else ""
    cell = Cell("", [Magic(name, first + 1, 0)], [])
    if name not in PYTHON_CELLS:
        return Cell("\n" * (len(lines) - 1), cell.magics, [])
    if name != "sandbox" and named:
        _add_fragment(cell, name, lines[first], 2 + named.end(), first + 1)
    return _line_magics([*([""] * (first + 1)), *lines[first + 1 :]], cell)


def _line_magics(lines: list[str], cell: Cell) -> Cell:
    scanner = _Scanner()
    kept: list[str] = []
    joined = False  # the line before was a magic that goes on here
    for number, line in enumerate(lines, 1):
        if joined:
            kept.append("")
            joined = line.rstrip().endswith("\\")
            continue
        found = _replaced(line, number, cell) if scanner.at_start else None
        if found is None:
            scanner.feed(line)
            kept.append(line)
        else:
            kept.append(found)
            joined = line.rstrip().endswith("\\")
    return Cell("\n".join(kept), cell.magics, cell.fragments)


def _replaced(line: str, number: int, cell: Cell) -> str | None:
    """What stands for a line of IPython's own syntax; None when it is Python."""
    if _HELP.fullmatch(line):
        return " " * (len(line) - len(line.lstrip())) + "pass"
    found = _MAGIC.fullmatch(line)
    if found is None:
        return None
    indent, target, rest = found["indent"], found["target"] or "", found["rest"]
    column = found.start("mark")
    if found["mark"].startswith("!"):
        cell.magics.append(Magic("!", number, column))
    else:
        named = _NAME.match(rest)
        if named is None:
            return None
        cell.magics.append(Magic(named[0], number, column))
        _add_fragment(cell, named[0], line, found.start("rest") + named.end(), number)
    return f"{indent}{target}None" if target else f"{indent}pass"


def _add_fragment(cell: Cell, name: str, line: str, start: int, number: int) -> None:
    if name not in _PYTHON_LINES:
        return
    while start < len(line) and line[start] == " ":
        start += 1
    options = _OPTION.match(line, start)
    begin = options.end() if options else start
    if line[begin:].strip():
        cell.fragments.append(Fragment(line[begin:], number, begin))


class _Scanner:
    """Knows whether the next line begins a statement: outside strings, brackets, continuations."""

    def __init__(self) -> None:
        self._quote = ""
        self._depth = 0
        self._continued = False

    @property
    def at_start(self) -> bool:
        return not (self._quote or self._depth or self._continued)

    def feed(self, line: str) -> None:
        index, self._continued = 0, False
        while index < len(line):
            index = self._in_string(line, index) if self._quote else self._in_code(line, index)
        if len(self._quote) == 1 and not line.endswith("\\"):
            self._quote = ""  # an unfinished string: the parser will say so

    def _in_string(self, line: str, index: int) -> int:
        if line[index] == "\\":
            return index + 2
        if line.startswith(self._quote, index):
            index += len(self._quote)
            self._quote = ""
            return index
        return index + 1

    def _in_code(self, line: str, index: int) -> int:
        char = line[index]
        if char == "#":
            return len(line)
        if char in "'\"":
            opened = _STRING.match(line, index)
            self._quote = opened[1] if opened else char
            return index + len(self._quote)
        if char in "([{":
            self._depth += 1
        elif char in ")]}":
            self._depth = max(0, self._depth - 1)
        elif char == "\\" and index == len(line) - 1:
            self._continued = True
        return index + 1
