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
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|(\[\.\.\.\])")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_PATTERN = re.compile(r"Expected `str` matching regex .*", re.DOTALL)
_KIND = re.compile(r"Expected `(?P<wanted>[\w| ]+)`(?P<bound>[^,]*)(?:, got `(?P<got>\w+)`)?")
_KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
_FREE = "[...]"
#: Characters of a wrong value that are repeated.
_SHOWN = 80
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
        raise _explained(str(error), table, kind, place) from None


def _explained(text: str, table: object, kind: type, place: Place) -> Invalid:
    match = _AT.match(text)
    message, written = (match["message"], match["path"] or "") if match else (text, "")
    path = _named(_path(written), message, table, kind)
    found = _inside(inspect.type_info(kind), path)
    info = _plain(found)
    if unknown := _UNKNOWN.fullmatch(message):
        word = unknown[1]
        return place.wrong((*path, word), f"no key is called {word!r}; {advice(word, _fields(info))}")
    if missing := _MISSING.fullmatch(message):
        return place.wrong(path, f"the key {missing[1]!r} is missing" + ("" if path else _where(place)))
    if value := _ENUM.fullmatch(message):
        return place.wrong(path, f"{value[1]!r} is not known here; {advice(value[1], _choices(info))}")
    if _PATTERN.fullmatch(message) and isinstance(found, inspect.Metadata):
        allowed = (found.extra_json_schema or {}).get("description")
        return place.wrong(path, f"is to be {allowed}{_shown(table, path)}")
    return place.wrong(path, _in_words(message))


def _in_words(message: str) -> str:
    """msgspec's complaint about a type, for who writes TOML."""
    match = _KIND.fullmatch(message)
    if match is None:
        return message[:1].lower() + message[1:]
    kinds = set(match["wanted"].split(" | ")) - {"null"}
    wanted = [
        words for kind, words in _KINDS.items() if kind in kinds and (kind != "int" or "float" not in kinds)
    ]
    wanted += sorted(kinds - set(_KINDS))
    bound = match["bound"].replace("of length", "with a length").rstrip()
    got = f", not {_KINDS.get(match['got'], match['got'])}" if match["got"] else ""
    return f"is to be {' or '.join(wanted)}{bound}{got}"


def _where(place: Place) -> str:
    return (
        f" in [{'.'.join(map(str, place.inside))}]"
        if place.inside
        else " at the top, before the first [table]"
    )


def _path(text: str) -> Steps:
    """``$.permissions[0].type`` → ``("permissions", 0, "type")``; a key of a free table is ``[...]``."""
    return tuple(int(index) if index else name or free for name, index, free in _STEP.findall(text))


def _named(path: Steps, message: str, table: object, kind: type) -> Steps:
    """The path with the keys of free tables: each the first whose value alone is complained of in the same words."""
    if _FREE not in path:
        return path
    depth = path.index(_FREE)
    before, after = path[:depth], path[depth + 1 :]
    held = _value(table, before)
    for key, value in held.items() if isinstance(held, dict) else ():
        if _complaint(_alone(before, {key: value}), kind) == message:
            return _named((*before, key, *after), message, table, kind)
    return (*before, *(part for part in after if part != _FREE))


def _complaint(table: object, kind: type) -> str:
    try:
        msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        match = _AT.match(str(error))
        return match["message"] if match else ""
    return ""


def _alone(path: Steps, value: object) -> object:
    """A table that holds nothing but ``value`` at ``path``."""
    for part in reversed(path):
        value = [value] if isinstance(part, int) else {part: value}
    return value


def _shown(table: object, path: Steps) -> str:
    """The wrong text, where it can be found again."""
    try:
        value = _value(table, path)
    except (KeyError, IndexError, TypeError):
        return ""
    return f", not {value[:_SHOWN]!r}" if isinstance(value, str) else ""


def _value(table: Any, path: Steps) -> Any:
    for part in path:
        table = table[part]
    return table


def _inside(info: inspect.Type, path: Steps) -> inspect.Type:
    for part in path:
        info = _plain(info)
        if isinstance(info, inspect.StructType):
            info = next((f.type for f in info.fields if f.encode_name == part), info)
        elif isinstance(info, inspect.VarTupleType | inspect.ListType):
            info = info.item_type
        elif isinstance(info, inspect.DictType):
            info = info.value_type
    return info


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
