"""Processes: a guest sees, signals and traces nothing but its own."""

from __future__ import annotations

import ast
import os
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.walls.descendants import settles
from tests.walls.escape import escaped
from tests.walls.rows import KERNEL, PLAIN, SECCOMP, Outcomes, Row, check_refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.walls.conftest import Guest, House

pytestmark = pytest.mark.usefixtures("front_is_alive")


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
    assert settles(guest, 1)
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
