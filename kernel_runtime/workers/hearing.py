"""What a guest prints where no cell shows it, as pieces for a log: whole lines, bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.amounts import show_bytes
from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.domain.log import MAX_MESSAGE, Said, Severity, colourless

if TYPE_CHECKING:
    from collections.abc import Callable

_LEVELS = {"stdout": Severity.INFO, "stderr": Severity.WARNING}


class _Error(msgspec.Struct):
    ename: str = ""
    evalue: str = ""
    traceback: list[str] = []


class Hearing:
    """A sink. ``limit``: characters that it keeps of all that is printed; an error is kept in any case."""

    def __init__(self, keep: Callable[[Said], None], limit: int) -> None:
        self._keep = keep
        self._left = limit
        self._limit = limit
        self._begun: dict[str, str] = {}
        self._failed = False
        self._closed = False

    def __call__(self, frame: wire.FromGuest) -> None:
        if self._closed:
            return
        if isinstance(frame, wire.Stream):
            self._stream(frame)
        elif isinstance(frame, wire.Publish) and frame.kind == "error" and not self._failed:
            self._failed = True
            self._error(frame.content)

    def close(self) -> None:
        """Keep the lines that have no end; what comes from now on is lost."""
        self._flush()
        self._closed = True

    def _stream(self, frame: wire.Stream) -> None:
        if frame.name not in _LEVELS:
            raise ProtocolViolation(f"no stream is called {frame.name[:80]!r}")
        if self._left < 0:
            return
        text, self._left = frame.text[: self._left], self._left - len(frame.text)
        lines, mark, rest = (self._begun.pop(frame.name, "") + text).rpartition("\n")
        self._say(frame.name, _LEVELS[frame.name], lines + mark)
        if len(rest) < MAX_MESSAGE and self._left >= 0:
            self._begun[frame.name] = rest
            return
        self._say(frame.name, _LEVELS[frame.name], rest)
        if self._left < 0:
            notice = (
                f"kernel_runtime: more than {show_bytes(self._limit)} were printed; the rest is left out\n"
            )
            self._say("stderr", Severity.WARNING, notice)

    def _error(self, content: bytes) -> None:
        """The traceback, of a long one its end."""
        self._flush()
        wire.check_json(content)
        try:
            error = msgspec.json.decode(content, type=_Error)
        except (msgspec.DecodeError, RecursionError) as trouble:
            raise ProtocolViolation(f"an error that is none: {trouble}") from None
        text = colourless("\n".join(error.traceback)) or f"{error.ename}: {error.evalue}"
        self._say("stderr", Severity.ERROR, text[-MAX_MESSAGE:])

    def _flush(self) -> None:
        begun, self._begun = self._begun, {}
        for name, text in begun.items():
            self._say(name, _LEVELS[name], text)

    def _say(self, stream: str, level: Severity, text: str) -> None:
        """In pieces, that end with lines where they can."""
        text, place = colourless(text), 0
        while place < len(text):
            end = place + MAX_MESSAGE
            if end < len(text):
                end = text.rfind("\n", place, end) + 1 or end
            self._keep(Said(stream, level, text[place:end]))
            place = end
