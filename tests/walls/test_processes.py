"""Processes: a guest sees, signals, traces and outlives nothing but its own."""

from __future__ import annotations

import ast
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from kernel_runtime.domain.verdict import Reason
from kernel_runtime.workers.processes import Process, Processes, pid_within
from tests.walls.escape import escaped
from tests.walls.rows import KERNEL, PLAIN, SECCOMP, Outcomes, Row, check_refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.walls.conftest import Guest, House

#: In the guest: a child that waits, for attacks on a process that is not protected.
BEFORE = """
import resource
def memory_of(pid, number):
    own = ctypes.create_string_buffer(8)
    local = struct.pack("QQ", ctypes.addressof(own), 8)
    return call(number, pid, local, 1, local, 1, 0)
def written(path, text):
    os.write(os.open(path, os.O_WRONLY), text)
def attached(pid):
    call("ptrace", 16, pid, 0, 0)
def descriptor_of(pid):
    return call("pidfd_getfd", os.pidfd_open(pid), 0, 0)
"""
#: On a process of one's own, where nothing but the wall stands in the way.
OWN = [
    Row("ptrace, be traced", "call('ptrace', 0, 0, 0, 0)"),
    Row("ptrace, attach", "attached(child())"),
    Row("ptrace, seize", "call('ptrace', 0x4206, child(), 0, 0)"),
    Row("process_vm_readv", "memory_of(child(), 'process_vm_readv')"),
    Row("process_vm_writev", "memory_of(child(), 'process_vm_writev')"),
    Row("process_madvise", "call('process_madvise', os.pidfd_open(child()), 0, 0, 20, 0)", PLAIN),
    Row("pidfd_getfd", "descriptor_of(child())"),
    Row("kcmp", "call('kcmp', os.getpid(), child(), 0, 0, 0)"),
    Row("move_pages", "call('move_pages', child(), 0, 0, 0, 0, 0)"),
    Row("real time", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))", PLAIN),
    Row("deadline", "call('sched_setattr', 0, struct.pack('IIQiIQQQ', 48, 6, 0, 0, 0, 10**7, 10**8, 10**8), 0)", PLAIN),
    Row("a higher priority", "os.nice(-5) and None", PLAIN, {"EPERM", "EACCES"}),
    Row("real-time input and output", "call('ioprio_set', 1, 0, 1 << 13)", PLAIN),
    Row("more processes", "resource.setrlimit(resource.RLIMIT_NPROC, (10**4, 10**4))", ("rlimits",), {"ValueError: not allowed to raise maximum limit"}),
    Row("limits of another", "resource.prlimit(child(), resource.RLIMIT_NOFILE, (9, 9)) and None"),
]  # fmt: skip
#: Pid 1 is protected twice: by the filter, and by not being dumpable. No wall can be left out
#: that would open it: the control is the same attack on a child, in the table above.
PID_1 = [
    "attached(1)",
    "memory_of(1, 'process_vm_readv')",
    "descriptor_of(1)",
    "call('kcmp', 1, 1, 0, 0, 0)",
    "call('process_madvise', os.pidfd_open(1), 0, 0, 20, 0)",
    "opened('/proc/1/mem', os.O_RDWR)",
    "opened('/proc/1/oom_score_adj')",
    "opened('/proc/1/clear_refs')",
    "written('/proc/1/timerslack_ns', b'1')",
    "written('/proc/1/attr/current', b'x')",
    "resource.prlimit(1, resource.RLIMIT_NOFILE, (9, 9)) and None",
]


@pytest.fixture(scope="module")
def own(house: House, plain: Callable[..., Any]) -> Outcomes:
    return Outcomes(house, plain, OWN, BEFORE)


@pytest.mark.parametrize("row", OWN, ids=lambda row: row.name)
def test_power_over_processes(own: Outcomes, row: Row) -> None:
    check_refused(own, row)


@pytest.mark.parametrize("without", [(), SECCOMP, KERNEL], ids=str)
def test_pid_1_is_closed_twice(house: House, plain: Callable[..., Any], without: tuple[str, ...]) -> None:
    rows = [Row(attack, attack, without) for attack in PID_1]
    outcomes = Outcomes(house, plain, rows, BEFORE)
    done = {row.name for row in rows if outcomes.of(row, without) in ("done", "opened")}
    if without == ():
        assert done == set()
    else:  # the same user may set its limits: that, the filter alone prevents
        assert any("prlimit" in name for name in done)
        assert not any("attached" in name or "memory" in name or "/mem" in name for name in done)


@pytest.fixture
def two(open_guest: Callable[..., Guest]) -> tuple[Guest, Guest]:
    return open_guest(), open_guest()


def test_signals_reach_nobody_else(two: tuple[Guest, Guest], plain: Callable[..., Any]) -> None:
    """Every process that it can name by any number; another guest keeps its state, the front its life."""
    one, other = two
    other.run("kept = 42")
    code = """
import os, signal
def tried(pid, number=0):
    try:
        os.kill(pid, number)
    except OSError as error:
        return type(error).__name__
    return "sent"
[tried(FRONT), tried(OTHER), tried(-1, signal.SIGUSR2), {n for n in range(2, 5000) if tried(n) == "sent"} - {os.getpid()}]
"""
    code = code.replace("FRONT", str(os.getpid())).replace("OTHER", str(other.inner.pid))
    answer = one.answer("import signal; signal.signal(signal.SIGUSR2, signal.SIG_IGN)\n" + code)
    *outcomes, reached = ast.literal_eval(answer.replace("set()", "()"))
    # Where nothing but pid 1 and the guest itself runs, there is nobody to send to.
    assert outcomes[:2] == ["ProcessLookupError", "ProcessLookupError"]
    assert outcomes[2] in ("sent", "ProcessLookupError")
    frozen = {3, 4}  # a branch of itself, and the child that left it
    assert set(reached) <= frozen | one.inner.snapshots.pids
    assert other.answer("kept") == "42"
    assert plain(f"import os, json; os.kill({os.getpid()}, 0); print(json.dumps('sent'))") == "sent"


def test_pid_1_outlives_every_signal(open_guest: Callable[..., Guest]) -> None:
    guest = open_guest()
    code = """
import os
def sent(pid):
    for number in range(1, 65):
        try:
            os.kill(pid, number)
        except OSError:
            pass
sent(1)
child = os.fork()
if child == 0:
    import time; time.sleep(60)
sent(child)
os.WIFSIGNALED(os.waitpid(child, 0)[1])
"""
    pid = guest.inner.pid
    assert guest.answer(code) == "True", "the control: what is not pid 1 ends"
    guest.restart()
    assert guest.answer("6 * 7") == "42"
    assert guest.inner.pid == pid


BOMB = """
import os, time
count = 0
for _ in range(200):
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    except OSError:
        break
    count += 1
count
"""
THREADS = """
import threading
stop, count = threading.Event(), 0
threading.stack_size(1 << 16)  # or memory would end first
for _ in range(200):
    try:
        threading.Thread(target=stop.wait, daemon=True).start()
    except RuntimeError:
        break
    count += 1
stop.set()
count
"""


@pytest.mark.parametrize("code", [BOMB, THREADS], ids=["processes", "threads"])
def test_bombs_are_small(house: House, code: str) -> None:
    """Control group and rlimit both hold the number; the control leaves out both."""
    guest = house.open(pids=40)
    assert 20 < int(guest.answer(code)) < 45
    guest.restart()
    assert guest.answer("6 * 7") == "42"
    guest.close()
    assert house.run(code, pids=40, without=("cgroup", "rlimits")).result == "200"


def test_a_bomb_that_never_stops(open_guest: Callable[..., Guest]) -> None:
    """Each fork forks on. The cell ends by its wall limit, the session goes on, nothing is left."""
    guest = open_guest(pids=40, wall="3s")
    result = guest.run(
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    )
    assert result.verdict is not None
    assert guest.answer("6 * 7") == "42"
    assert _settles(guest, 1)


def _below(guest: Guest) -> list[psutil.Process]:
    """The host's view of what is below a guest's first process, but for frozen branches that stand still."""
    try:
        found = psutil.Process(guest.inner.pid).children(recursive=True)
        return [process for process in found if not _is_frozen(guest, process)]
    except psutil.NoSuchProcess:
        return []


def _is_frozen(guest: Guest, process: psutil.Process) -> bool:
    known = pid_within(process.pid) in guest.inner.snapshots.pids
    return known and process.status() == psutil.STATUS_STOPPED


def _settles(guest: Guest, number: int) -> bool:
    deadline = time.monotonic() + 60
    while len(_below(guest)) != number and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(_below(guest)) == number


SURVIVOR = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            time.sleep(120)
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("end", ["import os; os._exit(1)", "import os; os.kill(os.getpid(), 9)", "restart"])
def test_no_survivors(open_guest: Callable[..., Guest], end: str) -> None:
    """Forked twice, in sessions of their own, deaf to signals: they end with the branch."""
    guest = open_guest()
    guest.run(SURVIVOR)
    assert _settles(guest, 6), "the control: until the branch ends, they are there"
    if end == "restart":
        guest.restart()
    else:
        guest.run(end)
    assert guest.answer("6 * 7") == "42"
    assert _settles(guest, 1)


def test_closing_leaves_no_process(house: House) -> None:
    guest = house.open()
    guest.run(SURVIVOR)
    assert _settles(guest, 6)
    processes = [psutil.Process(guest.inner.pid), *_below(guest)]
    guest.close()
    house._guests.remove(guest)
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []


def test_a_plain_child_survives(plain: Callable[..., Any]) -> None:
    """The control of the tests above: without a guest's pid 1, it is left to the host."""
    code = """
import json, os, time
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writing, str(os.getpid()).encode())
        for fd in (0, 1, 2):
            os.close(fd)
        time.sleep(60)
    os._exit(0)
os.wait()
print(json.dumps([int(os.read(reading, 99))]))
"""
    (survivor,) = plain(code)
    assert psutil.pid_exists(survivor)
    os.kill(survivor, signal.SIGKILL)


def test_a_flood_of_zombies(open_guest: Callable[..., Guest]) -> None:
    """Its own unreaped children count for it alone; orphans are reaped by pid 1 at once."""
    guest = open_guest(pids=40)
    kept = "import os\nfor _ in range(25):\n    os.fork() or os._exit(0)"
    assert guest.run(kept).ok
    guest.restart()
    orphans = """
import os, time
lost = 0
for _ in range(100):
    try:
        if os.fork() == 0:
            os.fork()
            os._exit(0)
        os.wait()
    except OSError:
        lost += 1
        time.sleep(0.001)
lost < 50
"""
    assert guest.answer(orphans) == "True"
    assert _settles(guest, 1)


@pytest.mark.parametrize("how", ["signal.signal(n, signal.SIG_IGN)", "signal.pthread_sigmask(0, {n})"])
def test_ignored_signals_end_nothing_but_the_branch(open_guest: Callable[..., Guest], how: str) -> None:
    guest = open_guest(wall="1s")
    code = f"""
import signal
for n in set(range(1, 65)) - {{9, 19, 32, 33}}:
    {how}
while True:
    pass
"""
    result = guest.run(code)
    assert result.verdict is not None
    assert result.verdict.reason is Reason.WALL
    assert not result.verdict.survived
    assert guest.answer("6 * 7") == "42"


HIDDEN = """
import ctypes, os, shutil, time
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
shutil.copy("/bin/sleep", "/tmp/unreadable")
os.chmod("/tmp/unreadable", 0o111)
if os.fork() == 0:
    os.execv("/tmp/unreadable", ["unreadable", "60"])
block = bytearray(100 << 20)
"""


def test_not_dumpable_processes_are_measured(open_guest: Callable[..., Guest]) -> None:
    """By prctl, or by a program that its own user cannot read: they cannot hide what they use."""
    guest = open_guest()
    assert guest.run(HIDDEN).ok
    usage = guest.usage()
    assert usage.memory > 100 * 2**20
    assert usage.pids >= 3


def test_what_cannot_be_read_counts_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary front without control groups may not read their shares: then all that they hold counts."""

    def closed(*_: object) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Processes, "_text", closed)
    first, other = (Process(pid, "S", 0.0, 1, pid << 20) for pid in (1, 2))
    assert Processes(1).shared_out([]) == 0
    assert Processes(1).shared_out([first, other]) == 2 << 20


def test_names_that_lie(open_guest: Callable[..., Guest]) -> None:
    """What the host reads of processes does not trust their names."""
    guest = open_guest()
    code = """
import ctypes, os, time
for name in (b") R 1 1 1 (", b"a b\\nc", b"\\xff\\xfe", b"Pid:\\t1"):
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, name, 0, 0, 0)
        time.sleep(60)
"""
    guest.run(code)
    assert _settles(guest, 5)
    assert guest.usage().pids >= 6
    guest.restart()
    assert _settles(guest, 1)


def test_seccomp_pid_1_keeps_its_place_with_the_scheduler(attack: Callable[..., str]) -> None:
    """It outlives restarts: what is done to it would be done to every later branch."""
    code = """
import os
def tried(what):
    try:
        what()
    except PermissionError:
        return "refused"
    return "done"
[
    tried(lambda: os.setpriority(os.PRIO_PROCESS, 1, 5)),
    tried(lambda: os.setpriority(os.PRIO_USER, 0, 5)),
    tried(lambda: os.sched_setaffinity(1, os.sched_getaffinity(1))),
    tried(lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))),
    tried(lambda: os.nice(1)),
]
"""
    assert attack(code) == "['refused', 'refused', 'refused', 'refused', 'done']"
    assert attack(code, without=SECCOMP) == "['done', 'done', 'done', 'done', 'done']"


def test_pid_no_process_but_its_own(attack: Callable[..., str], open_guest: Callable[..., Guest]) -> None:
    guest = open_guest()
    guest.run("import os")
    assert _settles(guest, 1)
    seen = ast.literal_eval(
        guest.answer("{int(p) for p in os.listdir('/proc') if p.isdigit()} | {-os.getpid()}")
    )
    own = {-pid for pid in seen if pid < 0}
    left = {pid for pid in seen if pid > 1} - own
    assert own
    # Its frozen branches, and the child that has just left one.
    assert len(left - guest.inner.snapshots.pids) <= 1
    assert "ProcessLookupError" in attack(f"import os; os.kill({os.getpid()}, 0)")
    assert len(psutil.pids()) > 2


def test_uts_own_host_name(attack: Callable[..., str]) -> None:
    import socket

    code = "import socket; socket.gethostname()"
    assert attack(code) == "'guest'"
    assert attack(code, without=("uts",)) == repr(socket.gethostname())


def test_ipc_no_queues_or_segments_of_the_host(attack: Callable[..., str]) -> None:
    code = "import os; os.readlink('/proc/self/ns/ipc')"
    assert attack(code) != repr(os.readlink("/proc/self/ns/ipc"))
    assert attack(code, without=("ipc",)) == repr(os.readlink("/proc/self/ns/ipc"))


def test_strict_no_program_starts(open_guest: Callable[..., Guest], attack: Callable[..., str]) -> None:
    code = """
import ctypes, os, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def refused(what):
    try:
        return what() != 0
    except PermissionError:
        return True
def raw():
    return libc.execv(b"/bin/true", (ctypes.c_char_p * 2)(b"true", None))
def unnamed():
    file = os.memfd_create("x", 0)
    os.write(file, open("/bin/true", "rb").read())
    return libc.syscall(322 if os.uname().machine == "x86_64" else 281, file, b"", None, None, 0x1000)
[refused(lambda: subprocess.run(["true"]).returncode), refused(lambda: os.system("true")),
 refused(lambda: os.posix_spawn("/bin/true", ["true"], {}))] + [refused(what) for what in (RAW)]
"""
    assert (
        attack(escaped(code.replace("RAW", "raw, unnamed")), level="strict")
        == "[True, True, True, True, True]"
    )
    assert attack(code.replace("RAW", "")) == "[False, False, True]"  # a pid is no zero


@pytest.fixture(autouse=True)
def _front_is_alive() -> Iterator[None]:
    """Whatever a test does to its guest, this process takes no signal from it."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    assert signal.getsignal(signal.SIGUSR1) is before
