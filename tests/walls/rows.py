"""Many small attacks in one cell: each in a child of its own, each with an outcome as a word.

A row is an expression. Its outcome is what it gives, or the name of the error or signal. The
same rows are run again behind fewer walls, and in a plain process of the host.
"""

from __future__ import annotations

import functools
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from kernel_runtime.sandbox.seccomp import read_policy
from tests.walls.conftest import KERNEL_WALLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.walls.conftest import House

#: What an outcome is called when the kernel has no such thing.
ABSENT = {"ENOSYS", "EAFNOSUPPORT", "ENODEV", "EOPNOTSUPP"}
REFUSED = {"EPERM", "ENOSYS", "EACCES", "EROFS", "ENOENT"}
#: What kernels are built without, or lock for root, too; devices and files that not every host has. Only these
#: rows may go without a control: any other that has none is a failure.
OPTIONAL = frozenset({
    "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "memfd_secret", "x32", "iopl",
    "ioperm", "modify_ldt", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "/proc/sysrq-trigger", "/proc/sys/kernel/modprobe", "/proc/sys/fs/binfmt_misc/register", "/proc/mtrr",
    "/proc/kmsg", "/proc/kcore", "/proc/slabinfo", "/proc/vmallocinfo", "/proc/kpagecount",
    "/proc/irq/default_smp_affinity", "release_agent", "cgroup.procs",
    "/dev/kmsg", "/dev/mem", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/loop0", "/dev/tty0", "/dev/vsock",
    "/dev/console",
})  # fmt: skip
#: Seccomp alone; everything between a guest and its kernel; nothing at all (a root process).
SECCOMP, KERNEL, PLAIN = ("seccomp",), KERNEL_WALLS, None

PRELUDE = """
import ctypes, errno, fcntl, json, mmap, os, select, signal, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
NR = %(numbers)s
NEW = dict(TIME=0x80, NS=0x20000, CGROUP=0x2000000, UTS=0x4000000, IPC=0x8000000, USER=0x10000000,
           PID=0x20000000, NET=0x40000000)
def call(number, *arguments):
    number = NR[number] if isinstance(number, str) else number
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    passed += [ctypes.c_long(0)] * (6 - len(passed))
    result = libc.syscall(ctypes.c_long(number), *passed)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result
def machine(*code):
    "Run machine code of our own: no library stands between it and the kernel."
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes(code))
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if -4096 < result < 0:
        raise OSError(-result, "")
    return result
def new_process(number, *arguments):
    "A call that forks: the child goes at once, the parent waits for it."
    pid = call(number, *arguments)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0x40000000)
    return "forked"
def clone_arguments(flags):
    return struct.pack("8Q", flags, 0, 0, 0, 17, 0, 0, 0)
def entered(kind):
    return call("setns", os.open(f"/proc/self/ns/{kind}", os.O_RDONLY), 0)
def opened(path, flags=os.O_WRONLY):
    os.close(os.open(path, flags))
    return "opened"
def node(kind, device):
    os.mknod("/tmp/node", kind, os.makedev(*device))
    os.unlink("/tmp/node")
def child():
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # whatever becomes of its parent
        while True:
            signal.pause()
    return pid
def on_terminal(number, argument):
    "An ioctl on a terminal that is the caller's own and controls it."
    master, slave = os.openpty()
    fcntl.ioctl(slave, 0x540E, 0)
    return fcntl.ioctl(slave, number, argument)
def apart(attack):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            signal.alarm(10)
            outcome = attack()
            outcome = outcome if isinstance(outcome, str) else "done"
        except OSError as error:
            outcome = errno.errorcode.get(error.errno, str(error))
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
        os.write(writing, outcome.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        # Written at once; the end of the file would wait for the child's own children.
        outcome = os.read(reading, 4096).decode() if select.select([file], [], [], 15)[0] else ""
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass
    _, status = os.waitpid(pid, 0)
    return outcome or (signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "nothing")
"""


#: What a plain root process mounts, or names its machine, is seen by nobody else.
_OWN_MOUNTS = """
import ctypes
libc = ctypes.CDLL(None)
if libc.unshare(0x20000 | 0x4000000) == 0:
    assert libc.mount(None, b"/", None, 0x44000, None) == 0
"""


class Row(NamedTuple):
    """``attack``: an expression. ``without``: the walls without which it gets through (``PLAIN``:
    only in a root process of the host). ``refused``: what may come of it behind all walls.
    """

    name: str
    attack: str
    without: tuple[str, ...] | None = SECCOMP
    refused: frozenset[str] | set[str] = frozenset({"EPERM", "ENOSYS"})


@functools.cache
def prelude() -> str:
    """What rows are written in, for this machine."""
    policy = read_policy(os.uname().machine)
    numbers: dict[str, int] = {**policy.numbers(policy.allow), **policy.numbers(policy.eperm)}
    numbers |= {name: entry[0] for name, entry in policy.enosys.items()}
    numbers |= {name: check.number for name, check in policy.check.items()}
    return PRELUDE % {"numbers": repr(numbers)}


def program(rows: list[Row], before: str = "") -> str:
    """All rows as one program that defines ``outcomes``; ``before``: what else they are written in."""
    attacks = ",".join(f"{row.name!r}: lambda: {row.attack}" for row in rows)
    return f"{prelude()}\n{before}\noutcomes = {{name: apart(attack) for name, attack in {{{attacks}}}.items()}}\n"


class Outcomes:
    """Runs a table of rows at most once behind each set of walls."""

    def __init__(self, house: House, plain: Callable[..., Any], rows: list[Row], before: str = "") -> None:
        self._house = house
        self._plain = plain
        self._rows = rows
        self._before = before
        self._got: dict[tuple[str, ...] | None, dict[str, str]] = {}

    def of(self, row: Row, without: tuple[str, ...] | None = ()) -> str:
        """What came of ``row``: behind all walls, or ``without`` some."""
        if without not in self._got:
            rows = [other for other in self._rows if without in ((), other.without, PLAIN)]
            self._got[without] = self._run(rows, without)
        return self._got[without][row.name]

    def _run(self, rows: list[Row], without: tuple[str, ...] | None) -> dict[str, str]:
        code = program(rows, self._before) + "print(json.dumps(outcomes))"
        if without is None:
            return dict(self._plain(_OWN_MOUNTS + code))
        result = self._house.run(code, without=without)
        assert result.ok, result
        return dict(json.loads(result.stdout))


def check_refused(outcomes: Outcomes, row: Row) -> None:
    """Refused behind all walls; let through without those that the row names."""
    assert outcomes.of(row) in row.refused
    if row.without is PLAIN and os.getuid() != 0:
        pytest.skip("needs root: only root gets through where there is no wall")
    control = outcomes.of(row, row.without)
    if control in row.refused and outcomes.of(row, PLAIN) in ABSENT | row.refused:
        if row.name in OPTIONAL:
            pytest.skip(f"needs a kernel with {row.name}")
        if os.getuid() != 0:
            pytest.skip(f"needs root: whom no wall keeps from {row.name}, the host does")
    assert control not in row.refused, "the positive control is refused as well"
