"""What guests have said and what became of them, kept by the front: bounded, and cheap while it comes."""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.log import colourless
from kernel_runtime.jupyter.page_text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = ("debug", "info", "warning", "error")
SOURCES = ("stdout", "stderr", "log", "host", "audit")
MOST_PIECES, MOST_CHARACTERS = 20_000, 4_000_000
#: Of one piece of output, so much is kept: its end.
MOST_PIECE = 64_000
MOST_LINE = 2_000
_LEVEL_OF = {"stdout": "info", "stderr": "warning"}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line. ``at``: seconds since 1970; ``cell``: the number of the cell, 0 for none."""

    at: float
    source: str
    level: str
    guest: str = ""
    cell: int = 0
    text: str


class _Piece(msgspec.Struct, frozen=True):
    number: int
    at: float
    source: str
    level: str
    guest: str
    cell: int
    text: str


class LogBook:
    """The newest of everything. Pieces are kept as they come, and cut into lines only when they are read.
    Threads may use it."""

    def __init__(self) -> None:
        self._pieces: deque[_Piece] = deque()
        self._size = 0
        self._lock = threading.Lock()
        self._numbers = count(1)
        self.newest = 0
        self.lost = 0

    def stream(self, name: str, text: str, cell: int = 0, guest: str = "") -> None:
        """A piece of stdout or stderr, as it comes."""
        self._add(name if name in _LEVEL_OF else "stderr", _LEVEL_OF.get(name, "warning"), text, cell, guest)

    def record(self, level: str, text: str, cell: int = 0, guest: str = "", source: str = "log") -> None:
        """One record of a guest's own, or of the host's on it."""
        self._add(source, level if level in LEVELS else "info", f"{one_line(text, MOST_LINE)}\n", cell, guest)

    def _add(self, source: str, level: str, text: str, cell: int, guest: str) -> None:
        if len(text) > MOST_PIECE:
            text = f"… {len(text) - MOST_PIECE} characters left out\n{text[-MOST_PIECE:]}"
        with self._lock:
            self.newest = next(self._numbers)
            self._pieces.append(_Piece(self.newest, time.time(), source, level, guest, cell, text))
            self._size += len(text)
            while self._size > MOST_CHARACTERS or len(self._pieces) > MOST_PIECES:
                self._size -= len(self._pieces.popleft().text)
                self.lost += 1

    def newest_first(self) -> Iterator[Line]:
        """Lines, put together from pieces that follow each other; the newest first."""
        group: list[_Piece] = []
        with self._lock:
            pieces = tuple(self._pieces)
        for piece in reversed(pieces):
            if group and not _belongs(piece, group[-1]):
                yield from _lines(group)
                group = []
            group.append(piece)
        if group:
            yield from _lines(group)


def _belongs(earlier: _Piece, later: _Piece) -> bool:
    """Whether the later piece goes on in the middle of a line of the earlier one."""
    same = (earlier.source, earlier.cell, earlier.guest) == (later.source, later.cell, later.guest)
    return same and not earlier.text.endswith("\n")


def _lines(group: list[_Piece]) -> Iterator[Line]:
    """``group``: pieces of one text, the newest first."""
    first = group[-1]
    text = "".join(piece.text for piece in reversed(group))
    for line in reversed(text.splitlines()):
        yield Line(
            at=first.at,
            source=first.source,
            level=first.level,
            guest=first.guest,
            cell=first.cell,
            text=one_line(colourless(line[:MOST_LINE]), MOST_LINE),
        )


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines: of this level or a graver one, of this source (empty: any), with every word."""

    level: str = LEVELS[0]
    source: str = ""
    text: str = ""

    def __call__(self, line: Line) -> bool:
        if LEVELS.index(line.level) < LEVELS.index(self.level) or (
            self.source and line.source != self.source
        ):
            return False
        words = self.text.casefold().split()
        return not words or all(
            word in f"{line.source} {line.level} {line.guest} {line.text}".casefold() for word in words
        )
