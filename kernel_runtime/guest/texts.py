"""Values as bounded texts on one line, whatever their ``__repr__`` does."""

from __future__ import annotations

import reprlib

from kernel_runtime.domain.variables import MAX_TEXT

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = MAX_TEXT
_short.maxlevel = 3


def short(value: object) -> str:
    """A bounded text of anything, on one line; a number of numpy's as the number that it is."""
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "item"):
        value = value.item() if getattr(value, "size", 0) == 1 else value
    return exactly(value)


def exactly(value: object) -> str:
    """A bounded text of anything, on one line, from which the type of a number can be told."""
    try:
        text = _short.repr(value)
    except Exception as error:  # noqa: BLE001 - whatever a __repr__ does
        text = f"<{type(value).__name__}: {type(error).__name__} in repr>"
    return short_text(str(text))


def error_text(error: object) -> str:
    """What an error says, on one line, whatever its ``__str__`` does."""
    try:
        text = str(error)[: 2 * MAX_TEXT]
    except Exception as another:  # noqa: BLE001 - whatever a __str__ does
        return f"<{type(another).__name__} in str>"
    return short_text("".join(c if c.isprintable() or c.isspace() else ascii(c)[1:-1] for c in text))


def short_text(text: str) -> str:
    """On one line, and cut where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
