"""Whatever ends a cell: the state before it is back, it is said, and nothing but frozen branches is left."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.domain.verdict import Reason
from kernel_runtime.workers import kept
from tests.journeys.processes import eventually
from tests.workers.branches import inner_of, only_live_runs, processes

if TYPE_CHECKING:
    from collections.abc import Callable

    import kernel_runtime


class End(NamedTuple):
    name: str
    code: str
    reason: Reason
    limits: dict[str, Any]


_CHILDREN = (
    "import os, subprocess\nfor _ in range(3): subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
)
ENDS = [
    End("mapped memory", "import mmap\nkept = []\nwhile True:\n    kept.append(mmap.mmap(-1, 2**24)); kept[-1].write(b'x' * 2**24)", Reason.MEMORY, {}),
    End("cpu", "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", Reason.CPU, {"cpu": "1s"}),
    End("wall", "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)", Reason.WALL, {"wall": "3s"}),
    End("exit", "import os; os._exit(7)", Reason.EXIT, {}),
    End("exit while children run", _CHILDREN + "os._exit(7)", Reason.EXIT, {}),
    End("kill -9 of itself", "import os; os.kill(os.getpid(), 9)", Reason.SIGNAL, {}),
    End("crash", "import ctypes; ctypes.string_at(0)", Reason.SIGNAL, {}),
    End("abort", "import os; os.abort()", Reason.SIGNAL, {}),
    End("forbidden call", "import os, signal; os.kill(os.getpid(), signal.SIGSYS)", Reason.SECCOMP, {}),
    End("fork bomb", "import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    try: os.fork()\n    except OSError: pass", Reason.WALL, {"wall": "3s", "pids": 48}),
    End("closed descriptors", "import os; os.closerange(0, 65536)", Reason.PROTOCOL, {}),
    End("stopped", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", Reason.WALL, {"wall": "2s"}),
    End("nonsense to the host", "import os\nfor fd in range(3, 1000):\n    try: os.write(fd, b'\\xff' * 64)\n    except OSError: pass\nimport time; time.sleep(60)", Reason.PROTOCOL, {}),
]  # fmt: skip


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
def test_the_state_before_the_cell_is_back(
    open_session: Callable[..., kernel_runtime.Session], end: End
) -> None:
    session = open_session(snapshots=Budget(pause=60), **end.limits)
    session.run("x = [41]\ng = (n for n in range(9)); next(g)")
    result = session.run(f"x[0] = 0\nlist(g)\n{end.code}", check=False)
    assert result.verdict is not None, result
    assert result.verdict.reason is end.reason, result.verdict
    assert not result.verdict.survived
    assert result.verdict.state == "The variables are as they were before this cell."
    assert result.verdict.tell().endswith("before this cell.")
    assert session.run("x, next(g)").result == "([41], 1)"
    inner = inner_of(session)
    assert only_live_runs(inner), processes(inner)
    assert inner.snapshots.pids, "the control: frozen branches stay"


def _ends_by_itself(session: kernel_runtime.Session) -> None:
    """A moment after its cell; returns when the next branch stands."""
    inner = inner_of(session)
    inner.state = ""
    session.run("x = 5\nimport os, threading\nthreading.Timer(0.05, os._exit, (3,)).start()")
    deadline = time.monotonic() + 60
    while not inner.state and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize("warned", [{}, {"on_warning": print}], ids=["on stderr", "elsewhere"])
def test_an_end_while_no_cell_runs_is_told_with_the_next_cell(
    open_session: Callable[..., kernel_runtime.Session], warned: dict[str, Any]
) -> None:
    """Whoever wants to be warned of limits elsewhere is told here, too."""
    session = open_session(snapshots=Budget(pause=60), **warned)
    session.run("x = 1")
    session.run("x = 2")
    _ends_by_itself(session)
    result = session.run("x")
    assert result.result == "2"
    assert (
        "exited with status 3, while no cell ran. The variables are as they were after cell 2."
        in result.stderr
    )
    assert session.run("x").stderr == "", "once"


def test_where_nothing_can_be_brought_back_that_is_told_and_not_after_a_restart(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(snapshots=Budget(automatic=0))
    _ends_by_itself(session)
    assert "while no cell ran. There was no snapshot to go back to" in session.run("1 + 1").stderr
    _ends_by_itself(session)
    session.restart()
    assert session.run("1 + 1").stderr == ""


def test_memory_that_is_refused_is_an_error_and_the_state_goes_on(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    result = session.run("x = 2\nkept = []\nwhile True: kept.append(bytearray(2**24))", check=False)
    assert "MemoryError" in str(result.error)
    assert session.value("x") == 2


@pytest.mark.slow
def test_recursion_without_end_loses_nothing(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(wall="5s")
    session.run("x = 1")
    result = session.run(
        "import sys; sys.setrecursionlimit(10**9)\ndef f(n): return [f(n + 1), n]\nf(0)", check=False
    )
    assert not result.ok
    assert session.value("x") == 1


def test_an_interrupt_that_is_ignored(open_session: Callable[..., kernel_runtime.Session]) -> None:
    session = open_session(snapshots=Budget(pause=60))
    inner = inner_of(session)
    inner.terms = msgspec.structs.replace(inner.terms, grace=0.3)
    session.run("x = 1")
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nx = 2\nprint('deaf', flush=True)\nwhile True: pass"
    heard: list[threading.Thread] = []

    def interrupt(_: object) -> None:
        if not heard:
            heard.append(threading.Thread(target=session.interrupt))
            heard[0].start()

    result = session.run(code, check=False, on_output=interrupt)
    heard[0].join()
    assert result.verdict is not None
    assert "ignored the interrupt" in result.verdict.explain()
    assert result.verdict.state == "The variables are as they were before this cell."
    assert session.value("x") == 1


def test_a_second_interrupt_of_what_ignores_the_first_shortens_its_time(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    """And not one that comes before the person was told of that."""
    session = open_session(snapshots=Budget(pause=60))
    inner = inner_of(session)
    inner.terms = msgspec.structs.replace(inner.terms, grace=600.0)
    session.run("x = 1")
    code = (
        "import signal\n"
        "for number in (signal.SIGINT, signal.SIGURG): signal.signal(number, signal.SIG_IGN)\n"
        "x = 2\nprint('deaf', flush=True)\nwhile True: pass"
    )
    pressed: list[threading.Thread] = []

    def press(output: dict[str, Any]) -> None:
        says = output["text"]
        if "deaf" in says or "after another interrupt" in says:
            for _ in range(2 if "deaf" in says else 1):
                pressed.append(threading.Thread(target=session.interrupt))
                pressed[-1].start()

    result = session.run(code, check=False, on_output=press)
    for thread in pressed:
        thread.join()
    assert (
        "goes on after the interrupt: it is killed in 599 s, or 1 s after another interrupt" in result.stderr
    )
    assert len(pressed) == 3
    assert result.verdict is not None
    assert "ignored the interrupt, and 1 s after another one it was killed" in result.verdict.explain()
    assert session.value("x") == 1


_FROZEN = """
import os
def frozen():
    found = []
    for name in os.listdir('/proc'):
        if name.isdigit() and name != '1' and int(name) != os.getpid():
            try: state = open(f'/proc/{name}/stat').read().rpartition(')')[2].split()[0]
            except OSError: continue  # it has just ended
            if state == 'T': found.append(int(name))
    return sorted(found)
"""


def test_a_cell_that_killed_its_own_snapshot_gets_the_newest_that_is_left(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(snapshots=Budget(pause=60))
    session.run(f"x = 1\n{_FROZEN}")
    session.snapshot("kept")
    session.run("x = 2")
    result = session.run(
        "x = 3\nwhile len(frozen()) < 3: pass\nfor pid in frozen()[-2:]: os.kill(pid, 9)\nos._exit(1)",
        check=False,
    )
    assert result.verdict is not None
    assert "snapshot 'kept'" in result.verdict.state
    assert session.value("x") == 1


def test_a_cell_that_killed_all_of_them_is_told_what_is_lost(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(snapshots=Budget(pause=60))
    session.run("x = 1")
    session.snapshot("mine")
    result = session.run("import os\nos.kill(-1, 9)\nos._exit(1)", check=False)
    assert result.verdict is not None
    assert "its variables are gone" in result.verdict.state
    assert session.run("'x' in globals()").result == "False"
    with pytest.raises(NotFound, match=r"is lost: its process has ended|no snapshot 'mine'"):
        session.restore("mine")
    assert only_live_runs(inner_of(session))


@pytest.mark.usefixtures("host_may_not_look")
def test_a_kill_while_branches_are_measured(
    open_session: Callable[..., kernel_runtime.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order that is on its way to a frozen branch is carried out after the kill all the same."""
    monkeypatch.setattr(kept, "WEIGH_SECONDS", 1000.0)
    session = open_session(snapshots=Budget(pause=60, automatic=64))
    snapshots = inner_of(session).snapshots
    session.run("import os\nx = 1")

    async def both() -> None:
        kill = asyncio.ensure_future(session._session.run("x = 2; os._exit(1)", check=False))
        while not kill.done():
            for frozen in list(snapshots.kept._frozen.values()):
                if frozen.ready.done() and not frozen.gone:
                    assert (await frozen.weigh(ask=True) or 0) > 0
            await asyncio.sleep(0)

    for _ in range(10):
        session._portal.call(both())
        assert session.value("x") == 1


@pytest.mark.slow
def test_a_hundred_kills_leave_nothing(open_session: Callable[..., kernel_runtime.Session]) -> None:
    session = open_session(snapshots=Budget(pause=60))
    inner = inner_of(session)
    session.run("x = 1")
    session.usage()  # opens for good what it looks at
    quick = [
        end.code
        for end in ENDS
        if end.name in ("exit", "exit while children run", "kill -9 of itself", "crash")
    ]

    def kills(number: int) -> tuple[int, int]:
        for n in range(number):
            result = session.run(quick[n % len(quick)], check=False)
            assert result.verdict is not None
            assert session.value("x") == 1
        assert only_live_runs(inner)
        return counted()

    def counted() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(processes(inner))

    before = kills(12)
    kills(100)
    # Ends are noticed a moment later, those of the first twelve as well.
    assert eventually(lambda: all(now <= then for now, then in zip(counted(), before, strict=True)), 60), (
        counted(),
        before,
    )
