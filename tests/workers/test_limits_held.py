"""Limits that throttle, warn or end a session; and what is left when a tree has died: nothing."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kernel_runtime
from kernel_runtime import LimitExceeded, Nearly, Reason
from kernel_runtime.domain.errors import GuestCodeError
from kernel_runtime.sandbox.cgroups import Group
from kernel_runtime.workers import meter
from kernel_runtime.workers.processes import Processes
from tests.workers.branches import only_live_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OpenSession = "Callable[..., kernel_runtime.Session]"
#: A tree that does not want to die: sessions and groups of its own, orphans, stopped and spinning ones.
TREE = """
import os, signal, time
def child(what):
    if os.fork() == 0:
        try:
            what()
        finally:
            os._exit(0)
def orphan():
    os.setsid()
    child(lambda: time.sleep(100))
def stopped():
    os.setpgid(0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
def spinning():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True: pass
for _ in range(5):
    child(orphan)
    child(stopped)
    child(lambda: time.sleep(100))
child(spinning)
print("up", flush=True)
while True: time.sleep(1)
"""


def _until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


def test_only_what_is_ending_goes_before_others(
    open_session: Callable[..., kernel_runtime.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "cpu" not in meter.world().limits:
        pytest.skip("needs the cpu controller")
    hurried: list[bool] = []
    real = Group.hurry
    monkeypatch.setattr(Group, "hurry", lambda group, on: (hurried.append(on), real(group, on))[1])
    session = open_session(wall="3s")
    assert session.run("1 + 1").result == "2"
    assert hurried == []
    stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    assert session.run(stubborn, check=False).verdict is not None
    assert session.run("1 + 1").result == "2"
    assert hurried[-1] is False  # a copy took its place: it runs as guests do
    session.close()
    assert hurried[-1] is True


# -- cpus ----------------------------------------------------------------------------------------


def test_a_share_of_cpu_slows_down_and_ends_nothing(
    open_session: Callable[..., kernel_runtime.Session], cgroup_world: str
) -> None:
    session = open_session(cpus=0.25)
    code = "import time\nbegun, used = time.monotonic(), time.process_time()\n"
    code += "while time.monotonic() - begun < 1.5: pass\n"
    share = session.run(code + "(time.process_time() - used) / 1.5").result
    assert share is not None
    assert float(share) < 0.5
    assert ("cpus" in session.partial) == (cgroup_world == "no cgroup")


def test_it_is_throttled_and_let_go_while_it_runs_and_never_beyond_its_limit(
    open_session: Callable[..., kernel_runtime.Session], cgroup_world: str
) -> None:
    session = open_session(cpus=0.5)

    def meter_of() -> Any:
        return session._session._open.init.meter

    for asked, held in ((0.25, 0.25), (4.0, 0.5), (None, 0.5), (0.25, 0.25)):
        session.throttle(asked)
        assert meter_of().share == held
    session.restart()
    assert meter_of().share == 0.25
    code = "import time\nbegun, used = time.monotonic(), time.process_time()\n"
    code += "while time.monotonic() - begun < 1.5: pass\n"
    share = session.run(code + "(time.process_time() - used) / 1.5").result
    assert share is not None
    assert float(share) < 0.5
    with pytest.raises(kernel_runtime.Invalid, match=r"below 0\.01 of a core"):
        session.throttle(0.0)


def test_what_is_killed_by_the_person_says_so_and_keeps_its_state(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    running = threading.Thread(target=_until, args=(lambda: session._session._open.executing,))
    running.start()
    killer = threading.Thread(target=lambda: (running.join(), session.kill()))
    killer.start()
    result = session.run("while True: pass", check=False)
    killer.join()
    assert result.verdict is not None
    assert result.verdict.reason is Reason.SIGNAL
    assert "killed by the person" in result.verdict.explain()
    assert session.value("x") == 1


# -- the session ---------------------------------------------------------------------------------


def test_a_sessions_time_ends_it_whatever_is_restarted(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(session="4s")
    session.restart()
    result = session.run("import time; time.sleep(100_000)", check=False)
    assert result.verdict is not None
    assert (result.verdict.reason, result.verdict.amount, result.verdict.survived) == (
        Reason.WALL,
        "session",
        False,
    )
    assert "its session lasted longer than its limit of 4 s" in result.verdict.explain()
    for again in (lambda: session.run("1"), session.restart):
        with pytest.raises(LimitExceeded):
            again()


# -- warnings and usage --------------------------------------------------------------------------


def test_a_limit_nearly_used_up_is_told_once_each(
    open_session: Callable[..., kernel_runtime.Session], cgroup_world: str
) -> None:
    told: list[Nearly] = []
    session = open_session(
        memory="256M", disk="8M", pids=12, wall="1000s", output="10K", on_warning=told.append
    )
    code = (
        "import mmap, threading, time\n"
        "m = mmap.mmap(-1, 215 * 2**20)\n"
        "for i in range(0, len(m), 4096): m[i] = 1\n"
        "open('/tmp/a', 'wb').write(bytes(7 * 2**20))\n"
        "for _ in range(8): threading.Thread(target=time.sleep, args=(100_000,), daemon=True).start()\n"
        "print('x' * 9000)\n"
        "time.sleep(100_000)"
    )
    stopper = threading.Thread(target=lambda: (_until(lambda: len(told) == 4), session.interrupt()))
    stopper.start()
    result = session.run(code, check=False)
    stopper.join()
    assert result.stderr == ""
    assert sorted(warning.name for warning in told) == ["disk", "memory", "output", "pids"]
    for warning in told:
        assert 0.8 * warning.limit <= warning.used
        assert f"of {kernel_runtime.domain.amounts.show_amount(warning.name, warning.limit)}" in (
            warning.explain()
        )


@pytest.mark.parametrize("kernel", ["tells how many", "lists them"])
def test_many_open_files_are_told_and_none_that_a_snapshot_holds(
    open_session: Callable[..., kernel_runtime.Session], monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    if kernel == "lists them":  # as before Linux 6.2
        monkeypatch.setattr(Processes, "_told", lambda *_: 0)
    told: list[Nearly] = []
    session = open_session(open_files=256, on_warning=told.append)
    waiting = "import time\ntime.sleep(100_000)"
    stopper = threading.Thread(target=lambda: (_until(lambda: bool(told)), session.interrupt()))
    stopper.start()
    session.run("held = [open('/dev/null') for _ in range(210)]\n" + waiting, check=False)
    stopper.join()
    assert [(warning.name, warning.limit) for warning in told] == [("open_files", 256)]
    assert 210 <= told[0].used <= 230
    assert 210 <= (session.usage().open_files or 0) <= 230
    session.snapshot("many")
    session.run("for each in held: each.close()")
    assert (session.usage().open_files or 0) < 50
    inner = session._session._open
    assert inner.init.meter.processes.open_files() >= 210, "the snapshot still holds them"


def test_without_a_listener_the_warning_is_a_line_of_the_cell(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(output="10K")
    for _ in range(2):
        result = session.run("print('x' * 9000)\nprint('y')")
        assert result.stderr.startswith("[kernel_runtime: output: ")
        assert result.stderr.count("output") == 1


def test_usage_is_live_and_names_each_limit(
    open_session: Callable[..., kernel_runtime.Session], cgroup_world: str
) -> None:
    session = open_session(cpu="1000s", wall="1000s", disk="32M")
    up = threading.Event()
    code = (
        "open('/tmp/a', 'wb').write(bytes(5 * 2**20))\n"
        "held = [open('/dev/null') for _ in range(50)]\n"
        "print('up', flush=True)\n"
        "while True: pass"
    )
    running = threading.Thread(
        target=lambda: session.run(code, check=False, on_output=lambda _: up.set()), daemon=True
    )
    running.start()
    assert up.wait(90)
    first = session.usage()
    assert _until(lambda: (session.usage().cell_cpu or 0) > (first.cell_cpu or 0))
    seen: list[kernel_runtime.Usage] = []
    assert _until(lambda: (seen.append(session.usage()), seen[-1].cpus > 0.01)[1])
    usage = seen[-1]
    session.interrupt()
    running.join()
    amounts = usage.amounts
    assert set(amounts) == set(kernel_runtime.Limits.__struct_fields__)
    assert {name: amount.limit for name, amount in amounts.items()} == {
        name: getattr(session.limits, name) for name in amounts
    }
    for name, least in {
        "memory": 2**20,
        "cpu": 0.01,
        "cpus": 0.01,
        "wall": 0.01,
        "session": 0.01,
        "pids": 1,
        "disk": 5 * 2**20,
        "inodes": 1,
        "open_files": 50,
        "output": 2,
    }.items():
        used = amounts[name].used
        assert used is not None, name
        assert used >= least, name


def test_an_idle_session_costs_next_to_nothing(
    open_session: Callable[..., kernel_runtime.Session], cgroup_world: str
) -> None:
    """A bound for a busy machine; what it really takes is measured in the benchmarks."""
    session = open_session()
    session.run("1")
    time.sleep(0.5)
    before, begun = time.process_time(), time.monotonic()
    time.sleep(2)
    assert (time.process_time() - before) / (time.monotonic() - begun) < 0.15


# -- floods --------------------------------------------------------------------------------------


def test_a_flood_is_cut_and_says_so_and_the_cell_goes_on(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(messages=50)
    code = "from IPython.display import display\nfor i in range(3000): display(i)\nprint('after')\n'end'"
    result = session.run(code)
    shown = [o["data"]["text/plain"] for o in result.outputs if o["output_type"] == "display_data"]
    assert 500 <= len(shown) < 3000
    assert (shown[0], shown[-1]) == ("0", "2999")
    assert result.stderr.count("more than 50 messages per second") == 1
    assert "messages were left out: more than 50 per second" in result.stderr
    assert result.stdout == "after\n"
    assert result.result == "'end'"


def test_text_is_joined_in_a_flood_and_never_lost(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(messages=50)
    result = session.run("for i in range(5000): print(i, flush=True)")
    assert result.stdout.split() == [str(i) for i in range(5000)]
    assert result.stderr == ""


# -- limits met inside -----------------------------------------------------------------------------


def test_code_that_holds_all_its_memory_still_hears_why(
    open_session: Callable[..., kernel_runtime.Session], cgroup_world: str
) -> None:
    """Formatting and sending the error takes memory, too: an answer comes in any case."""
    session = open_session(memory="256M")
    result = session.run("held = []\nwhile True: held.append(str(len(held)))", check=False)
    assert result.verdict is not None
    assert result.verdict.reason is Reason.MEMORY
    assert session.run("6 * 7").result == "42"


def test_what_code_handles_itself_is_no_verdict(open_session: Callable[..., kernel_runtime.Session]) -> None:
    session = open_session(memory="256M")
    code = "try:\n    bytearray(10**10)\nexcept MemoryError:\n    pass\n1 / 0"
    with pytest.raises(GuestCodeError) as caught:
        session.run(code)
    assert caught.value.verdict is None
    with pytest.raises(GuestCodeError, match="MemoryError") as caught:
        session.run("bytearray(10**10)")
    assert caught.value.verdict is not None
    assert caught.value.verdict.reason is Reason.MEMORY


def test_a_resource_that_is_not_there_for_now_is_no_limit(session: kernel_runtime.Session) -> None:
    code = "import socket\na, b = socket.socketpair(); a.setblocking(False); a.recv(1)"
    result = session.run(code, check=False)
    assert result.error is not None
    assert result.error.ename == "BlockingIOError"
    assert result.verdict is None


# -- the death of a tree ---------------------------------------------------------------------------


@pytest.fixture
def tree(open_session: Callable[..., kernel_runtime.Session]) -> Iterator[tuple[Any, Any]]:
    """A session whose cell has started a large tree, and the ended run's result when it is over."""
    session = open_session(pids=64, cpus=1)
    up, results = threading.Event(), []
    running = threading.Thread(
        target=lambda: results.append(session.run(TREE, check=False, on_output=lambda _: up.set()))
    )
    running.start()
    assert up.wait(90)
    yield session, lambda: (running.join(), results[0])[1]
    session.close()


def test_restart_leaves_no_process_of_the_tree(cgroup_world: str, tree: tuple[Any, Any]) -> None:
    session, result = tree
    inner = session._session._open
    processes = inner.init.meter.processes
    assert _until(lambda: len(processes.look()[1:]) - len(inner.snapshots.pids) >= 20), (
        "its orphans are born late"
    )
    before = {process.pid for process in processes.look()[1:]} - inner.snapshots.pids
    session.restart()
    assert result().verdict is not None
    assert _until(lambda: not before & {process.pid for process in processes.look()})
    assert _until(lambda: not any(process.state == "Z" for process in processes.look())), processes.look()
    assert only_live_runs(inner)
    assert session.run("6 * 7").result == "42"


def test_close_leaves_no_process_group_or_mount(tree: tuple[Any, Any]) -> None:
    session, result = tree
    root, group = session._session._open.pid, session._session._open.init.meter._group
    directories = group.directories if group is not None else []
    pids = {root, *_children(root)}
    mounts = Path("/proc/self/mountinfo").read_text()
    session.close()
    assert result().verdict is not None
    assert _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert _until(lambda: not any(directory.exists() for directory in directories))
    assert Path("/proc/self/mountinfo").read_text() == mounts


def _children(root: int) -> list[int]:
    import psutil

    return [process.pid for process in psutil.Process(root).children(recursive=True)]
