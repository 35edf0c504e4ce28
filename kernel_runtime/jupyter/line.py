"""A line that the person is asked to type in the thread that runs a cell, and which others may take back meanwhile."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Ends a reading. By default it is ignored, so one that comes late harms nothing.
_SIGNAL = signal.SIGURG
#: Seconds until it is sent again: a thread that is just about to wait does not notice it.
_AGAIN = 0.05


class Withdrawn(BaseException):
    """The line is not asked for any more. Passes what handles exceptions while it reads."""


class Line:
    """One line to be typed. ``answer`` gets it, or None where nobody types one. ``ours``: the host asks for it,
    not the guest."""

    def __init__(
        self, prompt: str, answer: Callable[[str | None], None], *, password: bool = False, ours: bool = False
    ) -> None:
        self.prompt = prompt
        self.answer = answer
        self.password = password
        self.ours = ours
        self._reading = False
        self._withdrawn = False
        self._over = threading.Event()

    def read(self, typed: Callable[[], str]) -> str:
        """What ``typed`` returns; ``Withdrawn`` as soon as nobody waits for it. Only the main thread can be told
        so while it reads."""
        if not in_main_thread():
            return typed()
        before = signal.signal(_SIGNAL, self._signalled)
        try:
            try:
                self._reading = True
                if self._withdrawn:
                    raise Withdrawn
                return typed()
            finally:
                self._reading = False
        finally:
            self._over.set()
            signal.signal(_SIGNAL, signal.SIG_DFL if before is None else before)

    def withdraw(self) -> None:
        """Nobody waits for it any more; what reads it now ends. From any thread."""
        self._withdrawn = True
        if self._reading:
            threading.Thread(target=self._end_reading, name="kernel_runtime withdrawal", daemon=True).start()

    def _end_reading(self) -> None:
        main = threading.main_thread().ident
        while main is not None and self._reading:
            signal.pthread_kill(main, _SIGNAL)
            self._over.wait(_AGAIN)

    def _signalled(self, *_: object) -> None:
        """In the thread that reads, between two of its steps; once, and only while it reads."""
        if self._reading and self._withdrawn:
            self._reading = False
            raise Withdrawn


def in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
