"""First processes without a pid namespace of their own: how they protect themselves, and kill."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from kernel_runtime.sandbox import landlock
from kernel_runtime.sandbox import syscalls as sc
from kernel_runtime.workers import tree

if TYPE_CHECKING:
    from collections.abc import Callable


def protect_apart(dumpable: bool) -> None:
    """Where no pid namespace protects the first process, a live branch leaves its Landlock domain
    for one below it, out of which it cannot signal the first."""
    sc.set_dumpable(dumpable)
    if dumpable:
        landlock.set_apart()


def killer(walled: bool) -> Callable[[], None]:
    """How a first process without a pid namespace kills its session, and nobody else."""
    own, parent = os.getpid(), os.getppid()
    if not walled or landlock.abi() < landlock.SCOPES_SINCE:

        def kill_found() -> None:
            if os.getpid() == own:
                tree.end_below(own)

        return kill_found

    def kill_scoped() -> None:
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
