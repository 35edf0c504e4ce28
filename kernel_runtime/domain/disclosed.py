"""The secrets that were opened for one session: what takes them out of all it says grows with each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel_runtime.domain.redaction import Redactor

#: Characters that are looked through for one value at once: a few milliseconds. Some of the work is the same for any
#: number of values, as much as for eight.
_QUICK, _COMMON = 1 << 16, 8


class Disclosed:
    """Empty at first, and then free: texts and bytes come back as they are."""

    def __init__(self) -> None:
        self._values: set[tuple[str, bytes]] = set()
        self._redactor: Redactor | None = None

    def __bool__(self) -> bool:
        return self._redactor is not None

    def add(self, name: str, value: bytes) -> None:
        """From now on ``value`` is taken out; values that it had before stay known."""
        if (name, value) not in self._values:
            from kernel_runtime.domain.redaction import Redactor  # most sessions open none

            self._values.add((name, value))
            self._redactor = Redactor(self._values)

    def take(self, other: Disclosed) -> None:
        """From now on what ``other`` knows is taken out, too."""
        for name, value in tuple(other._values):
            self.add(name, value)

    def among(self, *texts: bytes) -> Disclosed:
        """Of the values only those that stand in one of the texts, in whichever form. May take a while."""
        found = Disclosed()
        for name, value in tuple(self._values) if self._stands_in(texts) else ():
            alone = Disclosed()
            alone.add(name, value)
            if alone._stands_in(texts):
                found.take(alone)
        return found

    def _stands_in(self, texts: tuple[bytes, ...]) -> bool:
        return any(self.bytes(text) != text for text in texts)

    def slow(self, size: int) -> bool:
        """Whether a text of this size is better looked through where nobody waits."""
        return size * (_COMMON + len(self._values)) > _QUICK * (_COMMON + 1)

    def text(self, text: str) -> str:
        """The text without the values."""
        return text if self._redactor is None else self._redactor.text(text)

    def cut(self, text: str) -> tuple[str, str]:
        """What may be passed on of a text that goes on, and what is to wait for the rest of it."""
        return (text, "") if self._redactor is None else self._redactor.cut(text)

    def bytes(self, data: bytes) -> bytes:
        """The bytes without the values."""
        return data if self._redactor is None else self._redactor.bytes(data)
