"""Where something stands in a TOML or JSON text, and complaints that name file, line and key."""

from __future__ import annotations

import difflib
import functools
import re
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_ITEM = re.compile(r"""[{"']""")

Steps = tuple[str | int, ...]


class Place(msgspec.Struct, frozen=True):
    """A text and the name it is known by; ``inside``: the path of the table in it that is read."""

    name: str
    text: str
    inside: Steps = ()

    def wrong(self, path: Sequence[str | int], message: str, near: str = "") -> Invalid:
        """The error for what stands at ``path``; ``near``: a word on the line that is meant."""
        key = show_path(path)
        line = self.line(path, near)
        where = f"{self.name}:{line}" if line else self.name
        return Invalid(f"{where}: {key}: {message}" if key else f"{where}: {message}")

    def line(self, path: Sequence[str | int], near: str = "") -> int | None:
        """The line (from 1) of what stands at ``path``, or of the nearest thing around it that can be found."""
        whole = (*self.inside, *path)
        lines, known = _looked_through(self.text)
        depth = next((n for n in range(len(whole), 0, -1) if whole[:n] in known), 0)
        line = known.get(whole[:depth])
        for part in whole[depth:]:
            line = _next(self.text, line or 1, part) or line
        return (_word(lines, line or 1, near) if near else None) or line


def show_path(path: Sequence[str | int]) -> str:
    """``("permissions", 0, "type")`` → ``permissions[0].type``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def advice(word: str, known: Iterable[str]) -> str:
    """``did you mean …?``, or what there is."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(word, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names) or 'none'}"


@functools.lru_cache(maxsize=2)
def _looked_through(text: str) -> tuple[list[str], dict[Steps, int]]:
    """Of a policy each rule is looked for: the text is read once for all of them."""
    lines = text.splitlines()
    return lines, toml_lines(lines)


def toml_lines(lines: Sequence[str]) -> dict[Steps, int]:
    """The lines of tables and of keys written out in TOML; what inline tables hold is not among them."""
    found: dict[Steps, int] = {}
    counts: dict[Steps, int] = {}
    table: Steps = ()
    for number, line in enumerate(lines, 1):
        if header := _HEADER.match(line):
            table = _resolved(_parts(header[2]), counts, new=header[1] == "[[")
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *_parts(key[1])), number)
    return found


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(text))


def _resolved(names: tuple[str, ...], counts: dict[Steps, int], *, new: bool) -> Steps:
    """The path of a header, with the numbers of the arrays it is in."""
    path: Steps = ()
    for depth, name in enumerate(names, 1):
        path = (*path, name)
        if new and depth == len(names):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _next(text: str, start: int, part: str | int) -> int | None:
    """The line of a key, or of the numbered item, at or after ``start``."""
    if isinstance(part, str):
        return _word(_looked_through(text)[0], start, part)
    items = _items(text, start)
    return items[part] if part < len(items) else None


@functools.lru_cache(maxsize=8)
def _items(text: str, start: int) -> list[int]:
    """The lines at or after ``start`` that begin an item each."""
    lines = _looked_through(text)[0]
    return [number for number, line in enumerate(lines[start - 1 :], start) if _ITEM.search(_values(line))]


def _values(line: str) -> str:
    """What stands right of the key, or the whole line."""
    return line.partition("=")[2] if _KEY.match(line) else line


def _word(lines: Sequence[str], start: int, word: str) -> int | None:
    pattern = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])")
    for number, line in enumerate(lines[start - 1 :], start):
        if pattern.search(line):
            return number
    return None
