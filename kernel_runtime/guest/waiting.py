"""``os.wait()`` and its kind, for a process that has frozen copies among its children.

User code did not start them: whoever waits for *any* child must neither get one of them nor
wait for their sake. Waiting for a child by its pid is left as it is.
"""

from __future__ import annotations

import contextlib
import errno
import functools
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
        """Put the functions of ``os`` that wait for any child behind ``_first``."""
        waitpid, wait4 = os.waitpid, os.wait4
        os.waitpid = self._guarded(waitpid, waitpid, "pid", "options")
        os.wait4 = self._guarded(wait4, wait4, "pid", "options")
        os.wait3 = self._guarded(os.wait3, wait4, "options")
        os.wait = self._guarded(os.wait, waitpid)
        os.waitid = self._guarded_id(os.waitid)

    def _guarded(
        self, wait: Callable[..., Any], by_pid: Callable[[int, int], Any], *names: str
    ) -> Callable[..., Any]:
        """``by_pid`` answers like ``wait``, whose arguments have these names."""

        @functools.wraps(wait)
        def guarded(*arguments: Any, **named: Any) -> Any:
            given = dict(zip(names, arguments, strict=False)) | named
            wrong = len(arguments) + len(named) != len(names)
            if wrong or not self._pids or given.get("pid", _ANY) != _ANY:
                return wait(*arguments, **named)
            options = given.get("options", 0)
            return self._first(options | os.WEXITED, lambda pid: by_pid(pid, options))

        guarded.__module__ = "os"  # where pickle finds it
        return guarded

    def _guarded_id(self, waitid: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(waitid)
        def guarded(kind: int, number: int, options: int, /) -> Any:
            if not self._pids or kind != os.P_ALL:
                return waitid(kind, number, options)
            return self._first(options, lambda pid: waitid(os.P_PID, pid, options))

        guarded.__module__ = "os"
        return guarded

    def _first(self, options: int, by_pid: Callable[[int], Any]) -> Any:
        """What ``by_pid`` says of the first child to be waited for; ECHILD when there is none."""
        while True:
            pid = self._other(options)
            with contextlib.suppress(ChildProcessError):  # another thread has buried it
                return by_pid(pid)

    def _other(self, options: int) -> int:
        """The first child but a copy that has changed, as ``options`` of ``waitid`` ask for; one that
        has not if they ask not to wait."""
        while True:
            others = self._others()
            if not others:
                raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
            found = self._waitid(os.P_ALL, 0, options | os.WNOWAIT)
            if found is None:
                return others[0]
            if found.si_pid not in self._pids:
                return int(found.si_pid)
            self.bury()
            with contextlib.suppress(ChildProcessError):  # buried; pid 1 stops the others and wakes them
                self._waitid(os.P_PID, found.si_pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)

    def _others(self) -> list[int]:
        return [pid for pid in children() if pid not in self._pids]


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
