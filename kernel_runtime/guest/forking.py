"""Forks of the process itself: nobody in it takes the copy for a child of the notebook's code."""

from __future__ import annotations

import contextlib
import os
import random

from kernel_runtime.guest.waiting import Copies


class Forking:
    """``active`` while it forks a branch of itself (a fork of user code is none); ``copies``: those it has made."""

    def __init__(self) -> None:
        self.active = False
        self.copies = Copies()
        self.copies.install()

    def fork(self) -> bool:
        """True in the copy. Python's own generator seeds itself anew in a child: a copy goes on with the same numbers."""
        state, group = random.getstate(), os.getpgrp()
        self.active = True
        try:
            pid = os.fork()
            if pid:
                self.copies.add(pid)
                with contextlib.suppress(OSError):  # it has ended by now
                    os.setpgid(pid, pid)  # what the next cell does to its group does not reach the copy
                return False
            _lead_a_session(group)
            random.setstate(state)
            self.copies.clear()
            return True
        finally:
            self.active = False


def _lead_a_session(group: int) -> None:
    """One of its own, or the kernel would hang it up when the original ends: it does so with what is
    stopped. The leader of a group, which the original may have made of it, cannot: it goes back first,
    or goes on in a child where the original has ended already, with its group."""
    try:
        os.setsid()
    except PermissionError:
        try:
            os.setpgid(0, group)
        except PermissionError:
            if os.fork():
                os._exit(0)
        os.setsid()
