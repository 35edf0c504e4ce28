"""Between a guest and who looks at what comes out of it: the values of secrets that it was given are taken out.

Text may bring a value in pieces: what might be the beginning of one is held back for a moment.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.disclosed import Disclosed
    from kernel_runtime.workers.branch import Branch

    Sink = Callable[[wire.FromGuest], None]

T = TypeVar("T")
#: Seconds for which text is held back when nothing follows.
_HOLD = 0.2


class Concealing:
    """A sink before another one. Until a secret is opened everything passes as it is. What takes long to look through is
    looked through in a thread; what comes after it waits, and so does the branch that it came from (``live``)."""

    def __init__(
        self, disclosed: Disclosed, onward: Sink, live: Callable[[], Branch | None] = lambda: None
    ) -> None:
        self._disclosed = disclosed
        self._onward = onward
        self._live = live
        self._held: wire.Stream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[wire.FromGuest] = deque()
        self._working: asyncio.Task[None] | None = None

    def __call__(self, frame: wire.FromGuest) -> None:
        if self._working is not None:
            self._waiting.append(frame)
        elif not self._disclosed:
            self._onward(frame)
        elif self._disclosed.slow(_size(frame)):
            self._waiting.append(frame)
            branch = self._live()
            if branch is not None:
                branch.hold()
            self._working = asyncio.get_running_loop().create_task(self._work(branch))
        else:
            self._pass(*_looked_through(frame, self._taken(), self._disclosed))

    def flush(self) -> None:
        """Pass on what was held back."""
        held = self._taken()
        if held is not None:
            self._onward(_with_text(held, self._disclosed.text(held.text)))

    async def settled(self) -> None:
        """Everything that came was passed on."""
        while self._working is not None:
            await asyncio.wait([self._working])
        self.flush()

    async def _work(self, branch: Branch | None) -> None:
        try:
            while self._waiting:
                frame, held = self._waiting.popleft(), self._taken()
                self._pass(*await asyncio.to_thread(_looked_through, frame, held, self._disclosed))
        except Exception as error:  # noqa: BLE001 - whatever a frame sets off: its cell must not wait for ever
            self._waiting.clear()
            if branch is not None:
                branch.link.trouble(error)
        finally:
            self._working = None
            if branch is not None:
                branch.go_on()

    def _taken(self) -> wire.Stream | None:
        """What was held back: whoever calls passes it on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held = self._held, None
        return held

    def _pass(self, ready: list[wire.FromGuest], held: wire.Stream | None) -> None:
        for frame in ready:
            self._onward(frame)
        self._held = held
        if held is not None:
            self._timer = asyncio.get_running_loop().call_later(_HOLD, self.flush)


def _looked_through(
    frame: wire.FromGuest, held: wire.Stream | None, disclosed: Disclosed
) -> tuple[list[wire.FromGuest], wire.Stream | None]:
    """What may be passed on, and what is to be held back. ``held``: what was until now."""
    if held is not None and isinstance(frame, wire.Stream) and _are_one(held, frame):
        frame, held = _with_text(frame, held.text + frame.text), None
    ready: list[wire.FromGuest] = [] if held is None else [_with_text(held, disclosed.text(held.text))]
    if not isinstance(frame, wire.Stream):
        return [*ready, _cleaned(frame, disclosed)], None
    text, rest = disclosed.cut(frame.text)
    if text:
        ready.append(_with_text(frame, text))
    return ready, _with_text(frame, rest) if rest else None


def _are_one(held: wire.Stream, frame: wire.Stream) -> bool:
    return (held.parent, held.name) == (frame.parent, frame.name)


def _size(frame: wire.FromGuest) -> int:
    """What there is to look through."""
    if isinstance(frame, wire.Stream):
        return len(frame.text)
    if isinstance(frame, wire.Publish | wire.Reply):
        return len(frame.content) + len(frame.metadata) + sum(map(len, frame.buffers))
    return 0


def _cleaned(frame: wire.FromGuest, disclosed: Disclosed) -> wire.FromGuest:
    changed: dict[str, Any] = {}
    if isinstance(frame, wire.Publish | wire.Reply):
        changed["content"] = _cleaned_json(frame.content, disclosed)
        changed["metadata"] = _cleaned_json(frame.metadata, disclosed)
        changed["buffers"] = [disclosed.bytes(buffer) for buffer in frame.buffers]
    elif isinstance(frame, wire.Ask):
        changed["prompt"] = disclosed.text(frame.prompt)[: wire.MAX_SAID]
    return msgspec.structs.replace(frame, **changed) if changed else frame


def concealed(said: T, disclosed: Disclosed) -> T:
    """Values of ours that were made from a guest's words: the texts in them (in structs, lists, tuples, dicts) without
    the values of secrets."""
    return _texts(said, disclosed) if disclosed else said


def _texts(said: Any, disclosed: Disclosed) -> Any:
    if type(said) is str:
        return disclosed.text(said)
    if isinstance(said, list | tuple):
        return type(said)([_texts(one, disclosed) for one in said])
    if isinstance(said, dict):
        return {_texts(name, disclosed): _texts(one, disclosed) for name, one in said.items()}
    if isinstance(said, msgspec.Struct):
        fields = {name: _texts(getattr(said, name), disclosed) for name in said.__struct_fields__}
        return msgspec.structs.replace(said, **fields)
    return said


def _cleaned_json(data: bytes, disclosed: Disclosed) -> bytes:
    """As bytes; where a value was no text (a number, say) and nothing is left that is JSON, value by value."""
    clean = disclosed.bytes(data)
    if clean == data or _is_json(clean):
        return clean
    wire.check_json(data)
    return msgspec.json.encode(_walked(msgspec.json.decode(data), disclosed))


def _walked(value: Any, disclosed: Disclosed) -> Any:
    if isinstance(value, dict):
        return {disclosed.text(name): _walked(one, disclosed) for name, one in value.items()}
    if isinstance(value, list):
        return [_walked(one, disclosed) for one in value]
    text = value if isinstance(value, str) else str(value)
    clean = disclosed.text(text)
    return value if clean == text else clean


def concealed_value(value: wire.Value, disclosed: Disclosed) -> wire.Value:
    """A variable of the guest's without the values of secrets: in bytes and JSON their marks stand in their place.
    ``Conflict`` where that would make something else of it: an array or a table that holds one."""
    if not _holds_secret(value, disclosed):
        return value
    data = value.data
    if value.format == "bytes":
        data = disclosed.bytes(data)
    elif value.format == "json":
        wire.check_json(data)
        data = json.dumps(_walked(json.loads(data), disclosed), separators=(",", ":")).encode()
    clean = msgspec.structs.replace(value, data=data)
    if _holds_secret(clean, disclosed):
        raise Conflict(
            "the value of a secret is in it, and cannot be taken out of an array or a table; hand out the parts "
            "without it, or its text"
        )
    return clean


def _holds_secret(value: wire.Value, disclosed: Disclosed) -> bool:
    labels = concealed(value.meta, disclosed)
    return labels != value.meta or disclosed.bytes(value.data) != value.data


def _with_text(frame: wire.Stream, text: str) -> wire.Stream:
    return wire.Stream(parent=frame.parent, name=frame.name, text=text)


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
