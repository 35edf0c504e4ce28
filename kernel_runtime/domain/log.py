"""Log records of guests: structured, with levels, bounded."""

from __future__ import annotations

import enum
import re
from typing import Annotated, Any

import msgspec

#: The field of a record that says which stream it is a piece of; others are what a guest has logged.
STREAM = "stream"
MAX_MESSAGE, MAX_FIELDS, MAX_TEXT = 16_000, 50, 2000
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")

Message = Annotated[str, msgspec.Meta(max_length=MAX_MESSAGE)]
FieldName = Annotated[str, msgspec.Meta(max_length=100)]
Fields = Annotated[dict[FieldName, Any], msgspec.Meta(max_length=MAX_FIELDS)]


def colourless(text: str) -> str:
    """Without the colours of a terminal."""
    return _COLOUR.sub("", text)


class Severity(enum.StrEnum):
    """How much it matters; the later in this list, the more."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class Said(msgspec.Struct, frozen=True):
    """A piece of what a guest printed, or the traceback of its error (``stderr``): whole lines, as far as they fit."""

    stream: str
    level: Severity
    text: Message


class LogRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest said. ``at``: seconds since 1970 by the host's clock; ``number`` rises within a session."""

    number: int
    at: float
    level: Severity
    message: str
    fields: dict[str, str] = {}
    app: str = ""
    session: str = ""
