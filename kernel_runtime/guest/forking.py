"""Forks of the process itself: nobody in it takes the copy for a child of the notebook's code."""

from __future__ import annotations

import contextlib
import os
import random
from typing import TYPE_CHECKING, TypeVar

from kernel_runtime import wire
from kernel_runtime.guest.waiting import Copies

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
#: How often a copy tries to lead a session: its original makes it the leader of a group once, at any time.
_TIMES = 2


class Forking:
    """``active`` while it forks a branch of itself (a fork of user code is none); ``copies``: those it has made."""

    def __init__(self) -> None:
        self.active = False
        self.copies = Copies()
        self.copies.install()

    def fork(self, at_once: Callable[[], T]) -> T | None:
        """None in the original; in the copy, what ``at_once`` returned. It does that before anything else: whatever
        Python runs counts references, and each page that they lie in becomes a copy's own, as do those of the
        functions that it returns to.

        Python's own generator seeds itself anew in a child: a copy goes on with the same numbers.
        """
        state, group = random.getstate(), os.getpgrp()
        self.active = True
        try:
            pid = os.fork()
            if pid:
                self.copies.add(pid)
                with contextlib.suppress(OSError):  # it has ended by now
                    os.setpgid(pid, pid)  # what the next cell does to its group does not reach the copy
                return None
            try:
                _lead_a_session(group)
                done = at_once()
                random.setstate(state)
                self.copies.clear()
            except BaseException:  # noqa: BLE001 - what cannot be a copy must not go on as if it were the original
                os._exit(wire.DAMAGED_STATUS)
            return done
        finally:
            self.active = False


def _lead_a_session(group: int) -> None:
    """One of its own, or the kernel would hang it up when the original ends: it does so with what is
    stopped. The leader of a group, which the original may have made of it, cannot: it goes back first,
    or goes on in a child where the original has ended already, with its group."""
    for _ in range(_TIMES):
        try:
            os.setpgid(0, group)
            os.setsid()
        except PermissionError:
            continue
        return
    if os.fork():
        os._exit(0)
    os.setsid()
