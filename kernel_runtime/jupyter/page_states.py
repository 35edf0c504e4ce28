"""States of a guest's widgets as the page was told them, for a page that comes while the guest is busy.

They are kept as text: as objects, what a guest makes up can be thirty times as large. Beyond a bound nothing
is kept, until the guest has told all its states anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.amounts import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    State = dict[str, Any]
    Path = Sequence[Any]

MOST_BYTES = 16 * MIB
#: What a model and a value cost beside their text, rather too high than too low.
_MODEL, _VALUE = 1024, 512

_values = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode


class Told(msgspec.Struct, frozen=True):
    """A model's state, each value as JSON; where its buffers belong, and they."""

    state: dict[str, msgspec.Raw]
    paths: list[Path]
    buffers: list[bytes]


class _Model:
    """As it was opened, and the values that were told since; ``size``: what that costs."""

    __slots__ = ("_buffers", "_changed", "_opened", "size")

    def __init__(self, state: State) -> None:
        self._opened = _encode(state)
        self._changed: dict[str, bytes] = {}
        self._buffers: dict[str, list[tuple[bytes, bytes]]] = {}
        self.size = _MODEL + len(self._opened)

    def change(self, state: State, paths: Sequence[Path], buffers: Sequence[bytes]) -> None:
        for name in {*state, *(str(path[0]) for path in paths)}:
            self._forget(name)
        for name, value in state.items():
            text = self._changed[name] = _encode(value)
            self.size += _cost(name, text)
        for path, buffer in zip(paths, buffers, strict=True):
            name, place = str(path[0]), _encode(path)
            self._buffers.setdefault(name, []).append((place, buffer))
            self.size += _cost(name, place, buffer)

    def _forget(self, name: str) -> None:
        if (text := self._changed.pop(name, None)) is not None:
            self.size -= _cost(name, text)
        for place, buffer in self._buffers.pop(name, ()):
            self.size -= _cost(name, place, buffer)

    def told(self) -> Told:
        changed = {name: msgspec.Raw(text) for name, text in self._changed.items()}
        held = [each for of_one in self._buffers.values() for each in of_one]
        return Told(
            state=_values.decode(self._opened) | changed,
            paths=[msgspec.json.decode(place) for place, _ in held],
            buffers=[buffer for _, buffer in held],
        )


def _cost(name: str, *texts: bytes) -> int:
    return _VALUE + 4 * len(name) + sum(map(len, texts))


class States:
    """Of all models of a guest. ``whole``: no state is missing that the page was told."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.whole = True
        self.size = 0
        self._most = most
        self._models: dict[str, _Model] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def begin(self) -> None:
        """All of them are about to be told."""
        self._clear()
        self.whole = True

    def lose(self) -> None:
        """Nobody knows them any more."""
        self._clear()
        self.whole = False

    def open(self, model: str, state: State, paths: Sequence[Path], buffers: Sequence[bytes]) -> None:
        """A model as it begins, or begins again."""
        self.close(model)
        if self.whole:
            found = self._models[model] = _Model(state)
            self.size += found.size
            self.change(model, {}, paths, buffers)

    def change(self, model: str, state: State, paths: Sequence[Path], buffers: Sequence[bytes]) -> None:
        """Some of its values."""
        found = self._models.get(model)
        if found is None:
            return
        self.size -= found.size
        found.change(state, paths, buffers)
        self.size += found.size
        if self.size > self._most:
            self.lose()

    def close(self, model: str) -> None:
        """Forget a model."""
        found = self._models.pop(model, None)
        self.size -= found.size if found else 0

    def told(self, model: str) -> Told | None:
        """The state of a model, if it is kept."""
        found = self._models.get(model)
        return None if found is None else found.told()

    def _clear(self) -> None:
        self._models.clear()
        self.size = 0
