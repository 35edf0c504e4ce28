"""A denied system call is named: in the cell's error, in the run's record, in the verdict."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime import Session
from kernel_runtime.domain.verdict import Reason
from kernel_runtime.guest import denials
from kernel_runtime.sandbox import seccomp
from tests.workers.pressing import at_first_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RAW = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {{name: number for number, name in {seccomp.denied_names(os.uname().machine)!r}.items()}}
def call(name, *arguments):
    if libc.syscall(ctypes.c_long(NUMBERS[name]), *(ctypes.c_long(a) for a in arguments)) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
"""
CALLS = {
    "socket(AF_VSOCK)": "import socket; socket.socket(40, socket.SOCK_STREAM)",
    "socket(AF_NETLINK)": "import socket; socket.socket(16, socket.SOCK_RAW)",
    "socket(AF_INET, SOCK_RAW)": "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "ioctl(TIOCSTI)": "import fcntl; fcntl.ioctl(0, 0x5412, b'x')",
    "setpriority(process 1)": "import os; os.setpriority(os.PRIO_PROCESS, 1, 19)",
    "unshare(CLONE_NEWNS)": "call('unshare', 0x20000)",
    "clone(CLONE_NEWUSER)": "call('clone', 0x10000011, 0, 0, 0, 0)",
    "bpf": "call('bpf', 0, 0, 0)",
    "ptrace(PTRACE_ATTACH)": "call('ptrace', 16, 1, 0, 0)",
    "io_uring_setup": "call('io_uring_setup', 8, 0)",
    "mount": "call('mount', 0, 0, 0, 0, 0)",
}


@pytest.fixture(scope="module")
def session(directory: Path) -> Iterator[Session]:
    with Session(workdir=directory, memory="512M") as opened:
        opened.run(RAW)
        yield opened


@pytest.fixture
def fresh(directory: Path) -> Iterator[Session]:
    with Session(workdir=directory, memory="512M") as opened:
        opened.run(RAW)
        yield opened


def last_line(result: Any) -> str:
    """The last line of the cell's error, as a front end shows it."""
    lines: list[str] = "\n".join(result.error.traceback).splitlines()
    return lines[-1]


@pytest.mark.parametrize("name", CALLS)
def test_the_error_names_the_call(session: Session, name: str) -> None:
    result = session.run(CALLS[name], check=False)
    assert result.error is not None
    assert "Operation not permitted" in result.error.evalue
    assert last_line(result) == f"denied: {name}"
    assert result.denied == [name]


@pytest.mark.parametrize("name", ["unshare(CLONE_NEWNS)", "setpriority(process 1)"])
def test_without_the_filter_nothing_is_denied(attack: Callable[..., str], name: str) -> None:
    """The positive control: it is the filter that answers, and the listener that names."""
    code = f"{RAW}\ntry:\n    {CALLS[name]}\nexcept OSError as error:\n    print(error); raise"
    assert "Operation not permitted" in attack(code)
    if os.geteuid() == 0:
        allowed = code.replace("0x20000", "0")  # even unshare of nothing is denied
        assert attack(allowed, without=("seccomp", "user", "capabilities")) == "None"


def test_a_cell_that_ends_well_shows_nothing_and_records_it(session: Session) -> None:
    result = session.run("import socket\ntry:\n    socket.socket(40, 1)\nexcept OSError: print('well')")
    assert [output["output_type"] for output in result.outputs] == ["stream"]
    assert result.stdout == "well\n"
    assert result.denied == ["socket(AF_VSOCK)"]
    assert session.run("1 + 1").denied == []
    assert "socket(AF_VSOCK)" in session.denied


def test_an_error_tells_of_its_own_cell_only(session: Session) -> None:
    result = session.run("1 / 0", check=False)
    assert "denied" not in "\n".join(result.error.traceback)
    result = session.run("try: call('bpf')\nexcept OSError: pass\n1 / 0", check=False)
    assert last_line(result) == "denied: bpf", "whatever the error is, this may be why"


def test_a_library_that_only_asks_is_not_blamed(session: Session) -> None:
    """getaddrinfo opens a netlink socket and does without one."""
    code = "import socket; socket.getaddrinfo('example.org', 80, flags=socket.AI_ADDRCONFIG)"
    result = session.run(code, check=False)
    assert result.denied == ["socket(AF_NETLINK)"]
    assert last_line(result) == "kernel_runtime: this guest has no network; nothing was granted"


@pytest.mark.parametrize(
    "how",
    [
        "import threading; t = threading.Thread(target=lambda: libc.unshare(0x20000)); t.start(); t.join()",
        "pid = os.fork()\nif pid == 0: libc.unshare(0x20000); os._exit(0)\nos.waitpid(pid, 0)",
        "import os\nos.system('python -c \"import ctypes; ctypes.CDLL(None).unshare(0x20000)\"')",
    ],
    ids=["thread", "fork", "program"],
)
def test_whatever_the_cell_starts_is_named_too(session: Session, how: str) -> None:
    result = session.run(f"{how}\nraise RuntimeError('it did not work')", check=False)
    assert last_line(result) == "denied: unshare(CLONE_NEWNS)"
    assert result.denied == ["unshare(CLONE_NEWNS)"]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("os.kill(os.getpid(), 31)", Reason.SECCOMP),
        ("os._exit(3)", Reason.EXIT),
        ("ctypes.string_at(0)", Reason.SIGNAL),
    ],
    ids=["SIGSYS", "exit", "crash"],
)
def test_the_verdict_names_it(session: Session, end: str, reason: Reason) -> None:
    code = f"{RAW}\ntry: call('keyctl', 0, 0)\nexcept OSError: pass\n{end}"
    verdict = session.run(code, check=False).verdict
    assert verdict is not None
    assert verdict.reason is reason
    assert verdict.evidence.endswith("; denied: keyctl")
    session.run(RAW)


def test_strict_names_the_program_that_may_not_start(directory: Path) -> None:
    with Session(workdir=directory, level="strict") as session:
        # The language policy refuses `import subprocess`; it does not see what a library does.
        result = session.run("import webbrowser; webbrowser.subprocess.run(['true'])", check=False)
        assert last_line(result) == "denied: execve"
        assert result.denied == ["execve"]


def test_user_code_reaches_no_listener(session: Session) -> None:
    """Who holds it could let calls through."""
    links = session.run(
        "found = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')"
        " if os.path.islink(f'/proc/self/fd/{fd}')]; 'seccomp' in str(found)"
    )
    assert links.result == "False"
    assert "PermissionError" in str(session.run("os.listdir('/proc/1/fd')", check=False).error)
    result = session.run(f"{RAW}\nfd = os.pidfd_open(1); call('pidfd_getfd', fd, 6, 0)", check=False)
    assert last_line(result) == "denied: pidfd_getfd"


def test_pid_1_asks_for_nothing_that_is_denied(fresh: Session) -> None:
    """It would wait for its own answer: whatever it does, the session goes on, and nothing was denied."""
    assert fresh._session._session is not None
    inner = fresh._session._session
    for _ in range(2):
        endless = "print('on')\nwhile True: pass"
        result = fresh.run(endless, check=False, on_output=at_first_output(fresh.interrupt))
        assert "KeyboardInterrupt" in str(result.error)
        assert fresh.run("import os; os._exit(1)", check=False).verdict is not None
        assert fresh.run("import os, signal; os.kill(os.getpid(), 9)", check=False).verdict is not None
        fresh.restart()
        assert fresh.run("6 * 7").result == "42"
    assert inner.denied == []
    assert inner.info["denials"] == "named"


FLOOD = """
import ctypes, os
libc = ctypes.CDLL(None)
for _ in range(8):
    if os.fork() == 0:
        while True:
            libc.unshare(0x20000)
while True:
    libc.unshare(0)
"""


def test_a_flood_of_denied_calls_stalls_nobody(fresh: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = fresh._session._session
    assert inner is not None
    told: list[str] = []
    on_denied = inner.on_denied
    monkeypatch.setattr(inner, "on_denied", lambda frame: (told.append(frame.call), on_denied(frame)))
    results: list[Any] = []
    runner = threading.Thread(target=lambda: results.append(fresh.run(FLOOD, check=False)))
    begun = time.monotonic()
    runner.start()
    while len(told) < denials.BURST + 10 or len(set(told)) < 2:  # its children begin before itself
        assert time.monotonic() - begun < 60
        time.sleep(0.05)
    flooded = time.monotonic()
    fresh.restart()  # pid 1 hears it and acts
    restarted = time.monotonic()
    runner.join()
    assert restarted - flooded < 30
    assert {*results[0].denied} == {"unshare", "unshare(CLONE_NEWNS)"}
    most = denials.BURST + denials.MAX_NAMES + (restarted - begun) * denials.RATE
    assert len(told) <= most
    assert fresh.run("6 * 7").result == "42"


UNHEARD = """
import struct, sys
from kernel_runtime import Session
from kernel_runtime.sandbox import seccomp, syscalls
syscalls.set_no_new_privs()
everything = struct.pack("=HBBI", seccomp.RETURN, 0, 0, seccomp.RET_ALLOW)
outer = syscalls.seccomp_load(everything, syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER)
with Session(workdir=sys.argv[1]) as session:
    result = session.run("import socket; socket.socket(40, 1)", check=False)
    print(session._session._session.info["denials"])
    print(result.error.evalue, result.denied, "denied" in str(result.error.traceback))
"""


def test_where_the_kernel_gives_no_listener_the_wall_stands_unnamed(directory: Path) -> None:
    """As in a container whose own filter has a listener; said in the session's info."""
    done = subprocess.run(
        [sys.executable, "-c", UNHEARD, str(directory)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said, then = done.stdout.splitlines()
    assert said.startswith("not named:")
    assert then == "[Errno 1] Operation not permitted [] False"


def test_the_command_line_shows_it(directory: Path) -> None:
    code = "import socket; socket.socket(40, socket.SOCK_STREAM)"
    done = subprocess.run(
        [sys.executable, "-m", "kernel_runtime", "exec", "-c", code],
        capture_output=True, text=True, timeout=120, check=False, cwd=directory,
    )  # fmt: skip
    assert done.returncode != 0
    assert (done.stdout + done.stderr).rstrip().splitlines()[-1] == "denied: socket(AF_VSOCK)"
