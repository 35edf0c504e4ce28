"""What a person presses while a cell runs: once it has said something, it runs for certain."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def at_first_output(act: Callable[[], None]) -> Callable[[object], None]:
    """Do it once, in a thread: what is told of outputs may not wait for the session itself."""
    begun = threading.Event()

    def note(_: object) -> None:
        if not begun.is_set():
            begun.set()
            threading.Thread(target=act).start()

    return note
