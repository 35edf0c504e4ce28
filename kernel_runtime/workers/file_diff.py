"""One changed file beside the host's: a unified diff for text, sizes and digests for everything else."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import show_bytes
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.file_changes import Deed, show_name
from kernel_runtime.workers.overlay import digest, regular

if TYPE_CHECKING:
    from kernel_runtime.domain.file_changes import FileChange

#: Text beyond these is compared by digest. A guest can choose lines that are slow to compare, so the
#: number of those that differ is small.
MOST_TEXT = 1 << 20
MOST_LINES = 1000
MOST_SHOWN = 2000
MOST_DIGESTED = 1 << 30


def diff(change: FileChange, upper: int, lower: int) -> str:
    """What differs. ``Invalid`` for what is no file."""
    if change.kind != "file":
        raise Invalid(f"{show_name(change.path)} is {change.detail}: there is nothing to compare")
    before = None if change.deed is Deed.ADDED else _Side("the host's", lower, change.path)
    after = None if change.deed is Deed.REMOVED else _Side("the guest's", upper, change.path)
    sides = [side for side in (before, after) if side is not None]
    old, new = (side.lines if side else [] for side in (before, after))
    if old is None or new is None:
        return "\n".join(side.told for side in sides)
    return _unified(old, new, change.path, sides)


class _Side:
    """``lines``: None when it is not text, or too much of it."""

    def __init__(self, whose: str, directory: int, path: str) -> None:
        with regular(directory, path) as fd:
            size = os.fstat(fd).st_size
            data = os.pread(fd, MOST_TEXT + 1, 0)
            self.lines = _lines(data)
            told = digest(fd, size) if size <= MOST_DIGESTED else "not read"
        self.told = f"{whose}: {show_bytes(size)}, sha256 {told}"


def _lines(data: bytes) -> list[str] | None:
    if len(data) > MOST_TEXT or b"\0" in data:
        return None
    try:
        return data.decode().splitlines()
    except UnicodeDecodeError:
        return None


def _unified(old: list[str], new: list[str], path: str, sides: list[_Side]) -> str:
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    if old and new and max(len(old), len(new)) - head - tail > MOST_LINES:
        return "\n".join([f"more than {MOST_LINES} lines differ", *(side.told for side in sides)])
    context = max(0, head - 3)
    ends = [len(side) - max(0, tail - 3) for side in (old, new)]
    name = show_name(path)
    shown = difflib.unified_diff(
        old[context : ends[0]], new[context : ends[1]], f"{name} (host)", f"{name} (guest)", lineterm=""
    )
    lines = [_moved(line, context) for line in shown]
    more = len(lines) - MOST_SHOWN
    return "\n".join(lines[:MOST_SHOWN] + ([f"… and {more} more lines"] if more > 0 else []))


def _moved(line: str, by: int) -> str:
    """The numbers of a hunk's head, counted from the file's first line."""
    if not line.startswith("@@"):
        return line
    marks = line.split()
    return " ".join([marks[0], *(_count_on(mark, by) for mark in marks[1:3]), *marks[3:]])


def _count_on(mark: str, by: int) -> str:
    start, comma, length = mark[1:].partition(",")
    return f"{mark[0]}{int(start) + by}{comma}{length}"
