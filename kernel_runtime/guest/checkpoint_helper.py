"""A writer's helper: a copy of it that does some of its work on another core.

Nothing depends on it. One that cannot be had, is slow or dies costs nothing but its help.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Helper:
    """A child that works, and writes what it makes into a pipe, whose other end is ``pipe``."""

    def __init__(self, work: Callable[[int], None], let_go: Callable[[], None]) -> None:
        self.pipe, end = os.pipe()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self.pipe)
            os.close(end)
            raise
        if self._pid == 0:
            self._live(work, let_go, end)
        os.close(end)

    def _live(self, work: Callable[[int], None], let_go: Callable[[], None], end: int) -> None:
        """Its whole life; when the writer ends, so does the pipe."""
        try:
            let_go()
            os.close(self.pipe)
            work(end)
        finally:
            os._exit(0)

    def end(self) -> None:
        """Its help is no longer needed. Nobody waits until its memory is taken apart: the writer ends soon."""
        os.close(self.pipe)
        os.kill(self._pid, signal.SIGKILL)


def begin(work: Callable[[int], None], let_go: Callable[[], None]) -> Helper | None:
    """A helper that does ``work`` with its end of the pipe. ``let_go``: it closes what is the writer's alone."""
    if len(os.sched_getaffinity(0)) < 2:
        return None
    try:
        return Helper(work, let_go)
    except OSError:  # no process or descriptor may be had
        return None
