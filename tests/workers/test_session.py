"""Sessions over real guests: state, limits, ends, and the lives of their processes."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import kernel_runtime
from kernel_runtime import Conflict, GuestCodeError, GuestLost, Invalid, LimitExceeded, Reason
from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.workers import limiter, pristine
from kernel_runtime.workers.branch import Branch
from tests.journeys.processes import eventually, groups_of, living
from tests.walls.escape import escaped
from tests.workers.branches import inner_of, only_live_runs
from tests.workers.pressing import at_first_output

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OpenSession = "Callable[..., kernel_runtime.Session]"


def test_state_stays_and_the_result_is_shown(session: kernel_runtime.Session) -> None:
    session.run("x = 20")
    result = session.run("print('now'); x + 1")
    assert (result.result, result.stdout, result.ok) == ("21", "now\n", True)


def test_values_cross_by_value(session: kernel_runtime.Session) -> None:
    session.put("numbers", [1, 2.5, None, {"a": "b"}])
    session.run("numbers.append('inside')")
    assert session.value("numbers") == [1, 2.5, None, {"a": "b"}, "inside"]


def test_what_has_no_safe_format_is_refused_by_type(session: kernel_runtime.Session) -> None:
    session.run("f = lambda: 1")
    with pytest.raises(Conflict, match="function"):
        session.value("f")
    with pytest.raises(Conflict, match="nothing_here"):
        session.value("nothing_here")


def test_an_exception_is_raised_with_its_name(session: kernel_runtime.Session) -> None:
    with pytest.raises(GuestCodeError) as caught:
        session.run("1 / 0")
    assert caught.value.ename == "ZeroDivisionError"
    assert any("ZeroDivisionError" in line for line in caught.value.traceback)


def test_an_interrupt_that_comes_before_the_cell_has_begun_is_not_lost(
    session: kernel_runtime.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.run("x = 'kept'")
    inner, begin = inner_of(session), Branch.begin

    def begin_and_interrupt(branch: Branch, *args: Any) -> None:
        begin(branch, *args)
        inner.interrupt()

    monkeypatch.setattr(Branch, "begin", begin_and_interrupt)
    for _ in range(5):
        result = session.run("while True: pass", check=False)
        assert "KeyboardInterrupt" in str(result.error), result
    monkeypatch.undo()
    assert session.value("x") == "kept"


@pytest.mark.parametrize("allowed", [True, False])
def test_a_guest_is_told_whether_the_host_allows_huge_pages(
    allowed: bool, session: kernel_runtime.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = inner_of(session)
    assert inner.init is not None
    monkeypatch.setattr(pristine, "are_huge_allowed", lambda: allowed)
    assert pristine.beginning(inner.terms, inner.init, 0).huge_pages is allowed


def test_file_descriptor_output_arrives_in_order(session: kernel_runtime.Session) -> None:
    result = session.run("import os\nos.write(1, b'low ')\nos.system('echo sub')\nos.write(2, b'err')")
    assert (result.stdout, result.stderr) == ("low sub\n", "err")


def test_restart_is_a_branch_with_nothing_left(session: kernel_runtime.Session) -> None:
    session.run("x = 1; open('left.txt', 'w').write('x')")
    session.restart()
    assert session.run("'x' in globals()").result == "False"


def test_host_files_are_read_and_never_written(session: kernel_runtime.Session, directory: Path) -> None:
    session.run(
        "text = open('data.txt').read(); open('data.txt', 'w').write('changed'); open('new', 'w').close()"
    )
    assert session.value("text") == "from the host"
    assert session.run("open('data.txt').read()").result == "'changed'"
    assert sorted(os.listdir(directory)) == ["data.txt"]
    assert (directory / "data.txt").read_text() == "from the host"


def test_input_is_answered(session: kernel_runtime.Session) -> None:
    asked = []

    def answer(prompt: str, password: bool) -> str:
        asked.append((prompt, password))
        return "Ada"

    session.run("name = input('who? '); import getpass; secret = getpass.getpass('key: ')", on_input=answer)
    assert session.value("name") == session.value("secret") == "Ada"
    assert asked == [("who? ", False), ("key: ", True)]


def test_without_anybody_to_ask_input_fails(session: kernel_runtime.Session) -> None:
    with pytest.raises(GuestCodeError, match="StdinNotImplementedError"):
        session.run("input()")


@pytest.mark.parametrize(
    ("code", "ename"),
    [
        ("%no_such_magic", "UsageError"),
        (
            "get_ipython().set_custom_exc((ValueError,), lambda *_, **__: None)\nint('x')",
            "ValueError",
        ),
    ],
)
def test_what_shows_no_error_has_failed_all_the_same(
    session: kernel_runtime.Session, code: str, ename: str
) -> None:
    with pytest.raises(GuestCodeError, match=ename):
        session.run(code)


def test_outputs_come_while_the_code_runs(session: kernel_runtime.Session) -> None:
    """The first of them ends the waiting, which would never end by itself."""
    code = "import time\nprint('a', flush=True)\ntime.sleep(100_000)"
    result = session.run(code, check=False, on_output=at_first_output(session.interrupt))
    assert (result.stdout, result.error and result.error.ename) == ("a\n", "KeyboardInterrupt")


# -- limits --------------------------------------------------------------------------------------


def test_memory_error_comes_before_the_kill(session: kernel_runtime.Session) -> None:
    session.run("kept = 1")
    with pytest.raises(GuestCodeError, match="MemoryError"):
        session.run("b'x' * 2_000_000_000")
    assert session.value("kept") == 1


def test_memory_that_no_rlimit_counts_is_killed(
    open_session: Callable[..., kernel_runtime.Session], cgroup_world: str
) -> None:
    session = open_session(memory="128M")
    session.run("import mmap, time; m = mmap.mmap(-1, 1_000_000_000)")
    fill = "for i in range(0, 1_000_000_000, 4096): m[i] = 1\nwhile True: time.sleep(1)"
    result = session.run(fill, check=False)  # what it has filled it keeps, until the host looks
    assert result.verdict is not None
    assert (result.verdict.reason, result.verdict.limit) == (Reason.MEMORY, 128 * 2**20)
    assert session.run("1 + 1").result == "2"


def test_wall_time_interrupts_first_and_keeps_state(
    open_session: Callable[..., kernel_runtime.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "LIMIT_GRACE", 60.0)
    session = open_session(wall="3s")
    session.run("x = 7")
    with pytest.raises(LimitExceeded) as caught:
        session.run("import time; time.sleep(60)")
    assert (caught.value.verdict.reason, caught.value.verdict.survived) == (Reason.WALL, True)
    assert session.value("x") == 7


def test_a_run_that_was_cut_short_says_that_it_can_be_undone(
    open_session: Callable[..., kernel_runtime.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "LIMIT_GRACE", 60.0)
    session = open_session(wall="1s", memory="128M", snapshots=Budget(pause=60))
    session.run("x = [7]")
    with pytest.raises(LimitExceeded, match=r"undo\(\) brings back the state before this run$"):
        session.run("import time; x.append('half'); time.sleep(60)")
    session.undo()
    with pytest.raises(GuestCodeError, match="MemoryError") as caught:
        session.run("x.append('half'); much = bytearray(10**10)")
    assert caught.value.__notes__ == ["undo() brings back the state before this run"]
    session.undo()
    assert session.value("x") == [7]


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "much = bytearray(10**10)"])
def test_without_a_state_before_it_undo_is_not_spoken_of(
    open_session: Callable[..., kernel_runtime.Session], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(limiter, "LIMIT_GRACE", 60.0)
    session = open_session(wall="1s", memory="128M", automatic=False)
    result = session.run(code, check=False)
    assert result.verdict is not None
    assert (result.verdict.survived, result.verdict.undoable) == (True, False)
    with pytest.raises((LimitExceeded, GuestCodeError)) as caught:
        result.check()
    assert "undo" not in str(caught.value)
    assert not hasattr(caught.value, "__notes__")


def test_wall_time_kills_what_ignores_the_interrupt(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(wall="3s")
    stubborn = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)"
    result = session.run(stubborn, check=False)
    assert result.verdict is not None
    assert (result.verdict.reason, result.verdict.survived) == (Reason.WALL, False)
    assert session.run("1").ok


def test_cpu_seconds_are_held(open_session: Callable[..., kernel_runtime.Session], cgroup_world: str) -> None:
    session = open_session(cpu="300ms")
    result = session.run("while True: pass", check=False)
    assert result.verdict is not None
    assert result.verdict.reason is Reason.CPU
    assert session.run("import time; time.sleep(0.6)").ok


def test_processes_are_counted(
    open_session: Callable[..., kernel_runtime.Session], cgroup_world: str
) -> None:
    session = open_session(pids=16)
    result = session.run(
        "import os, time\n"
        "n = 0\n"
        "try:\n"
        "    while n < 200:\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(100_000); os._exit(0)\n"
        "        n += 1\n"
        "except BlockingIOError: pass\n"
        "n",
        check=False,
    )
    assert result.result is not None
    assert 4 <= int(result.result) <= 16
    session.restart()
    assert session.run("1").ok


def test_the_disk_layer_is_bounded(open_session: Callable[..., kernel_runtime.Session]) -> None:
    session = open_session(disk="4M")
    with pytest.raises(GuestCodeError, match=r"No space left|File too large"):
        session.run("open('a', 'wb').write(bytes(3_000_000)); open('/tmp/b', 'wb').write(bytes(3_000_000))")


def test_usage_is_measured_outside(session: kernel_runtime.Session, cgroup_world: str) -> None:
    session.run("held = bytearray(64_000_000)\nfor i in range(0, len(held), 4096): held[i] = 1")
    usage = session.usage()
    assert usage.memory > 60_000_000
    assert usage.pids >= 1
    assert usage.cpu > 0


# -- ends ----------------------------------------------------------------------------------------

ENDS = {
    "exit": ("import os; os._exit(3)", Reason.EXIT, "status 3"),
    "crash": ("import ctypes; ctypes.string_at(0)", Reason.SIGNAL, "SIGSEGV"),
    "kill": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Reason.SIGNAL, "SIGKILL"),
    "garbage": (("import os\nfor fd in range(3, 300):\n  try: os.write(fd, b'\\xff' * 64)\n  except OSError: pass\n"
                "import time; time.sleep(100_000)"), Reason.PROTOCOL, "exceeds"),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_an_end_has_a_verdict_and_the_next_run_works(session: kernel_runtime.Session, end: str) -> None:
    code, reason, words = ENDS[end]
    result = session.run(code, check=False)
    assert result.verdict is not None
    assert result.verdict.reason is reason
    assert words in result.verdict.explain()
    with pytest.raises(GuestLost):
        result.check()
    assert session.run("6 * 7").result == "42"


def test_last_words_before_a_crash_are_kept(session: kernel_runtime.Session) -> None:
    result = session.run("import os\nprint('before')\nos.write(2, b'dying')\nos._exit(1)", check=False)
    assert (result.stdout, result.stderr) == ("before\n", "dying")


def test_what_the_branch_started_dies_with_it(session: kernel_runtime.Session) -> None:
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        while True: time.sleep(1)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "os._exit(0)"
    )
    session.run(code, check=False)
    session.run("1")
    assert only_live_runs(inner_of(session))


def test_a_branch_that_closes_everything_says_what_it_lost(session: kernel_runtime.Session) -> None:
    result = session.run("import os; os.closerange(0, 65536)", check=False)
    assert result.verdict is not None
    assert "descriptors were closed" in result.verdict.explain()
    assert session.run("6 * 7").result == "42"


def test_emptied_modules_are_restored(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    assert (
        "sys.modules had been emptied" in session.run("import sys; sys.modules.clear()", check=False).stderr
    )
    assert session.run("import json; x + 1").result == "2"


def test_the_first_process_killed_from_outside(session: kernel_runtime.Session) -> None:
    session.run("x = 1")
    killed = _guest_processes()
    for child in killed:
        child.kill()
    assert eventually(lambda: not living(killed), 60)
    assert session.run("1 + 1").result == "2"


def test_the_zygote_killed_is_an_error_of_its_own_and_the_next_run_works(
    session: kernel_runtime.Session,
) -> None:
    def kill_zygotes(_: object) -> None:
        for process in _zygote_launchers():
            process.kill()

    code = "import time; print('running'); time.sleep(100_000)"
    result = session.run(code, check=False, on_output=kill_zygotes)
    assert result.verdict is not None
    assert "zygote" in result.verdict.explain()
    assert session.run("1 + 1").result == "2"


def test_a_stopped_guest_is_interrupted_killed_and_replaced(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    session = open_session(wall="3s")
    result = session.run("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", check=False)
    assert result.verdict is not None
    assert result.verdict.reason is Reason.WALL
    assert session.run("1").ok


def test_interrupt_keeps_state(session: kernel_runtime.Session) -> None:
    session.run("x = 5")
    with pytest.raises(GuestCodeError, match="KeyboardInterrupt"):
        session.run("print('running')\nwhile True: pass", on_output=at_first_output(session.interrupt))
    assert session.value("x") == 5


def test_an_interrupt_is_followed_by_what_wakes_a_call_that_missed_it(
    session: kernel_runtime.Session,
) -> None:
    """One that comes right before a system call begins would else be heard at its end."""
    code = (
        "import signal, time\n"
        "woken = []\n"
        "_ = signal.signal(signal.SIGURG, lambda *_: woken.append(1))\n"
        "try: print('running'); time.sleep(100_000)\n"
        "except KeyboardInterrupt: pass\n"
        "while not woken: time.sleep(0.01)\n"
        "'woken'"
    )
    result = session.run(code, on_output=at_first_output(session.interrupt))
    assert result.result == "'woken'"


@pytest.mark.parametrize("before", ["", "SIG_IGN", "SIG_DFL"])
def test_what_wakes_interrupts_nothing(session: kernel_runtime.Session, before: str) -> None:
    if before:
        session.run(f"import signal; _ = signal.signal(signal.SIGURG, signal.{before})")
    code = "import os, signal; os.kill(os.getpid(), signal.SIGURG); callable(signal.getsignal(signal.SIGURG))"
    assert session.run(code).result == "True", "a handler of Python's: system calls end by it"


# -- opening and closing ---------------------------------------------------------------------------


def test_closed_means_no_process_and_no_descriptor_left(
    open_session: Callable[..., kernel_runtime.Session],
) -> None:
    open_session().close()  # the zygote and the portal stand from here on
    assert eventually(lambda: _own_state()[1:] == (0, []), 60)  # a moment later its control group is removed
    before = _own_state()
    for _ in range(5):
        session = open_session()
        session.run("1")
        session.close()
    assert eventually(lambda: _own_state()[1:] == (0, []), 60), _own_state()
    assert eventually(lambda: _own_state()[0] <= before[0], 60), (_own_state(), before)


def test_a_closed_session_says_so(open_session: Callable[..., kernel_runtime.Session]) -> None:
    session = open_session()
    session.close()
    with pytest.raises(Conflict, match="not open"):
        session.run("1")


@pytest.mark.parametrize("amounts", [{"memory": "much"}, {"wall": "-3s"}, {"pids": "2"}, {"level": "none"}])
def test_malformed_options_are_refused_before_anything_starts(amounts: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        kernel_runtime.Session(**amounts)


def test_strict_sees_no_directory_and_starts_no_program(
    open_session: Callable[..., kernel_runtime.Session], directory: Path
) -> None:
    session = open_session(level="strict")
    assert session.run(f"import os; os.path.exists({str(directory / 'data.txt')!r})").result == "False"
    with pytest.raises(GuestCodeError, match=r"PermissionError|Operation not permitted"):
        session.run(escaped("import subprocess; subprocess.run(['/bin/true'])"))


def test_async_sessions_run_side_by_side(directory: Path) -> None:
    async def both() -> list[str | None]:
        async with (
            kernel_runtime.AsyncSession(workdir=directory) as one,
            kernel_runtime.AsyncSession(workdir=directory) as other,
        ):
            await one.put("x", 1)
            results = await asyncio.gather(one.run("'x' in dir()"), other.run("'x' in dir()"))
            return [result.result for result in results]

    assert asyncio.run(both()) == ["True", "False"]


def _zygote_launchers() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if _is_launcher(process)]


def _is_launcher(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[:1] == ["kernel-runtime-launcher"]
    except psutil.Error:  # it is ending at this moment
        return False


def _guest_processes() -> list[psutil.Process]:
    """First processes of sessions: the children of zygotes."""
    zygotes = [child for launcher in _zygote_launchers() for child in launcher.children()]
    return [guest for zygote in zygotes for guest in zygote.children()]


def _own_state() -> tuple[int, int, list[str]]:
    # Not by a walk through all groups: those of others go while it looks at them.
    return len(os.listdir("/proc/self/fd")), len(_guest_processes()), list(map(str, groups_of(os.getpid())))


assert signal.SIGKILL == 9
