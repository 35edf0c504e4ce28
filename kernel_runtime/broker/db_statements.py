"""Statements with named parameters, in the words of each driver: values never become part of the text."""

from __future__ import annotations

import re
from typing import Any

from kernel_runtime.domain.errors import Invalid

MISSING = "databases need more packages on the host: pip install 'kernel-runtime[db]'"
_GAP = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|\Z))+")
_WORD = re.compile(r"[A-Za-z]+")
_PLAIN = (type(None), bool, int, float, str, bytes)


def alchemy() -> Any:
    """The library; ``Invalid`` says how to get it."""
    try:
        import sqlalchemy
    except ImportError:
        raise Invalid(MISSING) from None
    return sqlalchemy


def parse_url(url: str) -> Any:
    """An URL of the operator's; what is wrong with it is not told to guests."""
    library = alchemy()
    try:
        return library.make_url(url)
    except (library.exc.ArgumentError, ValueError):
        raise Invalid("the database's URL cannot be read; see databases.toml") from None


def bound(sql: str, params: dict[str, Any], dialect: Any) -> tuple[str, dict[str, Any]]:
    """The text with the driver's marks, and the values for them; ``Invalid`` for one too many or too few."""
    library = alchemy()
    if "\0" in sql:
        raise Invalid("sql: a NUL byte is in it")
    for name, value in params.items():
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(item, _PLAIN) for item in values):
            raise Invalid(
                f"params: {name!r} is neither number, text, bytes, truth value, nothing, nor a list of them"
            )
    try:
        compiled = library.text(sql).bindparams(**params).compile(dialect=dialect)
    except library.exc.ArgumentError:
        raise Invalid(f"params: the statement has no mark for one of {', '.join(sorted(params))}") from None
    except library.exc.SQLAlchemyError as error:
        raise Invalid(f"sql: {error}") from None
    missing = [name for name in compiled.params if name not in params]
    if missing:
        raise Invalid(
            f"params: {', '.join(missing)} is missing (a colon that is none of a mark is written \\:)"
        )
    return str(compiled), dict(compiled.params)


def driver_said(error: BaseException) -> str:
    """The first line of what a database says of a statement, bounded."""
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__


def first_word(sql: str) -> str:
    """The command, in lower case, after comments (which nest) and parentheses; empty when there is none."""
    place = 0
    while place < len(sql):
        if gap := _GAP.match(sql, place):
            place = gap.end()
        elif sql.startswith("/*", place):
            place = _after_comment(sql, place)
        else:
            break
    word = _WORD.match(sql, place)
    return word[0].lower() if word else ""


def _after_comment(sql: str, start: int) -> int:
    depth = 0
    for mark in re.finditer(r"/\*|\*/", sql[start:]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return start + mark.end()
    return len(sql)
