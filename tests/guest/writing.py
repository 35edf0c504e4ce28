"""A host that is no process: it takes what a writer sends and loads it here."""

from __future__ import annotations

import gc
import os
import pickle
import struct
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.domain.checkpoint import split
from kernel_runtime.guest.checkpoint_definitions import Restoring

if TYPE_CHECKING:
    from collections.abc import Callable


class Recorder:
    """The channel of a writer."""

    class File:
        """What a pickler writes."""

        def __init__(self) -> None:
            self.data = bytearray()

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

    has_frames = True

    def __init__(self) -> None:
        self._orders = [wire.Save(seed=1, leave_out=[]), wire.Known(digests=b"", last=True)]
        self._chunks: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._null = os.open(os.devnull, os.O_RDONLY)
        self.saved: list[tuple[int, list[str], list[bytes]]] = []

    def receive(self) -> Any:
        return self._orders.pop(0)

    def fileno(self) -> int:
        return self._null

    def close(self) -> None:
        os.close(self._null)

    def send(self, frame: Any) -> None:
        if isinstance(frame, wire.Chunks):
            start = 0
            sizes = struct.unpack(f"<{len(frame.sizes) // 4}I", frame.sizes)
            for digest, size in zip(split(frame.digests), sizes, strict=True):
                self._chunks[digest] = bytes(frame.data[start : start + size])
                start += size
        elif isinstance(frame, wire.SavedPart):
            self._parts.append(b"".join(map(self._chunks.__getitem__, split(frame.digests))))
        elif isinstance(frame, wire.SavedGroup):
            self.saved.append((frame.number, frame.names, self._parts))
            self._parts = []
        elif isinstance(frame, wire.Skipped):
            raise AssertionError(f"{frame.name} was not saved: {frame.reason}")

    @classmethod
    def groups(cls, write: Callable[[Any], None]) -> list[tuple[list[str], dict[str, Any]]]:
        """The groups that ``write`` sends, by their names and as they are loaded here."""
        channel = cls()
        try:
            write(channel)
        finally:
            gc.enable()  # a writer ends soon, and has it disabled
            channel.close()
        return [(names, _load(number, parts)) for number, names, parts in channel.saved]


def _load(number: int, parts: list[bytes]) -> dict[str, Any]:
    stream, *buffers = parts
    values = pickle.loads(stream, buffers=buffers)
    if number:
        return values
    Restoring.definitions = values["definitions"]
    return values["variables"]


_REMEMBERED_NOT = (int, float, type(None))


def identities(value: Any) -> list[Any]:
    """All that is in a value, in the order of a walk: types, contents, and who is the same object as whom.
    Not of what pickle does not remember, or of which there is but one: numbers, letters, the empty tuple."""
    said: list[Any] = []
    numbers: dict[int, int] = {}
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, _REMEMBERED_NOT) or (
            isinstance(one, str | bytes | tuple) and len(one) < 2 and not _held(one)
        ):
            said.append((type(one), one))
            continue
        met = id(one) in numbers
        said.append(
            (
                type(one),
                numbers.setdefault(id(one), len(numbers)),
                one if isinstance(one, str | bytes) else None,
            )
        )
        if not met:
            todo += _held(one)
    return said


def _held(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, list | tuple):
        return list(value)
    return list(getattr(value, "__dict__", {}).values())
