"""First processes without a pid namespace of their own: how they kill."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from kernel_runtime.sandbox import landlock
from kernel_runtime.workers import tree

if TYPE_CHECKING:
    from collections.abc import Callable


def killer(walled: bool) -> Callable[[set[int]], None]:
    """How a first process without a pid namespace kills its session, and nobody else. Nothing can be
    spared there: it has no frozen branches."""
    own, parent = os.getpid(), os.getppid()
    if not walled or landlock.abi() < landlock.SCOPES_SINCE:

        def kill_found(_: set[int]) -> None:
            if os.getpid() == own:
                tree.end_below(own)

        return kill_found

    def kill_scoped(_: set[int]) -> None:
        """All at once: behind Landlock's scope, "everybody" are the processes of this session."""
        if os.getpid() == own and not _can_signal(parent):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(-1, signal.SIGKILL)

    return kill_scoped


def _can_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def leave_ipc() -> None:
    """Without a namespace of its own, the guest's System V objects lie among the host's."""
