"""Denied calls get the name that a person would use."""

from __future__ import annotations

import pytest

from kernel_runtime.guest.calls import name_of
from kernel_runtime.sandbox import seccomp

NAMES = {
    "socket(AF_VSOCK)": ("socket", 40, 1, 0),
    "socket(AF_NETLINK)": ("socket", 16, 3, 0),
    "socket(AF_PACKET)": ("socket", 17, 3, 768),
    "socket(AF_ALG)": ("socket", 38, 5, 0),
    "socket(AF_1234)": ("socket", 1234, 1, 0),
    "socket(AF_INET, SOCK_RAW)": ("socket", 2, 3, 1),
    "socket(AF_INET6, SOCK_SEQPACKET)": ("socket", 10, 5, 132),
    "socket(AF_INET, IPPROTO_SCTP)": ("socket", 2, 1, 132),
    "socket(AF_UNIX, SOCK_SEQPACKET)": ("socket", 1, 5 | 0o2000000, 0),
    "socketpair(AF_INET)": ("socketpair", 2, 1, 0),
    "clone(CLONE_NEWUSER)": ("clone", 0x1000_0000 | 17),
    "clone(CLONE_NEWNS|CLONE_NEWPID)": ("clone", 0x2002_0011),
    "unshare(CLONE_NEWNS)": ("unshare", 0x20000),
    "unshare": ("unshare", 0),
    "unshare(CLONE_NEWTIME|0x400)": ("unshare", 0x480),
    "setns(CLONE_NEWNET)": ("setns", 3, 0x4000_0000),
    "ioctl(TIOCSTI)": ("ioctl", 0, 0x5412),
    "ioctl(TIOCLINUX)": ("ioctl", 0, 0x541C | 1 << 40),
    "prctl(PR_SET_SECCOMP)": ("prctl", 22, 2),
    "prctl(PR_SET_PTRACER)": ("prctl", 0x59616D61),
    "prctl(0x63)": ("prctl", 99),
    "personality(ADDR_NO_RANDOMIZE)": ("personality", 0x40000),
    "personality(READ_IMPLIES_EXEC|0x8)": ("personality", 0x400008),
    "fcntl(F_SETLEASE)": ("fcntl", 3, 1024, 1),
    "ptrace(PTRACE_ATTACH)": ("ptrace", 16, 1),
    "ptrace(0x4200)": ("ptrace", 0x4200, 1),
    "prlimit64(process 1)": ("prlimit64", 1, 7, 0x7FFF_0000_1000),
    "sched_setaffinity(process 1)": ("sched_setaffinity", 1, 128),
    "setpriority(process 1)": ("setpriority", 0, 1, 5),
    "setpriority(user)": ("setpriority", 2, 0, 5),
    "ioprio_set(process 1)": ("ioprio_set", 1, 1),
    "ioprio_set(process group)": ("ioprio_set", 2, 0),
    "bpf": ("bpf", 0, 0x7FFF_0000_1000, 144),
    "execve": ("execve", 0x7FFF_0000_1000, 0x7FFF_0000_2000),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_name_says_what_was_asked(name: str) -> None:
    call, *arguments = NAMES[name]
    assert name_of(call, [*arguments, 0, 0, 0, 0, 0, 0][:6]) == name


@pytest.mark.parametrize("arch", seccomp.ARCHITECTURES)
def test_every_check_of_the_filter_tells_its_argument(arch: str) -> None:
    for name in seccomp.read_policy(arch).check:
        assert "(" in name_of(name, [0x2FFFF] * 6), name


@pytest.mark.parametrize("arch", seccomp.ARCHITECTURES)
@pytest.mark.parametrize("argument", [0, 1, 0x1FFFF, (1 << 64) - 1])
def test_any_registers_give_a_name_that_the_wire_takes(arch: str, argument: int) -> None:
    from kernel_runtime import wire

    for name in seccomp.denied_names(arch, subprocess=False).values():
        frame = wire.Denied(call=name_of(name, [argument] * 6)[: wire.MAX_CALL])
        assert wire.decode(wire.decode_from_init, wire.pack(frame)[4:]) == frame
