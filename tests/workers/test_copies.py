"""What a frozen copy does at once, and takes for itself: little more than the fork alone."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.errors import GuestCodeError, KernelRuntimeError
from kernel_runtime.guest.scores import OOM_SCORE_FROZEN, OOM_SCORE_LIVE
from tests.workers.branches import inner_of, only_live_runs, processes, strays

if TYPE_CHECKING:
    from collections.abc import Callable

    import kernel_runtime

#: Behind the name of a process, in its ``stat``: pages that it had to be given.
_FAULTS = 7
CHILD = "import os, signal\nchild = os.fork()\nif child == 0: signal.pause()\nchild"


def _of(session: kernel_runtime.Session, pid: int, name: str) -> str:
    init = inner_of(session).init
    assert init is not None
    with os.fdopen(init.meter.processes.open(pid, name)) as file:
        return file.read()


def _faults(session: kernel_runtime.Session, pid: int) -> int:
    return int(_of(session, pid, "stat").rpartition(")")[2].split()[_FAULTS])


def _private(session: kernel_runtime.Session, pid: int) -> int:
    """Bytes; skips where the host may not look into a process that hides."""
    try:
        lines = _of(session, pid, "smaps_rollup").splitlines()
    except PermissionError:
        pytest.skip("needs root, or a copy that does not hide")
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def _copy_of(session: kernel_runtime.Session, name: str) -> int:
    inner = inner_of(session)
    session.snapshot(name)
    (pid,) = inner.snapshots.kept.source(inner.snapshots.find(name)).pids
    return pid


def _score(session: kernel_runtime.Session, pid: int) -> int:
    return int(_of(session, pid, "oom_score_adj"))


def _live_score(session: kernel_runtime.Session) -> int:
    assert only_live_runs(inner_of(session))
    return _score(session, strays(inner_of(session))[0].pid)


@pytest.fixture
def resting(open_session: Callable[..., kernel_runtime.Session]) -> kernel_runtime.Session:
    session = open_session(automatic=False)
    for _ in range(3):
        session.run("x = 1")
    return session


def test_a_copy_copies_fewer_pages_than_a_child_of_a_cell_that_does_nothing(
    resting: kernel_runtime.Session,
) -> None:
    copied = _faults(resting, _copy_of(resting, "point"))
    child = int(resting.run(CHILD).result or 0)
    while _of(resting, child, "stat").rpartition(")")[2].split()[0] != "S":
        time.sleep(0.01)  # it has not come to its wait yet
    plain = _faults(resting, child)
    resting.run("os.kill(child, 9); os.waitpid(child, 0)")
    assert 0 < copied < plain


def test_a_copy_has_no_more_than_2_mib_of_its_own(resting: kernel_runtime.Session) -> None:
    """Whatever the live branch has written to until it rests again is among them: the copy has the page as it was."""
    found = [_private(resting, _copy_of(resting, name)) for name in ("a", "b", "c")]
    assert all(0 < size <= 2 * MIB for size in found), found


def test_when_memory_runs_out_the_live_branch_goes_before_its_copies_and_the_first_process_last(
    resting: kernel_runtime.Session,
) -> None:
    """Also a branch that was one of them; what a cell has said about itself holds until the next copy."""
    own = int(Path("/proc/self/oom_score_adj").read_text())
    if own > OOM_SCORE_FROZEN:
        pytest.skip(f"the tests have a score of {own}: no ordinary user may lower it")
    assert _score(resting, _copy_of(resting, "point")) == OOM_SCORE_FROZEN
    assert _live_score(resting) == OOM_SCORE_LIVE
    resting.restore("point")
    write = "with open('/proc/self/oom_score_adj', 'w') as file: file.write('{}')"
    resting.run(write.format(own), check=True)
    assert _live_score(resting) == own, "the control: an ordinary user may lower it to what it was"
    with pytest.raises(GuestCodeError, match="PermissionError"):
        resting.run(write.format(-1), check=True)
    frozen = {_copy_of(resting, "later"), *inner_of(resting).snapshots.pids}
    assert {_score(resting, pid) for pid in frozen} == {OOM_SCORE_FROZEN}
    assert _live_score(resting) == OOM_SCORE_LIVE
    first = processes(inner_of(resting))[0]
    assert _score(resting, first.pid) == own < OOM_SCORE_FROZEN < OOM_SCORE_LIVE


def test_a_copy_that_cannot_be_one_does_not_go_on_as_a_second_live_branch(
    resting: kernel_runtime.Session,
) -> None:
    code = "from kernel_runtime.guest import forking\ndef fails(group): raise OSError('no session to be had')"
    resting.run(f"{code}\nforking._lead_a_session = fails")
    with pytest.raises(KernelRuntimeError, match="no snapshot"):
        resting.snapshot("point")
    assert resting.run("6 * 7").result == "42"
    assert only_live_runs(inner_of(resting))
