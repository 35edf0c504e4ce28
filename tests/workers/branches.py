"""A session's processes as the host sees them: the first one, the live branch, and frozen ones that stand still."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from kernel_runtime.workers import frozen

if TYPE_CHECKING:
    import pytest

    import kernel_runtime
    from kernel_runtime.workers.processes import Process
    from kernel_runtime.workers.session import Session as Inner


def inner_of(session: kernel_runtime.Session) -> Inner:
    """The workers' session behind a client's."""
    inner = session._session._session
    assert inner is not None
    return inner


def processes(inner: Inner) -> list[Process]:
    """Every process of it that is there now."""
    assert inner.init is not None
    return inner.init.meter.processes.look()


def strays(inner: Inner) -> list[Process]:
    """What is neither the first process nor a stopped frozen branch; the live branch is the first of them."""
    frozen = inner.snapshots.pids
    living = [p for p in processes(inner)[1:] if p.state not in "ZX"]
    return [p for p in living if not (p.pid in frozen and p.state in "Tt")]


def only_live_runs(inner: Inner, seconds: float = 20) -> bool:
    """Whether it comes to that: the first process, one live branch, and stopped frozen ones of the host's."""
    return run_beside(inner, 0, seconds)


def refuse_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a host that is an ordinary user's: what frozen branches hold, it must ask them."""

    def refused(rollup: int) -> int:
        os.close(rollup)
        raise PermissionError

    monkeypatch.setattr(frozen, "share", refused)


def run_beside(inner: Inner, count: int, seconds: float = 20) -> bool:
    """Whether it comes to so many running processes beside the live branch: a new frozen copy is stopped only
    when its session has read that it is one."""
    deadline = time.monotonic() + seconds
    while len(strays(inner)) != 1 + count and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(strays(inner)) == 1 + count
