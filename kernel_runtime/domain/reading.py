"""Tables → structs: the types of a struct decide, and complaints name file, line, key and what is near."""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.places import Place, Steps, advice

T = TypeVar("T")

MAX_TEXT = 1 << 20  # characters
_AT = re.compile(r"^(?P<message>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_ENUM = re.compile(r"Invalid enum value '?(.*?)'?", re.DOTALL)


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """TOML → tables; ``Invalid`` with the place."""
    if len(text) > MAX_TEXT:
        raise Invalid(f"{name}: more than {MAX_TEXT} characters are not read")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is Python's own complaint
        raise Invalid(f"{name}: not valid TOML: {error}") from None


def read_table(table: object, kind: type[T], place: Place) -> T:
    """A table → a struct of ``kind``, strictly; ``Invalid`` names the place and what would be right."""
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), kind, place) from None


def _explained(text: str, kind: type, place: Place) -> Invalid:
    match = _AT.match(text)
    message, path = (match["message"], _path(match["path"] or "")) if match else (text, ())
    info = _inside(inspect.type_info(kind), path)
    if unknown := _UNKNOWN.fullmatch(message):
        word = unknown[1]
        return place.wrong((*path, word), f"no key is called {word!r}; {advice(word, _fields(info))}")
    if missing := _MISSING.fullmatch(message):
        return place.wrong(path, f"the key {missing[1]!r} is missing")
    if value := _ENUM.fullmatch(message):
        return place.wrong(path, f"{value[1]!r} is not known here; {advice(value[1], _choices(info))}")
    return place.wrong(path, message[:1].lower() + message[1:])


def _path(text: str) -> Steps:
    """``$.permissions[0].type`` → ``("permissions", 0, "type")``; a key of a free table stays unnamed."""
    return tuple(int(index) if index else name for name, index in _STEP.findall(text) if name or index)


def _inside(info: inspect.Type, path: Steps) -> inspect.Type:
    for part in path:
        info = _plain(info)
        if isinstance(info, inspect.StructType):
            info = next((f.type for f in info.fields if f.encode_name == part), info)
        elif isinstance(info, inspect.VarTupleType | inspect.ListType):
            info = info.item_type
        elif isinstance(info, inspect.DictType):
            info = info.value_type
    return _plain(info)


def _plain(info: inspect.Type) -> inspect.Type:
    """Of alternatives, the one that has keys, items or choices."""
    if isinstance(info, inspect.Metadata):
        return _plain(info.type)
    if isinstance(info, inspect.UnionType):
        telling = (inspect.StructType, inspect.EnumType, inspect.LiteralType, inspect.VarTupleType)
        return next((_plain(one) for one in info.types if isinstance(one, telling)), info)
    return info


def _fields(info: inspect.Type) -> list[str]:
    return [field.encode_name for field in info.fields] if isinstance(info, inspect.StructType) else []


def _choices(info: inspect.Type) -> list[str]:
    if isinstance(info, inspect.EnumType):
        return [str(member.value) for member in info.cls]
    return [str(value) for value in info.values] if isinstance(info, inspect.LiteralType) else []
