"""A zygote whose guests stumble on their way into the walls: at the step, and in the way, that the
plan's host name says (``NUMBER:exit``, ``NUMBER:raise`` or ``NUMBER:hang``)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import inspect
import os
import resource
import time
from typing import Any

from kernel_runtime.sandbox import enter, syscalls
from kernel_runtime.workers import zygote_main

_OS = ("open", "write", "mkdir", "makedirs", "chmod", "chown", "chdir", "setresuid", "setresgid", "setgroups")
_PLACES = [
    *(
        (syscalls, name)
        for name, value in vars(syscalls).items()
        if inspect.isfunction(value) and name[0] != "_"
    ),
    *((os, name) for name in _OS),
    (resource, "setrlimit"),
    (fcntl, "ioctl"),
]
_enter = enter.enter
_libc = ctypes.CDLL(None)


class Stumbling:
    """Counts what is asked of the kernel, and stumbles at one of them."""

    def __init__(self, at: int, how: str) -> None:
        self.count = 0
        self._at = at
        self._how = how

    def wrap(self, call: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self._at:
                self._stumble(call)
            return call(*arguments, **options)

        return counted

    def _stumble(self, call: Any) -> None:
        if self._how == "exit":
            os._exit(9)
        elif self._how == "raise":
            raise OSError(errno.EIO, f"stumbled at step {self._at}: {call.__name__}")
        _libc.prctl(syscalls.PR_SET_NAME, b"stumbled", 0, 0, 0)
        time.sleep(600)


def stumbling_enter(plan: Any, *arguments: Any) -> Any:
    at, _, how = plan.hostname.partition(":")
    stumbling = Stumbling(int(at), how)
    kept = [(module, name, getattr(module, name)) for module, name in _PLACES]
    for module, name, call in kept:
        setattr(module, name, stumbling.wrap(call))
    try:
        standing, missing = _enter(plan, *arguments)
    finally:
        for module, name, call in kept:
            setattr(module, name, call)
    return standing, missing | {"steps": str(stumbling.count)}


if __name__ == "__main__":
    enter.enter = stumbling_enter
    zygote_main.main()
