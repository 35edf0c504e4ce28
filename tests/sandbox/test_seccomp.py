"""The filter's rules, each through a BPF interpreter."""

from __future__ import annotations

import struct

import pytest

from kernel_runtime.sandbox import seccomp
from kernel_runtime.sandbox.seccomp import ARCHITECTURES, EPERM, Check, Condition
from tests.sandbox.filters import ALLOWED, KILLED, MISSING, REFUSED, Filter, interpret

MEASURED = [
    "access",
    "arch_prctl",
    "brk",
    "chdir",
    "clock_nanosleep",
    "clone",
    "close",
    "close_range",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "execve",
    "exit",
    "exit_group",
    "fadvise64",
    "fchown",
    "fcntl",
    "fdatasync",
    "fstat",
    "ftruncate",
    "futex",
    "getcwd",
    "getdents64",
    "geteuid",
    "getpid",
    "getrandom",
    "getsockname",
    "gettid",
    "ioctl",
    "kill",
    "link",
    "lseek",
    "madvise",
    "mkdir",
    "mmap",
    "mprotect",
    "munmap",
    "newfstatat",
    "open",
    "openat",
    "pipe2",
    "poll",
    "prctl",
    "pread64",
    "prlimit64",
    "pwrite64",
    "read",
    "readlink",
    "recvfrom",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "socketpair",
    "stat",
    "sysinfo",
    "tgkill",
    "uname",
    "unlink",
    "vfork",
    "wait4",
    "write",
]
ONLY_X86 = [
    "access",
    "arch_prctl",
    "epoll_wait",
    "link",
    "mkdir",
    "open",
    "poll",
    "readlink",
    "stat",
    "unlink",
    "vfork",
]


@pytest.fixture(params=ARCHITECTURES)
def rules(request: pytest.FixtureRequest) -> Filter:
    return Filter(request.param)


def test_every_number_gets_what_the_file_says(rules: Filter) -> None:
    checked = {check.number for check in rules.policy.check.values()}
    expected = dict.fromkeys(rules.allow.values(), ALLOWED) | dict.fromkeys(rules.eperm.values(), REFUSED)
    for number in set(range(2048)) - checked:
        assert rules.call(number) == expected.get(number, MISSING), number


def test_without_a_listener_the_same_calls_get_eperm(rules: Filter) -> None:
    plain = Filter(rules.policy.architecture)
    plain.program = seccomp.unnamed(rules.program)
    for number in range(2048):
        for arguments in ((), (2, 3), (16, 0x5412), (0x1000_0000,)):
            verdict = rules.call(number, *arguments)
            expected = seccomp.RET_ERRNO | EPERM if verdict == REFUSED else verdict
            assert plain.call(number, *arguments) == expected
    assert seccomp.unnamed(plain.program) == plain.program


def test_whatever_may_be_denied_has_a_name(rules: Filter) -> None:
    arch = rules.policy.architecture
    names = seccomp.denied_names(arch)
    checked = {check.number: name for name, check in rules.policy.check.items()}
    assert names == {number: name for name, number in rules.eperm.items()} | checked
    strict = seccomp.denied_names(arch, subprocess=False)
    assert strict.keys() - names.keys() == {rules.allow["execve"], rules.allow["execveat"]}


def test_no_number_is_listed_twice(rules: Filter) -> None:
    numbers = [*rules.allow.values(), *rules.eperm.values(), *(c.number for c in rules.policy.check.values())]
    numbers += [number for number, _ in rules.policy.enosys.values()]
    assert len(numbers) == len(set(numbers))


def test_every_entry_has_a_reason(rules: Filter) -> None:
    groups = [*rules.policy.allow.values(), *rules.policy.eperm.values(), rules.policy.enosys]
    assert all(reason.strip() for group in groups for _, reason in group.values())
    assert all(check.why for check in rules.policy.check.values())


def test_what_real_workloads_need_is_there(rules: Filter) -> None:
    absent = ONLY_X86 if rules.policy.architecture == "aarch64" else []
    for name in set(MEASURED) - set(absent):
        assert name in rules.allow or name in rules.policy.check, name


def test_both_files_agree_on_shared_numbers() -> None:
    first, second = (Filter(arch) for arch in ARCHITECTURES)
    for name in first.allow.keys() & second.allow.keys():
        assert max(first.allow[name], second.allow[name]) < 424 or first.allow[name] == second.allow[name], (
            name
        )
    assert second.allow.keys() <= first.allow.keys()
    assert first.eperm.keys() - second.eperm.keys() == {"iopl", "ioperm"}


def test_foreign_architectures_are_killed(rules: Filter) -> None:
    for audit in (0x40000003, 0x40000028, 0xC000003E, 0xC00000B7, 0):
        if audit != rules.policy.audit:
            assert rules.call(rules.allow["read"], audit=audit) == KILLED


def test_x32_numbers_are_missing(rules: Filter) -> None:
    for number in (*rules.allow.values(), *rules.eperm.values(), 512, 547):
        assert rules.call(number | 0x4000_0000) == MISSING
    assert rules.call(0xFFFF_FFFF) == MISSING


@pytest.mark.parametrize("bit", [17, 25, 26, 27, 28, 29, 30])
def test_clone_makes_no_namespaces(rules: Filter, bit: int) -> None:
    thread = 0x3D0F00
    assert rules.check("clone", thread) == rules.check("clone", 17) == ALLOWED
    assert rules.check("clone", 17 | 1 << bit) == REFUSED
    assert rules.check("clone", thread | 1 << bit | 1 << 40) == REFUSED


def test_clone3_is_missing(rules: Filter) -> None:
    assert rules.call(435) == MISSING


@pytest.mark.parametrize("family", range(64))
def test_socket_families(rules: Filter, family: int) -> None:
    expected = ALLOWED if family in (1, 2, 10) else REFUSED
    for kind in (1, 2, 1 | 0o2000000 | 0o4000):
        assert rules.check("socket", family, kind, 0) == expected
    assert rules.check("socket", family | 1 << 32, 1, 0) == expected
    assert rules.check("socketpair", family, 5, 0) == (ALLOWED if family == 1 else REFUSED)


def test_socket_kinds_and_protocols(rules: Filter) -> None:
    for kind in (0, 3, 4, 5, 6, 10):
        assert rules.check("socket", 2, kind, 0) == REFUSED
    for protocol, expected in ((6, ALLOWED), (17, ALLOWED), (1, REFUSED), (132, REFUSED), (262, REFUSED)):
        assert rules.check("socket", 2, 1, protocol) == expected


@pytest.mark.parametrize("command", [0x5412, 0x541C, 0x541D, 0x5423])
def test_terminal_tricks_are_refused_whatever_the_high_bits(rules: Filter, command: int) -> None:
    assert rules.check("ioctl", 0, command) == REFUSED
    assert rules.check("ioctl", 0, command | 1 << 32) == REFUSED
    assert rules.check("ioctl", 0, command | 0xFFFF_FFFF << 32) == REFUSED
    assert rules.check("ioctl", 0, command + 0x1_0000) == ALLOWED


def test_other_ioctls_are_allowed(rules: Filter) -> None:
    for command in (0x5401, 0x5413, 0x5411, 0x5422, 0x5424, 0x541B, 0x541E):
        assert rules.check("ioctl", 0, command) == ALLOWED


def test_prctl_options(rules: Filter) -> None:
    harmless = {1, 2, 3, 4, 7, 15, 16, 21, 23, 27, 29, 30, 37, 38, 39, 41, 42, 52, 0x53564D41}
    if rules.policy.architecture == "aarch64":
        harmless |= {50, 51, 54, 55, 56}
    for option in (*range(128), 0x53564D41, 0x59616D61):
        assert rules.check("prctl", option) == (ALLOWED if option in harmless else REFUSED), option


def test_personality(rules: Filter) -> None:
    for persona, expected in (
        (0, ALLOWED),
        (0xFFFF_FFFF, ALLOWED),
        (0x0040000, REFUSED),
        (0x0400000, REFUSED),
    ):
        assert rules.check("personality", persona) == expected


def test_limits_of_other_processes_can_only_be_read(rules: Filter) -> None:
    assert rules.check("prlimit64", 0, 7, 0x7FFF_0000_1000) == ALLOWED
    assert rules.check("prlimit64", 1, 7, 0) == ALLOWED
    assert rules.check("prlimit64", 1, 7, 0x7FFF_0000_1000) == REFUSED
    assert rules.check("prlimit64", 1, 7, 0x7FFF_0000_0000) == REFUSED
    assert rules.check("prlimit64", 1, 7, 0x1000) == REFUSED


def test_without_subprocess_no_program_starts(rules: Filter) -> None:
    strict = Filter(rules.policy.architecture, subprocess=False)
    for name in rules.allow:
        expected = REFUSED if name in ("execve", "execveat") else ALLOWED
        assert strict.call(strict.allow[name]) == expected
        assert rules.call(rules.allow[name]) == ALLOWED


def test_the_kernel_can_cache_what_is_always_allowed(rules: Filter) -> None:
    """It does so for programs that load only the number and the architecture on that path."""
    for number in rules.allow.values():
        data = struct.pack("<II", number, rules.policy.audit)  # reading an argument would fail
        assert interpret(rules.program, data) == ALLOWED


def test_far_jumps_reach() -> None:
    big = Check(number=0, why="", all=(Condition(argument=0, only=tuple(range(120))),))
    runs = [
        (number, seccomp.check_code(big) if number % 2 else seccomp.refuse(number)) for number in range(64)
    ]
    code = [(seccomp.LD_WORD, 0, 0, seccomp.NUMBER), *seccomp.search(runs)]
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
    for number in range(64):
        for argument in (0, 60, 119, 120):
            verdict = interpret(program, struct.pack("<IIQ6Q", number, 0, 0, argument, *[0] * 5))
            passed = ALLOWED if argument < 120 else REFUSED
            assert verdict == (passed if number % 2 else seccomp.RET_ERRNO | number)


def test_an_unknown_machine_has_no_policy() -> None:
    with pytest.raises(FileNotFoundError):
        seccomp.read_policy("vax")
