"""Bad input and bad moments: each a clear error, nothing lost; budgets are kept, and what is dropped is told."""

from __future__ import annotations

import asyncio
import errno
import threading
from typing import TYPE_CHECKING, Any

import pytest

import kernel_runtime
from kernel_runtime.domain.errors import Conflict, Invalid, KernelRuntimeError, NotFound
from kernel_runtime.domain.snapshot import Budget, Snapshot
from kernel_runtime.workers import frozen, link, meter, pressure
from kernel_runtime.workers import snapshots as module
from tests.workers.branches import inner_of, only_live_runs, run_beside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("name", ["nothing", 77, "#9", "", "-1", "1" * 40, "²", "#²", "٣"])
def test_unknown_names(session: kernel_runtime.Session, name: str | int) -> None:
    session.run("x = 1")
    session.snapshot("known")
    for refused in (session.restore, session.drop, session.pin):
        with pytest.raises(NotFound, match="there are: known"):
            refused(name)
    assert session.value("x") == 1


def test_dropped_and_taken_names(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    session.snapshot("a")
    with pytest.raises(Conflict, match="choose another name"):
        session.snapshot("a")
    session.drop("a")
    with pytest.raises(NotFound):
        session.restore("a")
    session.snapshot("a")
    assert session.value("x") == 1


@pytest.mark.parametrize("name", ["1a", "a b", "a/b", "-x", "x" * 65, "a\n", "²", "²a"])
def test_names_that_are_none(session: kernel_runtime.Session, name: str) -> None:
    with pytest.raises(Invalid, match="is not a name"):
        session.snapshot(name)


def test_while_a_cell_runs(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    session.snapshot("before")
    refused: list[KernelRuntimeError] = []
    asking: list[threading.Thread] = []

    def tried() -> None:
        for what in (lambda: session.snapshot("now"), lambda: session.restore("before"), session.undo):
            try:
                what()
            except KernelRuntimeError as error:
                refused.append(error)
        session.interrupt()

    def ask(_: object) -> None:
        if not asking:
            asking.append(threading.Thread(target=tried))
            asking[0].start()

    result = session.run("x = 2\nprint('on', flush=True)\nwhile True: pass", check=False, on_output=ask)
    asking[0].join()
    assert "KeyboardInterrupt" in str(result.error)
    assert len(refused) == 3
    assert all("a cell is running" in str(error) for error in refused)
    assert session.value("x") == 2


def test_two_restores_at_once(directory: Path) -> None:
    async def both() -> tuple[list[Any], Any]:
        async with kernel_runtime.AsyncSession(workdir=directory) as session:
            await session.run("x = 1")
            await session.snapshot("one")
            await session.run("x = 2")
            await session.snapshot("two")
            got = await asyncio.gather(session.restore("one"), session.restore("two"), return_exceptions=True)
            return list(got), await session.value("x")

    got, x = asyncio.run(both())
    failed = [one for one in got if isinstance(one, BaseException)]
    assert len(failed) <= 1
    assert all(isinstance(one, Conflict) and "another restore" in str(one) for one in failed)
    assert x in (1, 2)


def test_a_budget_of_nothing(open_session: Callable[..., kernel_runtime.Session]) -> None:
    session = open_session(snapshots=Budget(count=0, automatic=0, memory=0))
    session.run("x = 1")
    assert session.snapshots() == []
    with pytest.raises(Conflict, match="allows no snapshots"):
        session.snapshot("a")
    session.snapshot("b", pin=True)
    session.run("x = 2")
    assert "automatic snapshots are off" in session.restore("b").unkept
    assert session.value("x") == 1
    with pytest.raises(Conflict, match="cannot be had back: automatic snapshots are off"):
        session.redo()
    with pytest.raises(
        Conflict, match="cannot be undone, there is no snapshot before: automatic snapshots are off"
    ):
        session.undo()
    assert session.value("x") == 1


@pytest.mark.parametrize("nothing", [{"count": 0}, {"memory": 0}], ids=str)
def test_no_snapshot_is_made_to_be_dropped_at_once(
    open_session: Callable[..., kernel_runtime.Session], nothing: dict[str, Any]
) -> None:
    session = open_session(snapshots=Budget(**nothing))
    session.run("x = 1")
    with pytest.raises(Conflict, match=f"allows no snapshots \\({next(iter(nothing))} is 0\\)"):
        session.snapshot("a")
    assert all(one.automatic for one in session.snapshots())
    assert "dropped" not in session.run("x = 2").stderr


def test_where_pinned_ones_take_all_of_the_memory_none_is_made_and_none_is_dropped(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(snapshots=Budget(memory=1 << 40))
    session.snapshot("loose")
    session.run("x = bytearray(5_000_000)")
    session.snapshot("pinned", pin=True)
    session.run("x = None")
    board = inner_of(session).snapshots
    session._portal.call(board.weigh())
    held = board.find("pinned").size
    assert held
    assert held > 1_000_000
    board.kept.budget = Budget(memory=held - 1)  # as if it had grown since
    with pytest.raises(Conflict, match="what is pinned takes the budget"):
        session.snapshot("b")
    assert "loose" in _titles(session.snapshots()), "nothing is given up for one that cannot be"
    board.kept.budget = Budget(memory=1 << 40)
    session.snapshot("b")


@pytest.mark.parametrize("warned", [{}, {"on_warning": print}], ids=["on stderr", "elsewhere"])
def test_what_the_budget_drops_is_told_once(
    open_session: Callable[..., kernel_runtime.Session], warned: dict[str, Any]
) -> None:
    session = open_session(snapshots=Budget(count=2, automatic=1), **warned)
    for name in ("kept", "a", "b"):
        session.snapshot(name, pin=name == "kept")
        assert "dropped" not in session.run("x = 1").stderr, "automatic ones go without a word"
    for name in ("c", "d"):
        session.snapshot(name)
    assert "dropped the snapshots a, b, the oldest: the budget is 2 snapshots" in session.run("x = 2").stderr
    assert "dropped" not in session.run("x = 3").stderr
    assert [one.name for one in session.snapshots() if not one.automatic] == ["kept", "c", "d"]


@pytest.mark.parametrize("wrong", [{"count": -1}, {"memory": -1}, {"share": -0.1}, {"automatic": -5}])
def test_a_budget_that_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="cannot be negative"):
        kernel_runtime.Session(snapshots=Budget(**wrong))


def test_as_many_automatic_ones_as_the_budget_says_and_all_of_them_can_be_gone_back_to(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    """What an undo leaves for redo is in no count: it drops neither its aim nor what is undone."""
    session = open_session(snapshots=Budget(automatic=3))
    for value in range(6):
        session.run(f"x = {value}")
    assert inner_of(session).snapshots.undoable == 3
    assert len([one for one in session.snapshots() if one.automatic]) == 3
    session.undo(3)
    assert session.value("x") == 2
    session.redo()
    assert session.value("x") == 5


#: As many threads as there may be.
THREADS = """
import threading
stop, made = threading.Event(), 0
threading.stack_size(1 << 16)
try:
    for _ in range(200):
        threading.Thread(target=stop.wait, daemon=True).start()
        made += 1
except RuntimeError:
    pass
stop.set()
for thread in threading.enumerate()[1:]: thread.join()
"""


@pytest.mark.skipif("pids" not in meter.world().limits, reason="needs cgroup v1 or v2 that counts processes")
def test_copies_do_not_count_among_the_processes_of_the_guest(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    """The control has none; the copies that are dropped take their room with them."""
    made = []
    for snapshots in ([], ["a", "b", "c", "d", "e"]):
        session = open_session(pids=16, automatic=False)
        for name in snapshots:
            session.snapshot(name)
        session.run(THREADS)
        made.append(session.value("made"))
    assert 8 < made[0] < 16
    assert made[1] == made[0]
    assert session.usage().pids < 5
    for name in snapshots:
        session.drop(name)
    session.run(THREADS)
    assert session.value("made") <= made[0]


def test_too_many_undos_and_nothing_to_redo(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    for cells in (0, -1):
        with pytest.raises(Invalid, match=f"{cells} is not a number of cells"):
            session.undo(cells)
    with pytest.raises(NotFound, match="99 cells cannot be undone"):
        session.undo(99)
    with pytest.raises(NotFound, match="nothing to redo"):
        session.redo()
    assert session.value("x") == 1


def test_the_oldest_that_is_not_pinned_goes_first(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(snapshots=Budget(count=2, automatic=2))
    for name in "abcd":
        session.run(f"x = {name!r}")
        session.snapshot(name, pin=name == "a")
    assert [one.name for one in session.snapshots() if not one.automatic] == ["a", "c", "d"]
    with pytest.raises(NotFound, match="it may have been dropped"):
        session.restore("b")
    assert len([one for one in session.snapshots() if one.automatic]) == 2
    session.restore("a")
    assert session.value("x") == "a"
    assert only_live_runs(inner_of(session))


def test_the_memory_of_snapshots_is_bounded(open_session: Callable[..., kernel_runtime.Session]) -> None:
    session = open_session(memory="2G", snapshots=Budget(memory=130 << 20), automatic=False)
    inner = inner_of(session)
    for name in "abcd":
        session.run("x = bytearray(60 << 20)\nfor n in range(0, len(x), 4096): x[n] = 1")
        session.snapshot(name)
    session.run("del x")
    session._portal.call(inner.snapshots.weigh())
    kept = session.snapshots()
    assert [one.name for one in kept] in (["c", "d"], ["d"])
    assert all((one.size or 0) > 50 << 20 for one in kept)


#: Slowly: it is the order of things that is tested here, and a busy host has its turn within a second.
_OVERWRITE = """
for n in range(0, len(x), 4096):
    x[n] = (x[n] + 1) % 256
    if n % (4 << 20) == 0: time.sleep(0.04)
"""


def _ended_by(session: kernel_runtime.Session) -> object:
    """What ended a cell that needs as much memory again: its verdict, or that the guest was lost."""
    try:
        return session.run(f"import time\n{_OVERWRITE}\ntime.sleep(0.3)", check=False).verdict
    except kernel_runtime.KernelRuntimeError as error:
        return error


@pytest.mark.slow
@pytest.mark.parametrize("relieved", [True, False], ids=["relieved", "control"])
def test_snapshots_give_way_before_the_limit_ends_a_cell(
    open_session: Callable[..., kernel_runtime.Session], monkeypatch: pytest.MonkeyPatch, relieved: bool
) -> None:
    if not relieved:
        monkeypatch.setattr(pressure, "SHORT", 99.0)
        monkeypatch.setattr(meter, "_FULL", 99.0)
    session = open_session(memory="512M", snapshots=Budget(pause=60))
    session.run("x = bytearray(120 << 20)")
    verdicts = [_ended_by(session) for _ in range(6)]
    if relieved:
        assert verdicts == [None] * 6
        assert session.run("x[0], x[-4096]").result == "(6, 6)"
    else:
        assert any(verdicts), "the control: without it, memory ends a cell"


def test_a_guest_that_makes_no_copy_is_waited_for_in_vain(
    session: kernel_runtime.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TAKE_SECONDS", 0.3)
    code = "from kernel_runtime.sdk.branches import before_snapshot\n@before_snapshot\ndef hang():\n    import time; time.sleep(3)"
    session.run(code)
    with pytest.raises(Conflict, match="did not make one within"):
        session.snapshot("late")
    assert [one.name for one in session.snapshots() if not one.automatic] == []
    assert session.run("6 * 7").result == "42"
    assert only_live_runs(inner_of(session))


def test_a_copy_that_never_answers_is_a_clear_error(
    session: kernel_runtime.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.run("import time\nfrom kernel_runtime.guest import frozen\nx = 1")
    session.snapshot("honest")
    session.run("frozen.FrozenCopy.begin = lambda *_: time.sleep(1000)")
    monkeypatch.setattr(frozen, "ANSWER_SECONDS", 0.3)
    with pytest.raises(KernelRuntimeError, match=r"did not answer for 0\.3 s"):
        session.diff("honest")
    assert "did not answer for 0.3 s" in session.run("x = 2").stderr + session.run("x = 3").stderr
    assert session.value("x") == 3
    session.restore("honest")
    assert session.value("x") == 1
    assert only_live_runs(inner_of(session))


def test_copies_that_are_never_made_are_not_ordered_without_end(
    open_session: Callable[..., kernel_runtime.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each order takes a descriptor of the host's, and room for a process of the guest's."""
    monkeypatch.setattr(module, "COMING_SECONDS", 0.0)
    session = open_session()
    session.run("from kernel_runtime.guest.branching import Branching")
    session.run("kept = []\nBranching.freeze = lambda self, order, fd: kept.append(fd)")
    inner = inner_of(session)
    assert inner.init is not None
    before = inner.init.meter._copies
    told = [session.run("1 + 1").stderr for _ in range(40)]
    assert 4 < inner.init.meter._copies - before <= 16
    assert sum("the guest does not make the last ones" in text for text in told) == 1
    session.restart()
    session.run("x = 1")
    session.run("x = 2")
    session.undo()
    assert session.value("x") == 1
    assert inner.init.meter._copies < before + 4


def test_where_no_descriptor_can_be_sent_there_is_no_copy_and_nothing_is_left_of_it(
    session: kernel_runtime.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many are on their way is counted over all guests of a user: one of them may have used them up."""
    session.run("x = 1")
    inner = inner_of(session)
    assert inner.init is not None
    copies = inner.init.meter._copies
    with monkeypatch.context() as patch:
        patch.setattr(link.Link, "_send_now", _too_many)
        with pytest.raises(Conflict, match="no snapshot now"):
            session.snapshot("none")
        assert session.run("x = 2").result is None, "and no automatic one"
    assert inner.init.meter._copies == copies
    session.snapshot("one")
    assert session.value("x") == 2


def _too_many(sender: link.Link, data: bytes | memoryview, fds: list[int] | None) -> int:
    if fds:
        raise OSError(errno.ETOOMANYREFS, "Too many references")
    return sender._socket.send(data)


def test_hooks_close_and_open_again(session: kernel_runtime.Session) -> None:
    code = """
import socket
from kernel_runtime.sdk.branches import after_restore, after_snapshot, before_snapshot
def open_():
    global a, b
    a, b = socket.socketpair()
open_()
opened = 1
@before_snapshot
def close(): a.close(); b.close()
@after_snapshot
@after_restore
def again():
    global opened
    open_(); opened += 1
"""
    session.run(code)
    session.snapshot("one", refuse=True)
    session.run("a.send(b'x')")
    assert session.restore("one").external == []
    assert session.run("a.send(b'x')").result == "1"


#: A port, a lock and a child process: whoever goes back finds them free again.
_HELD = """
import fcntl, socket, subprocess
listener = socket.create_server(("127.0.0.1", 7411))
lock = open("/tmp/lock", "w"); fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
child = subprocess.Popen(["sleep", "100"])
"""


def test_what_the_state_before_held_is_free_when_the_other_one_goes_on(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session()
    session.run("ballast = bytearray(200_000_000)")  # takes the kernel its time
    for _ in range(3):
        session.run(_HELD)
        session.undo()
    session.run(_HELD)
    assert session.run("print(child.poll())").stdout == "None\n"
    assert run_beside(inner_of(session), 1)  # its child
    session.undo()
    assert only_live_runs(inner_of(session))


def test_files_that_use_up_every_descriptor(open_session: Callable[..., kernel_runtime.Session]) -> None:
    session = open_session()
    session.run(
        "import os\nkept = []\ntry:\n    while True: kept.append(os.open('/', 0))\nexcept OSError: pass",
        check=False,
    )
    with pytest.raises(Conflict, match="no snapshot"):
        session.snapshot("full")
    session.run("for fd in kept: os.close(fd)")
    session.snapshot("room")
    assert session.run("len(kept) > 3000").result == "True"


def _titles(snapshots: list[Snapshot]) -> list[str]:
    return [one.title for one in snapshots]


def test_lines_go_on_where_they_were_left(session: kernel_runtime.Session) -> None:
    session.run("x = 'main'")
    session.branch("other")
    session.run("x = 'other'")
    session.branch("main")
    assert session.value("x") == "main"
    session.branch("other")
    assert session.value("x") == "other"
    assert session.line == "other"
    assert "main" in " ".join(_titles(session.snapshots()))
