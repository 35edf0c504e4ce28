"""Functions and classes as rows of text: their source where it is known."""

from __future__ import annotations

import inspect
import linecache
import types
from typing import Any

from kernel_runtime.guest.contents import content_of_cell
from kernel_runtime.guest.digests import members_of
from kernel_runtime.guest.texts import short, short_text


def rows_of(value: Any) -> list[tuple[str, str, Any]]:
    """Functions line by line, classes member by member; then what no source shows: labels, texts, and what is
    to be compared."""
    if isinstance(value, type):
        bases = [base.__qualname__ for base in value.__bases__]
        rows: list[tuple[str, str, Any]] = [(".__bases__", ", ".join(bases), bases)]
        for name, item in members_of(value).items():
            rows += [(f".{name}{label}", text, compared) for label, text, compared in _member(item)]
        return rows
    function = inspect.unwrap(value)
    rows = [(f" line {number}", short_text(line), line) for number, line in enumerate(_source(function), 1)]
    for name in ("__defaults__", "__kwdefaults__", "__dict__"):
        if held := getattr(function, name):
            rows.append((f".{name}", short(held), held))
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    return [*rows, *((f" closure {name}", short(content_of_cell(cell)), cell) for name, cell in cells)]


def _member(item: Any) -> list[tuple[str, str, Any]]:
    inner = getattr(item, "__func__", getattr(item, "fget", item))
    is_function = isinstance(inspect.unwrap(inner), types.FunctionType)
    return rows_of(inner) if is_function else [("", short(item), item)]


def _source(function: Any) -> list[str]:
    """Its lines; none where the text of it is not known, or is no notebook's."""
    code = function.__code__
    lines = linecache.getlines(code.co_filename) if function.__module__ == "__main__" else []
    return [line.rstrip() for line in lines[code.co_firstlineno - 1 : _last_line(code)]]


def _last_line(code: types.CodeType) -> int:
    inner = (_last_line(each) for each in code.co_consts if isinstance(each, types.CodeType))
    return max(code.co_firstlineno, *(line or 0 for _, _, line in code.co_lines()), *inner)
