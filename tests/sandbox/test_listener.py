"""The filter's listener: who serves it hears of a denied call; without one the wall stands as well."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.sandbox import seccomp, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable

PREAMBLE = """
import ctypes, errno, os, select, struct, sys
from kernel_runtime.guest.denials import Denials
from kernel_runtime.sandbox import seccomp, syscalls
arch = os.uname().machine
program, names = seccomp.compile_program(arch), seccomp.denied_names(arch)
numbers = {name: number for number, name in names.items()}
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    result = libc.syscall(ctypes.c_long(numbers[name]), *(ctypes.c_long(a) for a in arguments))
    return errno.errorcode[ctypes.get_errno()] if result == -1 else "ok"
"""
SERVE = """
listener = seccomp.load(program)
ours, theirs = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(listener)
    said = [call("unshare", 0x20000), call("socket", 40, 1, 0), call("ioctl", 0, 0x5412), call("bpf", 0)]
    os.write(theirs, " ".join(said).encode())
    os._exit(0)
denials, told = Denials(listener, names), []
while len(told) < 4:
    assert select.select([listener], [], [], 30)[0]
    denials.serve(lambda frame: told.append(frame.call))
os.waitpid(pid, 0)
print(*told, os.get_inheritable(listener), os.read(ours, 99).decode())
"""


def test_the_listener_hears_of_each_denied_call(child: Callable[..., str]) -> None:
    names = "unshare(CLONE_NEWNS) socket(AF_VSOCK) ioctl(TIOCSTI) bpf"
    assert child(PREAMBLE + SERVE) == f"{names} False EPERM EPERM EPERM EPERM"


def test_who_dies_while_asking_is_no_trouble(child: Callable[..., str]) -> None:
    code = """
import signal
denials = Denials(seccomp.load(program), names)
def ask():
    pid = os.fork()
    if pid == 0:
        call("unshare", 0)
        os._exit(0)
    assert select.select([denials], [], [], 30)[0]
    return pid
for _ in range(5):
    pid = ask()
    denials.serve(lambda frame: (os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0)))  # before the answer
pid = ask()
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
print(select.select([denials], [], [], 0)[0])  # nobody asks any more
pid = ask()
denials.serve(lambda frame: print(frame.call))
print(os.waitpid(pid, 0)[1])
"""
    assert child(PREAMBLE + code).split() == ["[]", "unshare", "0"]


def test_a_closed_listener_lets_nothing_through(child: Callable[..., str]) -> None:
    assert child(PREAMBLE + "os.close(seccomp.load(program)); print(call('unshare', 0))") == "ENOSYS"


def test_a_listener_further_out_leaves_the_wall_unnamed(child: Callable[..., str]) -> None:
    """As in a container whose own filter has one: the kernel answers EBUSY."""
    outer = struct.pack("=HBBI", seccomp.RETURN, 0, 0, seccomp.RET_ALLOW)
    code = f"""
syscalls.set_no_new_privs()
outer = syscalls.seccomp_load({outer!r}, syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER)
print(seccomp.load(program), call("unshare", 0))
"""
    assert child(PREAMBLE + code) == "None EPERM"


@pytest.mark.parametrize("refusal", [errno.EBUSY, errno.EINVAL, errno.ENOSYS])
def test_without_a_listener_the_plain_program_is_loaded(
    refusal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[bytes] = []

    def seccomp_load(program: bytes, flags: int = 0) -> int:
        if flags:
            raise OSError(refusal, "no listener here")
        loaded.append(program)
        return 0

    monkeypatch.setattr(syscalls, "set_no_new_privs", lambda: None)
    monkeypatch.setattr(syscalls, "seccomp_load", seccomp_load)
    program = seccomp.compile_program("x86_64")
    assert seccomp.load(program) is None
    assert loaded == [seccomp.unnamed(program)] != [program]


def test_an_old_kernel_gives_a_listener_without_the_newer_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    def seccomp_load(_: bytes, flags: int = 0) -> int:
        if flags & syscalls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return 7

    monkeypatch.setattr(syscalls, "set_no_new_privs", lambda: None)
    monkeypatch.setattr(syscalls, "seccomp_load", seccomp_load)
    assert seccomp.load(seccomp.compile_program("x86_64")) == 7
