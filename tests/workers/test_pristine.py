"""The state before a session's first cell needs no process: it is listed, comes back, and is as it was."""

from __future__ import annotations

import ast
import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import kernel_runtime
from kernel_runtime import wire
from kernel_runtime.client import AsyncSession
from kernel_runtime.domain.errors import GuestLost, KernelRuntimeError, NotFound
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.domain.verdict import Reason
from kernel_runtime.runtime import Runtime, Settings
from kernel_runtime.workers.launch import BARE
from tests.workers.branches import inner_of, only_live_runs, processes, strays

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kernel_runtime.workers.branch import Branch

DRAW = "import random, numpy\nx = [random.random(), float(numpy.random.rand())]\nx"
STATE = "import os, sys\n('x' in globals(), os.getcwd(), os.environ.get('MARK'), sys.argv, len(In), sys.getrecursionlimit())"

_CHANGE = "x = 1; os.environ['MARK'] = 'x'; os.chdir('/'); sys.argv.append(1); sys.setrecursionlimit(99)"


def test_it_is_listed_and_no_process_keeps_it(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    (first,) = session.snapshots()
    assert (first.number, first.parent, first.cell, first.automatic, first.size) == (1, None, 0, True, 0)
    assert first.pause == 0
    inner = inner_of(session)
    assert len(processes(inner)) == 2
    assert inner.snapshots.pids == set()
    assert inner.snapshots.undoable == 1
    session.run("x = 2")
    assert len(inner.snapshots.pids) == 1, "the control: the next one is made in advance"
    assert only_live_runs(inner)
    assert [snapshot.parent for snapshot in session.snapshots()] == [None, 1]


def test_undo_of_the_first_cell(session: kernel_runtime.Session) -> None:
    before = session.run(STATE).result
    session.undo()
    session.run(f"{STATE}\n{_CHANGE}")
    restored = session.undo()
    assert (restored.external, restored.changed) == ([], [])
    assert session.run(STATE).result == before
    inner = inner_of(session)
    assert only_live_runs(inner), processes(inner)


def test_random_numbers_are_the_same_again_and_new_when_asked_for(directory: Path) -> None:
    async def story() -> list[list[float]]:
        runtime = Runtime(Settings(workdir=str(directory), warm=(*BARE, "numpy.random")))
        session = AsyncSession()
        try:
            runtime.warm_up()
            assert runtime._warming is not None
            await runtime._warming
            session._runtime, session._session = runtime, runtime.open_session(limits=Limits(memory=2**29))

            async def drawn() -> list[float]:
                return list(ast.literal_eval(str((await session.run(DRAW)).result)))

            draws = [await drawn()]
            (first,) = session._open.snapshots.listing()
            await session.undo()
            draws.append(await drawn())
            killed = await session.run("import os; os._exit(1)", check=False)
            assert killed.verdict is not None
            await session.restore(first.number)
            draws.append(await drawn())
            await session.restore(first.number, reseed=True)
            draws.append(await drawn())
            await session.undo()
            draws.append(await drawn())
            await session.restart()
            draws.append(await drawn())
            return draws
        finally:
            await runtime.close()

    first, undone, restored, reseeded, again, restarted = asyncio.run(story())
    assert first == undone == restored
    assert reseeded == again
    for one, two in ((first, reseeded), (first, restarted), (reseeded, restarted)):
        assert not set(one) & set(two)


def test_redo_after_undo_of_the_first_cell(session: kernel_runtime.Session) -> None:
    session.run("x = [41]; g = (n for n in range(9)); next(g)")
    for _ in range(2):
        session.undo()
        with pytest.raises(kernel_runtime.Conflict, match="no variable 'x'"):
            session.value("x")
        session.redo()
        assert session.value("x") == [41]
    assert session.run("next(g)").result == "1"
    session.undo(2)
    assert session.run("'x' in globals()").result == "False"


_ENDS: list[tuple[str, Reason, dict[str, Any]]] = [
    ("import os; os._exit(7)", Reason.EXIT, {}),
    ("import ctypes; ctypes.string_at(0)", Reason.SIGNAL, {}),
    ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", Reason.CPU, {"cpu": "1s"}),
    ("import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)", Reason.WALL, {"wall": "3s"}),
    ("import mmap\nkept = []\nwhile True:\n    kept.append(mmap.mmap(-1, 2**24)); kept[-1].write(b'x' * 2**24)", Reason.MEMORY, {}),
    ("import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    try: os.fork()\n    except OSError: pass", Reason.WALL, {"wall": "3s", "pids": 48}),
    ("import os\nif os.fork() == 0: os._exit(0)\nos.kill(-1, 9)\nos._exit(1)", Reason.EXIT, {}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "reason", "limits"), _ENDS, ids=lambda value: str(value)[:24])
def test_a_first_cell_that_ends_its_process(
    open_session: Callable[..., kernel_runtime.Session], code: str, reason: Reason, limits: dict[str, Any]
) -> None:
    session = open_session(**limits)
    draw = "import random; random.random()"
    first = session.run(draw).result
    session.undo()
    result = session.run(f"x = 1\n{code}", check=False)
    assert result.verdict is not None, result
    assert result.verdict.reason is reason, result.verdict
    assert result.verdict.state == "The variables are as they were before this cell."
    assert session.run(draw).result == first
    assert session.run("'x' in globals()").result == "False"
    inner = inner_of(session)
    assert only_live_runs(inner), processes(inner)


@pytest.mark.parametrize("what", ["put", "value", "complete", "snapshot"])
def test_what_was_touched_is_copied_in_advance(session: kernel_runtime.Session, what: str) -> None:
    inner = inner_of(session)
    if what == "put":
        session.put("y", 5)
    elif what == "snapshot":
        session.snapshot("clean")
    elif what == "value":
        with pytest.raises(kernel_runtime.Conflict):
            session.value("y")
    else:
        content = b'{"code": "pri", "cursor_pos": 3}'
        request = wire.Request(id="asked", kind="complete_request", content=content)
        assert session._portal.call(inner.submit(request, lambda _: None)) is None
    made = len(inner.snapshots.pids)
    session.run("x = 1")
    assert len(inner.snapshots.pids) == made + 1
    session.undo()
    y = 5 if what == "put" else None
    assert session.run("globals().get('x'), globals().get('y')").result == f"(None, {y})"


def test_it_is_compared_read_pinned_and_branched_from(session: kernel_runtime.Session) -> None:
    session.run("x = 1\nopen('written.txt', 'w').close()")
    inner = inner_of(session)
    assert [change.name for change in session.diff(1).changes] == ["x"]
    assert any(name.endswith("written.txt") for name in session.written_since(1))
    session.snapshot("later")
    assert [change.name for change in session.diff("later", 1).changes] == ["x"]
    assert len(inner.snapshots.pids) == 1, "what was made of it to be read has ended"
    assert only_live_runs(inner), processes(inner)
    assert session.pin(1).pinned
    session.branch("other")
    session.restore(1)
    assert session.run("'x' in globals()").result == "False"
    session.branch("main")
    assert session.value("x") == 1


def test_a_pinned_one_outlives_the_budget(open_session: Callable[..., kernel_runtime.Session]) -> None:
    session = open_session(snapshots=Budget(automatic=1, pause=60))
    session.run("x = 1")
    session.pin(1)
    for value in range(3):
        session.run(f"x = {value}")
    assert [snapshot.number for snapshot in session.snapshots()] == [1, 4]
    session.restore(1)
    assert session.run("'x' in globals()").result == "False"
    session.drop(1)
    with pytest.raises(NotFound, match="no snapshot '1'"):
        session.restore(1)


def test_a_paused_session_is_read_and_goes_on(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    session.pause()
    assert session.written_since(1) == []
    assert session.value("x") == 1
    session.pause()
    session.undo()
    assert session.run("'x' in globals()").result == "False"


#: Kills every process that it finds, but the first one and its own cell, as fast as it can.
_HUNT = """
import os
cell = os.getpid()
def hunt():
    os.setsid()
    while True:
        for name in os.listdir('/proc'):
            if name.isdigit() and int(name) not in (1, cell, os.getpid()):
                try: os.kill(int(name), 9)
                except OSError: pass
if os.fork() == 0: hunt()
prey = os.fork()
if prey == 0:
    import time
    time.sleep(60); os._exit(0)
os.waitpid(prey, 0)[1]
"""


def test_what_runs_in_the_background_does_not_reach_it(session: kernel_runtime.Session) -> None:
    assert session.run("x = 1" + _HUNT).result == "9", "the control: it kills what it finds"
    inner = inner_of(session)
    for _ in range(3):
        session.undo()
        assert session.run("'x' in globals()").result == "False"
        assert only_live_runs(inner), processes(inner)
        session.undo()
        session.run("x = 1" + _HUNT)


_BEAT = """
import threading, time
x, beats = 1, []
def beat():
    while True:
        beats.append(1)
        time.sleep(0.01)
threading.Thread(target=beat, daemon=True).start()
"""


def _unheard(branch: Branch, *_: object, **__: object) -> None:
    """As where pid 1 had no process for it."""
    branch.let_go()


def test_where_there_is_no_process_to_be_had_the_present_goes_on(
    session: kernel_runtime.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.run(_BEAT)
    inner = inner_of(session)
    assert inner.init is not None
    with monkeypatch.context() as patched:
        patched.setattr(inner.init, "fork", _unheard)
        for refused in (session.undo, lambda: session.diff(1), lambda: session.written_since(1)):
            with pytest.raises(GuestLost, match="needs two processes"):
                refused()
    beats = session.run("seen = len(beats)\nwhile len(beats) == seen: time.sleep(0.01)\nx").result
    assert beats == "1", "nothing of it stands still any more"
    session.undo(2)  # of a state with threads there was no copy
    assert session.run("'x' in globals()").result == "False"


def test_it_goes_with_the_first_process(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    inner = inner_of(session)
    assert inner.init is not None
    first = inner.init
    session._portal.call(_killed(inner))
    with pytest.raises(KernelRuntimeError):
        session.restore(1)
    assert first.closed
    assert session.run("'x' in globals()").result == "False"


async def _killed(inner: Any) -> None:
    inner.init.kill()
    while inner.snapshots.listing():
        await asyncio.sleep(0.01)


_CROWD = """
import os, time
for _ in range(400):
    try:
        if os.fork() == 0: time.sleep(60); os._exit(0)
    except OSError: break
"""


def test_there_is_room_where_all_processes_are_taken(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(pids=48)
    session.run("x = 1")
    inner = inner_of(session)
    session.run(_CROWD)
    assert len(strays(inner)) > 20, "the control"
    session.undo(2)
    assert session.run("'x' in globals()").result == "False"
    assert only_live_runs(inner), processes(inner)


def test_a_cancelled_undo_leaves_nothing_standing_still(
    session: kernel_runtime.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.run("x = 1")
    inner = inner_of(session)
    init = inner.init
    assert init is not None
    pause = init.pause

    async def cancelled() -> bool:
        going = asyncio.ensure_future(session._session.undo())

        def pause_and_cancel() -> asyncio.Future[None]:
            going.cancel()
            return pause()

        with monkeypatch.context() as patched:
            patched.setattr(init, "pause", pause_and_cancel)
            await asyncio.wait([going])
        return going.cancelled()

    assert session._portal.call(cancelled())
    assert session.run("x += 1; x").result == "2"
    assert only_live_runs(inner), processes(inner)
