"""A copy of the present made while the session rests is the next snapshot of it, unless it has changed by then."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.errors import ExternalStateError
from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.workers import spares
from tests.workers.branches import inner_of, only_live_runs, processes

if TYPE_CHECKING:
    from collections.abc import Callable

    import kernel_runtime

_EACH = Budget(pause=60, automatic=8)

pytestmark = pytest.mark.usefixtures("spares_when_told")


def rest(session: kernel_runtime.Session) -> set[int]:
    """As if it had rested for a while: the process that the present was copied to, if it was."""
    board = inner_of(session).snapshots
    session._portal.call(board.spares.make())
    return board.kept.present.pids


@pytest.fixture
def session(open_session: Callable[..., kernel_runtime.Session]) -> kernel_runtime.Session:
    session = open_session(snapshots=_EACH)
    session.run("x = [1]")
    session.run("x.append(2)")
    return session


def test_it_is_what_undo_leaves_for_redo(session: kernel_runtime.Session) -> None:
    ahead = rest(session)
    assert len(ahead) == 1
    assert len(session.snapshots()) == 2, "it is no snapshot before"
    session.undo()
    board = inner_of(session).snapshots
    left = board.kept.tree.future[-1].number
    assert left is not None
    assert board.kept.source(board.find(left)).pids == ahead
    assert session.value("x") == [1]
    session.redo()
    assert session.value("x") == [1, 2]
    assert only_live_runs(inner_of(session)), processes(inner_of(session))


def test_it_is_the_moment_before_the_next_cell(session: kernel_runtime.Session) -> None:
    ahead = rest(session)
    session.run("x.append(3)")
    newest = session.snapshots()[-1]
    assert inner_of(session).snapshots.kept.source(newest).pids == ahead
    session.run("x.append(4); import os; os._exit(1)", check=False)
    assert session.value("x") == [1, 2, 3]
    session.undo()
    assert session.value("x") == [1, 2]
    session.redo()
    assert session.value("x") == [1, 2, 3]
    assert only_live_runs(inner_of(session)), processes(inner_of(session))


def test_it_is_the_next_snapshot_asked_for(session: kernel_runtime.Session) -> None:
    ahead = rest(session)
    kept = session.snapshot("kept")
    board = inner_of(session).snapshots
    assert board.kept.source(board.find(kept.number)).pids == ahead
    session.run("x.append(3)")
    session.restore("kept")
    assert session.value("x") == [1, 2]
    assert only_live_runs(inner_of(session)), processes(inner_of(session))


def test_a_paused_session_goes_on_for_it(session: kernel_runtime.Session) -> None:
    ahead = rest(session)
    session.pause()
    session.snapshot("kept")
    assert not inner_of(session).paused
    board = inner_of(session).snapshots
    assert board.kept.source(board.find("kept")).pids == ahead
    session.restore("kept")
    assert session.value("x") == [1, 2]


def test_what_a_copy_would_not_have_is_refused_all_the_same(session: kernel_runtime.Session) -> None:
    session.run("import socket; ends = socket.socketpair()")
    assert rest(session), "it has none of them"
    with pytest.raises(ExternalStateError, match="socket"):
        session.snapshot(refuse=True)


def test_it_is_what_is_compared_and_there_is_another_afterwards(session: kernel_runtime.Session) -> None:
    ahead = rest(session)
    session.snapshot("kept")
    assert (again := rest(session)) != ahead
    assert not session.diff("kept").changes
    assert not again & inner_of(session).snapshots.pids
    assert rest(session)


def test_what_was_asked_since_makes_it_worthless(session: kernel_runtime.Session) -> None:
    ahead = rest(session)
    session.put("y", 7)
    session.undo()
    assert not ahead & inner_of(session).snapshots.pids
    session.redo()
    assert session.value("y") == 7


_NATIVE = """
import ctypes
libc = ctypes.CDLL(None)
wait, slot = ctypes.create_string_buffer(64), ctypes.c_ulong()
body = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: libc.sem_wait(wait) and None)
_ = libc.pthread_create(ctypes.byref(slot), None, ctypes.cast(body, ctypes.c_void_p), None)
"""
#: What may change a state though nobody asks for anything, and what ends that.
STIRRING = {
    "a task": ("import asyncio\ntask = asyncio.ensure_future(asyncio.sleep(600))", "task.cancel()"),
    "a timer": ("import asyncio\nlater = asyncio.get_event_loop().call_later(600, print)", "later.cancel()"),
    "a reader": (
        "import asyncio, os\nends = os.pipe()\nasyncio.get_event_loop().add_reader(ends[0], print)",
        "_ = asyncio.get_event_loop().remove_reader(ends[0])",
    ),
    "an alarm": ("import signal\n_ = signal.setitimer(signal.ITIMER_REAL, 600)", "_ = signal.alarm(0)"),
    "a child": (
        "import subprocess\nchild = subprocess.Popen(['sleep', '600'])",
        "child.kill(); _ = child.wait()",
    ),
    "a hook": (
        "from kernel_runtime.sdk import branches\nbranches.before.append(print)",
        "branches.before.clear()",
    ),
    "a thread": (
        "import threading\ngo = threading.Event(); thread = threading.Thread(target=go.wait); thread.start()",
        "go.set(); thread.join()",
    ),
    "a native thread without a name": (
        _NATIVE,
        "libc.sem_post(wait); _ = libc.pthread_join(slot, None)",
    ),
    "shared memory": (
        "import mmap\nshared = mmap.mmap(-1, 4096)",
        "shared.close()",
    ),
}


@pytest.mark.parametrize("name", STIRRING)
def test_there_is_none_of_a_state_that_changes_by_itself(session: kernel_runtime.Session, name: str) -> None:
    begin, end = STIRRING[name]
    session.run(begin)
    assert not rest(session)
    session.run(end)
    assert rest(session), "the control"


#: What leaves threads that wait for work, and do nothing before they are given some.
IDLE = {
    "a pool of OpenBLAS": "import numpy as np\na = np.eye(500); a = a @ a",
    "a pool of OpenMP": "from sklearn.cluster import KMeans\n_ = KMeans(2, n_init=1).fit([[0.0], [1.0]] * 999)",
    "the loop's executor": "import asyncio\n_ = await asyncio.to_thread(int)",
}


@pytest.mark.parametrize("name", IDLE)
def test_there_is_one_beside_threads_that_wait_for_work(session: kernel_runtime.Session, name: str) -> None:
    session.run(IDLE[name], check=True)
    ahead = rest(session)
    assert ahead
    session.run("x.append(3)", check=True)
    board = inner_of(session).snapshots
    assert board.kept.source(session.snapshots()[-1]).pids == ahead
    session.undo()
    session.run(IDLE[name], check=True)
    assert session.value("x") == [1, 2]


def test_it_goes_with_the_budget_and_with_the_session(session: kernel_runtime.Session) -> None:
    inner = inner_of(session)
    assert rest(session)

    async def drop() -> None:
        inner.snapshots.drop_spares()

    session._portal.call(drop())
    assert not inner.snapshots.kept.present.pids
    assert only_live_runs(inner), processes(inner)
    assert rest(session)
    session.restart()
    assert not inner.snapshots.kept.present.pids
    session.run("x = [1]")
    assert rest(session)
    session.close()
    assert not inner.snapshots.pids


def test_a_rested_session_does_it_by_itself(
    open_session: Callable[..., kernel_runtime.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spares, "REST_SECONDS", 0.001)
    session = open_session(snapshots=_EACH)
    board = inner_of(session).snapshots
    session.run("x = [1]")
    session.run("x = [2]")  # before the first cell there is no process

    async def made() -> None:
        async with asyncio.timeout(20):
            while not (board.kept.present.pids and board.kept.source(board.find(2)).has_spare):
                await asyncio.sleep(0.01)

    session._portal.call(made())
