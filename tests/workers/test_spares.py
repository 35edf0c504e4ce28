"""Copies made ahead while a session rests: going back forks nothing, and is otherwise as it was."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.workers import written
from kernel_runtime.workers.frozen import Frozen
from tests.workers.branches import inner_of, only_live_runs, processes

if TYPE_CHECKING:
    from collections.abc import Callable

    import kernel_runtime

    Open = Callable[..., kernel_runtime.Session]

_MANUAL = Budget(automatic=0)
_EACH = Budget(pause=60, automatic=8)

pytestmark = pytest.mark.usefixtures("spares_when_told")


def rest(session: kernel_runtime.Session) -> None:
    """As if it had rested for a while."""
    session._portal.call(inner_of(session).snapshots.spares.make())


def frozen(session: kernel_runtime.Session, name: str) -> Frozen:
    board = inner_of(session).snapshots
    found = board.kept.source(board.find(name))
    assert isinstance(found, Frozen)
    return found


def live_pid(session: kernel_runtime.Session) -> int:
    return int(str(session.run("import os; os.getpid()").result))


def became(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def kill(session: kernel_runtime.Session, pid: int) -> None:
    init = inner_of(session).init
    assert init is not None
    init.meter.processes.send(pid, signal.SIGKILL)


@pytest.fixture
def session(open_session: Open) -> kernel_runtime.Session:
    """With one snapshot, ``first``, in which x is [1]."""
    session = open_session(automatic=False, snapshots=_MANUAL)
    session.run("x = [1]")
    session.snapshot("first")
    return session


def test_a_restore_with_a_spare_forks_nothing(session: kernel_runtime.Session) -> None:
    before = frozen(session, "first").pid
    rest(session)
    spare = next(iter(frozen(session, "first").pids - {before}))
    session.run("x.append(2)")
    session.restore("first")
    assert live_pid(session) == before, "the frozen one goes on itself"
    assert frozen(session, "first").pids == {spare}, "and the spare is in its place"
    assert session.value("x") == [1]
    assert {p.pid for p in processes(inner_of(session))} == {1, before, spare}
    assert only_live_runs(inner_of(session))


def test_without_one_the_frozen_branch_leaves_a_copy(session: kernel_runtime.Session) -> None:
    """The control."""
    before = frozen(session, "first").pid
    session.restore("first")
    assert live_pid(session) == before
    assert not frozen(session, "first").has_spare
    assert max(p.pid for p in processes(inner_of(session))) == frozen(session, "first").pid > before


def test_each_restore_gives_the_same_state(session: kernel_runtime.Session) -> None:
    session.run(
        "import random, tempfile\nfile = tempfile.TemporaryFile('w+'); _ = file.write('a\\nb\\nc\\n'); file.flush()"
    )
    session.run("_ = file.seek(0); first = file.readline()")
    session.snapshot("open")
    found = []
    for made in (True, True, False, True):
        if made:
            rest(session)
        session.restore("open")
        found.append(session.run("x.append(3)\nx, file.readline(), random.random(), file.readline()").result)
        assert only_live_runs(inner_of(session)), processes(inner_of(session))
    assert len(set(found)) == 1, found
    assert "'b\\n'" in str(found[0])


def test_the_newest_two_of_the_way_back_have_one(session: kernel_runtime.Session) -> None:
    for name in ("second", "third"):
        session.snapshot(name)
    rest(session)
    assert [frozen(session, name).has_spare for name in ("first", "second", "third")] == [False, True, True]
    session.snapshot("fourth")
    rest(session)
    assert [frozen(session, name).has_spare for name in ("second", "third", "fourth")] == [False, True, True]
    assert only_live_runs(inner_of(session)), processes(inner_of(session))


def test_a_spare_that_ended_is_no_loss(session: kernel_runtime.Session) -> None:
    rest(session)
    first = frozen(session, "first")
    kill(session, max(first.pids))
    assert became(lambda: not first.has_spare)
    session.run("x.append(2)")
    session.restore("first")
    assert session.value("x") == [1]
    rest(session)
    assert first.has_spare, "there can be another"


def test_a_snapshot_whose_process_ended_goes_on_in_its_spare(session: kernel_runtime.Session) -> None:
    rest(session)
    first = frozen(session, "first")
    gone = first.pid
    kill(session, gone)
    assert became(lambda: first.pid not in (gone, 0))
    session.run("x.append(2)")
    session.restore("first")
    assert session.value("x") == [1]
    kill(session, first.pid)
    assert became(lambda: not session.snapshots()), "the control: without a spare it is lost"


def test_an_end_of_the_live_branch_is_heard_of_at_once(open_session: Open) -> None:
    """Its parent must be gone: pid 1 buries it, and says how it ended."""
    session = open_session(snapshots=_EACH)
    session.run("x = [1]")
    session.snapshot("first")
    rest(session)
    session.restore("first")
    result = session.run("import os; x.append(2); os._exit(7)", check=False)
    assert result.verdict is not None
    assert "7" in result.verdict.tell()
    assert session.value("x") == [1]


def test_they_go_with_their_snapshot(session: kernel_runtime.Session) -> None:
    rest(session)
    assert len(inner_of(session).snapshots.pids) == 2
    session.drop("first")
    assert not inner_of(session).snapshots.pids
    assert became(lambda: len([p for p in processes(inner_of(session)) if p.state not in "ZX"]) == 2)


def test_they_go_when_the_session_begins_anew(session: kernel_runtime.Session) -> None:
    rest(session)
    session.restart()
    first = frozen(session, "first")
    assert first.pids == {first.pid}
    assert only_live_runs(inner_of(session)), processes(inner_of(session))


def test_nothing_is_left_of_a_closed_session(session: kernel_runtime.Session) -> None:
    rest(session)
    inner = inner_of(session)
    pids = [inner.pid]
    session.close()
    assert became(lambda: not any(_is_there(pid) for pid in pids))
    assert not inner.snapshots.pids


def _is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_there_is_none_while_the_guest_has_no_room(open_session: Open) -> None:
    session = open_session(automatic=False, snapshots=_MANUAL, pids=16)
    session.run("x = [1]")
    session.snapshot("first")
    session.run("import subprocess\nall = [subprocess.Popen(['sleep', '600']) for _ in range(13)]")
    rest(session)
    assert not frozen(session, "first").has_spare
    session.restore("first")
    assert session.value("x") == [1]

    def has_spare() -> bool:  # as soon as those have gone
        rest(session)
        return frozen(session, "first").has_spare

    assert became(has_spare), "the control: there is room"


def test_there_is_none_of_a_guest_that_is_paused_or_runs(session: kernel_runtime.Session) -> None:
    inner = inner_of(session)
    session._portal.call(inner.pause())
    rest(session)
    assert not frozen(session, "first").has_spare
    inner.resume()
    rest(session)
    assert frozen(session, "first").has_spare


def test_they_are_the_first_to_go_for_the_budget(open_session: Open) -> None:
    session = open_session(automatic=False, snapshots=_MANUAL)
    session.run("x = [1]")
    session.snapshot("first")
    board = inner_of(session).snapshots
    session._portal.call(board.weigh())
    plain = session.snapshots()[0].size or 0
    rest(session)
    session._portal.call(board.weigh())
    spared = session.snapshots()[0].size or 0
    # In between: what is shared with others weighs a little more or less when some of these come or go.
    board.kept.budget = Budget(automatic=0, memory=(plain + spared) // 2)
    session._portal.call(board.weigh())
    assert not frozen(session, "first").has_spare
    assert [snapshot.name for snapshot in session.snapshots()] == ["first"]
    rest(session)
    assert not frozen(session, "first").has_spare, "nor is there another"


def test_what_the_next_branch_writes_is_copied_ahead(session: kernel_runtime.Session) -> None:
    count = "import resource; resource.getrusage(resource.RUSAGE_SELF).ru_minflt"
    session.run(f"import ctypes, mmap\nbefore = after = 0\n{count}")
    session.snapshot("counted")

    def faults() -> int:
        session.restore("counted")
        session.run(f"before = {count.partition('; ')[2]}")
        return int(str(session.run(f"{count} - before").result))

    plain = faults()
    session.run("1 + 1")
    rest(session)
    ahead = faults()
    assert ahead < plain / 2, (plain, ahead)


def test_data_that_a_cell_replaced_is_not_copied_ahead(session: kernel_runtime.Session) -> None:
    session.run("import ctypes\ndata = bytearray(96 << 20)\nfor n in range(0, len(data), 4096): data[n] = 1")
    session.snapshot("data")
    session.run("for n in range(0, len(data), 4096): data[n] = 2")
    rest(session)
    data = frozen(session, "data")
    assert data.has_spare
    assert 0 < len(data._copied) <= written.COPIED
    session._portal.call(inner_of(session).snapshots.weigh())
    assert (session.snapshots()[-1].size or 0) < (96 + 60) << 20, "once, and not twice"
