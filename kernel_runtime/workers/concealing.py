"""Between a guest and who looks at its outputs: the values of secrets that it was given are taken out.

Text may bring a value in pieces: what might be the beginning of one is held back for a moment.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime import wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.disclosed import Disclosed

    Sink = Callable[[wire.FromGuest], None]

#: Seconds for which text is held back when nothing follows.
_HOLD = 0.2


class Concealing:
    """A sink before another one. Until a secret is opened everything passes as it is."""

    def __init__(self, disclosed: Disclosed, onward: Sink) -> None:
        self._disclosed = disclosed
        self._onward = onward
        self._held: wire.Stream | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, frame: wire.FromGuest) -> None:
        if not self._disclosed:
            self._onward(frame)
        elif isinstance(frame, wire.Stream):
            self._stream(frame)
        else:
            self.flush()
            self._onward(self._cleaned(frame))

    def flush(self) -> None:
        """Pass on what was held back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held = self._held, None
        if held is not None:
            self._onward(_with_text(held, self._disclosed.text(held.text)))

    def _stream(self, frame: wire.Stream) -> None:
        held = self._held
        if held is not None and (held.parent, held.name) == (frame.parent, frame.name):
            frame = _with_text(frame, held.text + frame.text)
            self._held = None
        self.flush()
        ready, rest = self._disclosed.cut(frame.text)
        if ready:
            self._onward(_with_text(frame, ready))
        if rest:
            self._held = _with_text(frame, rest)
            self._timer = asyncio.get_running_loop().call_later(_HOLD, self.flush)

    def _cleaned(self, frame: wire.FromGuest) -> wire.FromGuest:
        changed: dict[str, Any] = {}
        if isinstance(frame, wire.Publish | wire.Reply):
            changed["content"] = self._cleaned_json(frame.content)
            changed["metadata"] = self._cleaned_json(frame.metadata)
            changed["buffers"] = [self._disclosed.bytes(buffer) for buffer in frame.buffers]
        elif isinstance(frame, wire.Ask):
            changed["prompt"] = self._disclosed.text(frame.prompt)[: wire.MAX_SAID]
        return msgspec.structs.replace(frame, **changed) if changed else frame

    def _cleaned_json(self, data: bytes) -> bytes:
        """As bytes; where a value was no text (a number, say) and nothing is left that is JSON, value by value."""
        clean = self._disclosed.bytes(data)
        if clean == data or _is_json(clean):
            return clean
        wire.check_json(data)
        return msgspec.json.encode(self._walked(msgspec.json.decode(data)))

    def _walked(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._disclosed.text(name): self._walked(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self._walked(one) for one in value]
        if isinstance(value, str):
            return self._disclosed.text(value)
        text = str(value)
        return value if self._disclosed.text(text) == text else self._disclosed.text(text)


def _with_text(frame: wire.Stream, text: str) -> wire.Stream:
    return wire.Stream(parent=frame.parent, name=frame.name, text=text)


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
