"""Waiting for children as user code does it: a child that only leaves a copy behind is none of its own."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES = ("wait", "wait3", "wait4", "waitid", "waitpid")
_waitpid = os.waitpid


def pass_over(leaving: list[int]) -> None:
    """From now on no ``os.wait…`` tells of the children that are listed here at that time."""
    for name in _NAMES:
        setattr(os, name, _passing_over(getattr(os, name), leaving))


def _passing_over(wait: Callable[..., Any], leaving: list[int]) -> Callable[..., Any]:
    @functools.wraps(wait)
    def waits(*args: Any, **named: Any) -> Any:
        while True:
            ended = wait(*args, **named)
            pid = 0 if ended is None else ended[0]  # of waitid's result as well
            if pid not in leaving:
                return ended
            leaving.remove(pid)

    return waits


def bury(leaving: list[int]) -> None:
    """Take those off the list that have ended."""
    for pid in list(leaving):
        try:
            if _waitpid(pid, os.WNOHANG)[0]:
                leaving.remove(pid)
        except ChildProcessError:
            leaving.remove(pid)


def succeeded(pid: int) -> bool:
    """Wait for this child; whether it ended well."""
    return _waitpid(pid, 0)[1] == 0
