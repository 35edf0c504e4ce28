"""The secrets that were opened for one session: what takes them out of all it says grows with each."""

from __future__ import annotations

from kernel_runtime.domain.redaction import Redactor


class Disclosed:
    """Empty at first, and then free: texts and bytes come back as they are. ``changes``: how often it grew."""

    def __init__(self) -> None:
        self._values: set[tuple[str, bytes]] = set()
        self._redactor = Redactor(())
        self.changes = 0

    def __bool__(self) -> bool:
        return bool(self._values)

    def add(self, name: str, value: bytes) -> None:
        """From now on ``value`` is taken out; values that it had before stay known."""
        if (name, value) not in self._values:
            self._values.add((name, value))
            self._redactor = Redactor(self._values)
            self.changes += 1

    def text(self, text: str) -> str:
        """The text without the values."""
        return self._redactor.text(text) if self._values else text

    def cut(self, text: str) -> tuple[str, str]:
        """What may be passed on of a text that goes on, and what is to wait for the rest of it."""
        return self._redactor.cut(text) if self._values else (text, "")

    def bytes(self, data: bytes) -> bytes:
        """The bytes without the values."""
        return self._redactor.bytes(data) if self._values else data
