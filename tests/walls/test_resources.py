"""What a guest takes from the host or from other guests: numbers and memory that the kernel counts
over all of them, or not at all unless told."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.client import Session
from kernel_runtime.workers.meter import world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INOTIFY = """
import ctypes
libc = ctypes.CDLL(None)
[libc.inotify_init1(0) >= 0 for _ in range(20)].count(True)
"""
TERMINALS = """
import os
def open_all():
    for count in range(80):
        try:
            os.open("/dev/ptmx", os.O_RDWR)
        except OSError:
            return count
    return 80
open_all()
"""
BUFFERS = """
import socket
def fill(kept=[]):
    server = socket.create_server(("127.0.0.1", 0), backlog=200)
    total = 0
    for _ in range(150):
        out = socket.create_connection(server.getsockname())
        kept += [out, server.accept()[0]]
        out.setblocking(False)
        try:
            while total < 300_000_000:
                total += out.send(bytes(1_000_000))
        except BlockingIOError:
            pass
    return total // 1_000_000
fill()
"""
PROCESSES = """
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
        count += 1
except OSError:
    print(count)
"""
#: Descriptors that were sent and never taken.
ON_THEIR_WAY = """
import array, os, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
kept, sent = [], 0
fds = array.array("i", [os.open("/dev/null", os.O_RDONLY)] * 253)
try:
    while True:
        kept += socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for _ in range(10):
            kept[-1].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            sent += 253
except OSError:
    print(sent)
"""
SHARED_MEMORY = """
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
while True:
    at = libc.shmat(libc.shmget(0, 16 << 20, 0o1600), None, 0)
    ctypes.memset(at, 1, 16 << 20)
"""
FULL_LAYER = """
import os
file = os.open("/tmp/full", os.O_CREAT | os.O_WRONLY)
try:
    while True:
        os.write(file, bytes(4096))
except OSError as error:
    print(error.errno, os.fstat(file).st_size >> 20)
"""
PID_1 = """
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


@pytest.fixture
def neighbours(directory: Path) -> Iterator[tuple[Session, Session]]:
    """Two guests of one zygote."""
    with contextlib.ExitStack() as stack:
        one, two = (
            stack.enter_context(Session(workdir=directory, memory="256M", pids=64, wall="60s"))
            for _ in range(2)
        )
        yield one, two


def test_user_the_hosts_file_watchers_are_left_to_others(attack: Callable[..., str]) -> None:
    assert attack(INOTIFY) == "8"
    assert int(attack(INOTIFY, without=("user",))) > 8


def test_mount_the_hosts_terminals_are_left_to_others(attack: Callable[..., str]) -> None:
    assert attack(TERMINALS) == "64"
    assert attack(TERMINALS, without=("mount", "landlock", "user")) == "80"


@pytest.mark.skipif("memory" not in world().limits, reason="needs a memory control group")
def test_cgroup_buffers_of_sockets_are_limited(attack: Callable[..., str]) -> None:
    """The kernel's pages for TCP are one number for the host: a guest that took them stopped others."""
    assert attack(BUFFERS, without=("cgroup",)) == "300"
    answer = attack(BUFFERS)
    assert "memory" in answer or int(answer) < 200


def test_processes_of_one_guest_are_not_missing_in_another(neighbours: tuple[Session, Session]) -> None:
    one, two = neighbours
    assert int(one.run(PROCESSES).stdout) > 50
    assert int(two.run(PROCESSES).stdout) > 50


def test_descriptors_on_their_way_do_not_stop_another(neighbours: tuple[Session, Session]) -> None:
    one, two = neighbours
    assert int(one.run(ON_THEIR_WAY).stdout) > 4000
    two.restart()
    assert two.run("6 * 7").result == "42"


@pytest.mark.skipif("memory" not in world().limits, reason="needs a memory control group")
def test_shared_memory_goes_with_its_branch(directory: Path) -> None:
    with Session(workdir=directory, memory="128M") as session:
        for _ in range(3):
            result = session.run(SHARED_MEMORY, check=False)
            assert result.verdict is not None
        assert session.run("6 * 7").result == "42"
        assert session.usage().memory < 64 * 2**20


def test_a_full_layer_leaves_room_for_the_next_branch(directory: Path) -> None:
    with Session(workdir=directory, memory="128M", disk="512M") as session:
        assert session.run(FULL_LAYER).stdout.split() == ["28", "64"]
        session.restart()
        assert session.run("6 * 7").result == "42"


def test_seccomp_pid_1_keeps_its_place_with_the_scheduler(attack: Callable[..., str]) -> None:
    """It outlives restarts: what is done to it would be done to every later branch."""
    assert attack(PID_1) == "['refused', 'refused', 'refused', 'refused', 'done']"
    assert attack(PID_1, without=("seccomp",)) == "['done', 'done', 'done', 'done', 'done']"


def test_seccomp_no_lease_on_a_file_of_the_image(attack: Callable[..., str]) -> None:
    code = "import fcntl; file = open('/tmp/own', 'w'); fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)"
    assert "Operation not permitted" in attack(code)
    assert attack(code, without=("seccomp",)) == "0"


def test_strict_no_program_starts(directory: Path) -> None:
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
 refused(lambda: os.posix_spawn("/bin/true", ["true"], {})), refused(raw), refused(unnamed)]
"""
    with Session(workdir=directory, level="strict") as session:
        assert session.run(code).result == "[True, True, True, True, True]"
        assert session.run(f"import os; os.path.exists({str(directory)!r})").result == "False"
