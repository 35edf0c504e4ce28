"""``os.wait()`` and its kind, for a process that has frozen copies among its children.

User code did not start them: whoever waits for *any* child must neither get one of them nor
wait for their sake. Waiting for a child by its pid is left as it is.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_ANY = -1


class Copies:
    """The pids of a process's frozen copies; ``install`` hides them from ``os``."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._waitpid = os.waitpid
        self._waitid = os.waitid

    def add(self, pid: int) -> None:
        self._pids.add(pid)

    def clear(self) -> None:
        """In a copy: its original's are not its own."""
        self._pids.clear()

    def __contains__(self, pid: int) -> bool:
        return pid in self._pids

    def bury(self) -> None:
        """Reap those that have ended."""
        for pid in list(self._pids):
            try:
                if self._waitpid(pid, os.WNOHANG)[0]:
                    self._pids.discard(pid)
            except ChildProcessError:
                self._pids.discard(pid)

    def install(self) -> None:
        """Put the functions of ``os`` that wait for any child behind ``_skip``."""
        wait3, wait4 = os.wait3, os.wait4
        os.waitpid = self._guarded(os.waitpid, 0)
        os.wait4 = self._guarded(wait4, 0)
        os.wait3 = self._guarded(lambda options: wait3(options), None)
        os.wait = self._guarded(os.wait, None)
        os.waitid = self._guarded_id(os.waitid)

    def _guarded(self, wait: Callable[..., Any], place: int | None) -> Callable[..., Any]:
        def guarded(*arguments: Any) -> Any:
            if self._pids and (place is None or arguments[place] == _ANY):
                self._skip(_options(arguments, place))
            return wait(*arguments)

        guarded.__name__, guarded.__doc__ = getattr(wait, "__name__", ""), wait.__doc__
        return guarded

    def _guarded_id(self, waitid: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(kind: int, number: int, options: int) -> Any:
            if self._pids and kind == os.P_ALL:
                self._skip(options)
            return waitid(kind, number, options)

        guarded.__name__, guarded.__doc__ = waitid.__name__, waitid.__doc__
        return guarded

    def _skip(self, options: int) -> None:
        """Until something other than a copy is there to be waited for; ECHILD when nothing can be."""
        while True:
            if not self._others():
                raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
            what = os.WEXITED | os.WNOWAIT | (options & os.WNOHANG)
            ended = self._waitid(os.P_ALL, 0, what)
            if ended is None or ended.si_pid not in self._pids:
                return
            self.bury()

    def _others(self) -> bool:
        return any(pid not in self._pids for pid in children())


def _options(arguments: tuple[Any, ...], place: int | None) -> int:
    options = arguments[1:] if place is not None else arguments
    return int(options[0]) if options else 0


def children() -> list[int]:
    """The pids of this process's children, ended ones too; none where the kernel does not list them."""
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children") as file:
                found += map(int, file.read().split())
        except OSError:
            continue  # a kernel built without it, or a thread that has just ended
    return found
