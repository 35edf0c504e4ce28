"""The words that may come next in a manifest that somebody writes: keys, capability types, actions, levels.

They are read off the tables that a manifest is checked with. What is written so far need not be valid.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import inspect

from kernel_runtime.domain.limits import OF_APPS, Limits
from kernel_runtime.domain.scopes import ACTIONS, Kind
from kernel_runtime.domain.tables import ManifestTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    Path = tuple[str, ...]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_TOKEN = re.compile(
    r'#[^\n]*|"""(?:.*?"""|.*)|"(?:[^"\\\n]|\\.)*"?' r"|'''(?:.*?'''|.*)|'[^'\n]*'?|[\w.-]+|[^\S\n]+|.",
    re.DOTALL,
)
_WORD = re.compile(r"[\w.-]+")
_QUOTES = "\"'"
_ARRAYS = (inspect.ListType, inspect.VarTupleType)


class Next(NamedTuple):
    """What may stand at the end of a text, in the place of the ``word`` that is begun there."""

    offers: list[str]
    word: str


class _Table:
    """A table as far as it is written, or an array (``listed``); ``path``: what it is in the manifest."""

    def __init__(self, path: Path = (), *, listed: bool = False) -> None:
        self.path = path
        self.listed = listed
        self.assigned = listed
        self.key = ""
        self.values: dict[str, str] = {}

    @property
    def place(self) -> Path:
        """What the value is that is written now."""
        return self.path if self.listed else (*self.path, self.key)


class _Reader:
    """``open``: the tables and arrays that the end of the text is in; ``header``: how many brackets its header has begun
    with, 0 when it is in none."""

    def __init__(self, text: str) -> None:
        self.open = [_Table()]
        self.header = 0
        self.last = ""
        self._begins = True
        for part in _TOKEN.findall(text):
            self._read(part)
            self._begins = part == "\n" or (self._begins and part.isspace())
            self.last = part

    def _read(self, part: str) -> None:
        if self.header:
            self._in_header(part)
        elif part == "[" and self._begins and len(self.open) == 1:
            self.header, self.open = 1, [_Table()]
        elif part in ("{", "["):
            self.open.append(_Table(self.open[-1].place, listed=part == "["))
        elif part in ("}", "]"):
            self.open[1:] = self.open[1:-1]
        elif part == "=":
            self.open[-1].assigned = True
        elif part == "," or (part == "\n" and len(self.open) == 1):
            self.open[-1].assigned, self.open[-1].key = self.open[-1].listed, ""
        elif not part.isspace() and not part.startswith("#"):
            self._word(self.open[-1], part)

    def _in_header(self, part: str) -> None:
        if part == "[":
            self.header = 2
        elif part in ("]", "\n"):
            self.header = 0
        elif _WORD.fullmatch(part):
            self.open = [_Table(tuple(part.split(".")))]

    def _word(self, table: _Table, part: str) -> None:
        if not table.assigned:
            table.key = part.strip(_QUOTES)
        elif not table.listed:
            table.values[table.key] = part.strip(_QUOTES)


def following(text: str) -> Next:
    """What may come next in the text of a manifest, as TOML, that ends where the cursor is."""
    reader = _Reader(text)
    table, last = reader.open[-1], reader.last
    word = last if _WORD.fullmatch(last) else ""
    if last.startswith("#") or last[:3] in ('"""', "'''"):
        return Next([], "")
    if reader.header:
        return Next([name for name, listed in _tables() if listed == (reader.header == 2)], word)
    if table.assigned:
        return _value(reader, last)
    written = table.key != "" and not word
    return Next([] if written else [key for key in _keys(table.path) if key not in table.values], word)


def _value(reader: _Reader, last: str) -> Next:
    if last in ("]", "}") or (last[:1] in _QUOTES and last[1:].endswith(last[:1])):
        return Next([], "")  # it is written to its end
    place = reader.open[-1].place
    texts = _actions(reader) if place == ("permissions", "actions") else _choices(place)
    if last[:1] in _QUOTES and last:
        return Next(texts, last[1:])
    flags = ["true", "false"] if any(isinstance(kind, inspect.BoolType) for kind in _kinds(place)) else []
    return Next([*(f'"{text}"' for text in texts), *flags], last if _WORD.fullmatch(last) else "")


def _actions(reader: _Reader) -> list[str]:
    """What the permission that is written may ask for, when its type is."""
    word = next((table.values["type"] for table in reader.open[::-1] if "type" in table.values), "")
    kind = Kind(word) if word in list(Kind) else None
    return list(METHODS) if kind is Kind.NET else list(ACTIONS[kind]) if kind in ACTIONS else []


def _choices(place: Path) -> list[str]:
    """Texts that the value in this place is one of, where they are few."""
    found: list[str] = []
    for kind in _kinds(place):
        if isinstance(kind, inspect.EnumType):
            found += [str(member.value) for member in kind.cls]
        elif isinstance(kind, inspect.LiteralType):
            found += [str(value) for value in kind.values]
    return found


def _keys(path: Path) -> list[str]:
    """The keys of a table."""
    if path == ("limits",):
        return [*Limits.__struct_fields__, *OF_APPS]
    structs = [kind for kind in _kinds(path) if isinstance(kind, inspect.StructType)]
    return [field.encode_name for struct in structs for field in struct.fields]


def _tables(path: Path = ()) -> Iterator[tuple[str, bool]]:
    """Every table that may have a header of its own, by that name; whether it is one of several."""
    for key in _keys(path):
        place = (*path, key)
        kinds = _kinds(place)
        if any(isinstance(kind, inspect.StructType | inspect.DictType) for kind in kinds):
            yield ".".join(place), place == ("permissions",)
        if any(isinstance(kind, inspect.StructType) for kind in kinds):
            yield from _tables(place)


def _kinds(path: Path) -> list[inspect.Type]:
    """What may stand at a path: of an array, what its items are."""
    kinds: list[inspect.Type] = [inspect.type_info(ManifestTable)]
    for name in path:
        kinds = [found for kind in kinds for found in _below(kind, name)]
    return kinds


def _below(kind: inspect.Type, name: str) -> list[inspect.Type]:
    if isinstance(kind, inspect.DictType):
        return _plain(kind.value_type)
    fields = kind.fields if isinstance(kind, inspect.StructType) else ()
    return [found for field in fields if field.encode_name == name for found in _plain(field.type)]


def _plain(kind: Any) -> list[inspect.Type]:
    """Without unions, arrays and what annotates them."""
    if isinstance(kind, inspect.UnionType):
        return [found for one in kind.types for found in _plain(one)]
    return _plain(kind.item_type) if isinstance(kind, _ARRAYS) else [kind]
