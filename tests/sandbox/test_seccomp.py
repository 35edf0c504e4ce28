"""The filter: each rule through a BPF interpreter, real programs and real attacks behind it."""

from __future__ import annotations

import os
import struct

import pytest

from kernel_runtime.sandbox import seccomp
from kernel_runtime.sandbox.seccomp import ARCHITECTURES, ENOSYS, EPERM, Check, Condition

ALLOWED = seccomp.RET_ALLOW
REFUSED = seccomp.RET_USER_NOTIF
MISSING = seccomp.RET_ERRNO | ENOSYS
KILLED = seccomp.RET_KILL_PROCESS
HERE = os.uname().machine

#: Measured with strace over ten ordinary workloads: without these, something breaks.
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


def interpret(program: bytes, data: bytes) -> int:
    """Run classic BPF as the kernel does, over ``struct seccomp_data``."""
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator, place = 0, 0
    while True:
        operation, if_true, if_false, value = instructions[place]
        place += 1
        if operation == seccomp.LD_WORD:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif operation == seccomp.AND:
            accumulator &= value
        elif operation == seccomp.JUMP:
            place += value
        elif operation == seccomp.RETURN:
            return value
        else:
            tests = {
                seccomp.JUMP_EQUAL: accumulator == value,
                seccomp.JUMP_AT_LEAST: accumulator >= value,
                seccomp.JUMP_BITS: bool(accumulator & value),
            }
            place += if_true if tests[operation] else if_false


class Filter:
    """A compiled policy that can be asked by name or number."""

    def __init__(self, arch: str, *, subprocess: bool = True) -> None:
        self.policy = seccomp.read_policy(arch)
        self.program = seccomp.compile_program(arch, subprocess=subprocess)
        self.allow = self.policy.numbers(self.policy.allow)
        self.eperm = self.policy.numbers(self.policy.eperm)

    def call(self, number: int, *arguments: int, audit: int | None = None) -> int:
        padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
        words = [argument & 0xFFFF_FFFF_FFFF_FFFF for argument in padded]
        audit = self.policy.audit if audit is None else audit
        return interpret(self.program, struct.pack("<IIQ6Q", number, audit, 0, *words))

    def check(self, name: str, *arguments: int) -> int:
        return self.call(self.policy.check[name].number, *arguments)


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


PREAMBLE = """
import ctypes, errno, os, sys
from kernel_runtime.sandbox import seccomp
policy = seccomp.read_policy(os.uname().machine)
numbers = policy.numbers(policy.allow) | policy.numbers(policy.eperm)
numbers |= {name: check.number for name, check in policy.check.items()}
numbers |= {name: number for name, (number, _) in policy.enosys.items()}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(name, *arguments):
    number = numbers[name] if isinstance(name, str) else name
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *wide)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else "ok"
if sys.argv[1] != "open":
    program = seccomp.compile_program(os.uname().machine, subprocess=sys.argv[1] != "strict")
    seccomp.load(seccomp.unnamed(program))
"""

WORKLOADS = {
    "numpy": "import numpy as np; print(np.linalg.svd(np.ones((300, 300)))[1].shape)",
    "pandas": """
import pandas as pd, tempfile, os
frame = pd.DataFrame({"a": range(1000), "b": list("xy") * 500})
with tempfile.TemporaryDirectory() as place:
    frame.to_csv(place + "/f.csv"); frame.to_parquet(place + "/f.parquet")
    assert len(pd.read_csv(place + "/f.csv")) == len(pd.read_parquet(place + "/f.parquet")) == 1000
print(frame.groupby("b").a.sum().tolist())""",
    "matplotlib": """
import io, matplotlib; matplotlib.use("agg")
from matplotlib import pyplot
pyplot.plot([1, 3, 2]); out = io.BytesIO(); pyplot.savefig(out); print(len(out.getvalue()) > 1000)""",
    "sqlite": """
import sqlite3, tempfile
with tempfile.TemporaryDirectory() as place:
    base = sqlite3.connect(place + "/d"); base.execute("pragma journal_mode=wal")
    base.execute("create table t(x)"); base.execute("insert into t values (1)"); base.commit()
    print(base.execute("select * from t").fetchall()); base.close()""",
    "fork": """
import multiprocessing as mp, warnings; warnings.simplefilter("ignore")
from multiprocessing import shared_memory
memory = shared_memory.SharedMemory(create=True, size=4096)
with mp.get_context("fork").Pool(2) as pool: print(pool.map(abs, range(-4, 0)))
memory.close(); memory.unlink()""",
    "spawn": """
import multiprocessing as mp
with mp.get_context("spawn").Pool(2) as pool: print(pool.map(abs, range(-4, 0)))""",
    "threads": """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool: print(sum(pool.map(abs, range(-100, 0))))""",
    "asyncio": """
import asyncio
async def serve(reader, writer):
    writer.write(await reader.readline()); writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hi\\n"); print(await reader.readline()); writer.close(); server.close()
    process = await asyncio.create_subprocess_exec("true"); print(await process.wait())
asyncio.run(main())""",
    "subprocess": "import subprocess; print(subprocess.run('echo a | cat', shell=True, capture_output=True).stdout)",
    "files": """
import os, shutil, tempfile, pathlib
with tempfile.TemporaryDirectory() as place:
    path = pathlib.Path(place, "a"); path.write_text("x"); shutil.copy2(path, place + "/b")
    os.link(path, place + "/c"); os.symlink("a", place + "/d"); os.mkfifo(place + "/e"); os.chmod(path, 0o600)
    print(sorted(os.listdir(place)), shutil.disk_usage(place).total > 0)""",
    "faulthandler": "import faulthandler, signal; faulthandler.enable(); print(signal.getitimer(0))",
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_ordinary_programs_run_behind_the_filter(name: str, child) -> None:
    code = PREAMBLE + WORKLOADS[name]
    outside = child(code, "open")
    assert not outside.startswith(("exit", "killed"))
    assert child(code, "walled") == outside


#: What is tried, and the errno that the filter answers; without it something else happens.
ATTACKS = {
    "unshare": ("call('unshare', 0)", "EPERM"),
    "setns": ("call('setns', -1, 0)", "EPERM"),
    "clone newuser": ("call('clone', 0x10000000 | 0x200, 0, 0, 0, 0)", "EPERM"),
    "clone3": ("call('clone3', 0, 0)", "ENOSYS"),
    "ptrace": ("call('ptrace', 0, 0, 0, 0)", "EPERM"),
    "process_vm_readv": ("call('process_vm_readv', os.getpid(), 0, 0, 0, 0, 0)", "EPERM"),
    "process_vm_writev": ("call('process_vm_writev', os.getpid(), 0, 0, 0, 0, 0)", "EPERM"),
    "pidfd_getfd": ("call('pidfd_getfd', -1, 0, 0)", "EPERM"),
    "bpf": ("call('bpf', -1, 0, 100000)", "EPERM"),
    "perf_event_open": ("call('perf_event_open', 0, 0, -1, -1, 0)", "EPERM"),
    "userfaultfd": ("call('userfaultfd', -1)", "EPERM"),
    "keyctl": ("call('keyctl', 0, -3, 1)", "EPERM"),
    "add_key": ("call('add_key', 0, 0, 0, 0, 0)", "EPERM"),
    "io_uring_setup": ("call('io_uring_setup', 1, 0)", "EPERM"),
    "io_uring_enter": ("call('io_uring_enter', -1, 0, 0, 0, 0, 0)", "EPERM"),
    "seccomp": ("call('seccomp', 2, 0, 0)", "EPERM"),
    "prctl seccomp": ("call('prctl', 22, 2, 0, 0, 0)", "EPERM"),
    "prctl subreaper": ("call('prctl', 36, 1, 0, 0, 0)", "EPERM"),
    "personality": ("call('personality', 0x40000)", "EPERM"),
    "vsock": ("call('socket', 40, 1, 0)", "EPERM"),
    "netlink": ("call('socket', 16, 3, 0)", "EPERM"),
    "socketpair inet": ("call('socketpair', 2, 1, 0, 0)", "EPERM"),
    "TIOCSTI": ("call('ioctl', -1, 0x5412, 0)", "EPERM"),
    "TIOCSTI with high bits": ("call('ioctl', -1, 0x5412 | 1 << 40, 0)", "EPERM"),
    "TIOCLINUX": ("call('ioctl', -1, 0x541C, 0)", "EPERM"),
    "prlimit of the parent": ("call('prlimit64', os.getppid(), 4, 1, 0)", "EPERM"),
    "execveat": ("call('execveat', -1, 0, 0, 0, 0)", "strict EPERM"),
    "mount": ("call('mount', 0, 0, 0, 0, 0)", "root EPERM"),
    "pivot_root": ("call('pivot_root', 0, 0)", "root EPERM"),
    "chroot": ("call('chroot', b'/')", "root EPERM"),
    "fsopen": ("call('fsopen', 0, 0)", "root EPERM"),
    "open_tree": ("call('open_tree', -1, b'/', 1)", "root EPERM"),
    "mount_setattr": ("call('mount_setattr', -1, 0, 0, 0, 0)", "root EPERM"),
    "open_by_handle_at": ("call('open_by_handle_at', -1, 0, 0)", "root EPERM"),
    "init_module": ("call('init_module', 0, 0, 0)", "root EPERM"),
    "kexec_load": ("call('kexec_load', 0, 0, 0, 0)", "root EPERM"),
    "sethostname": ("call('sethostname', 0, -1)", "root EPERM"),
    "packet": ("call('socket', 17, 3, 0)", "root EPERM"),
    "raw": ("call('socket', 2, 3, 1)", "root EPERM"),
    "clock_settime": ("call('clock_settime', 0, 0)", "root EPERM"),
    "quotactl": ("call('quotactl', -1, 0, 0, 0)", "root EPERM"),
    "fanotify_init": ("call('fanotify_init', -1, 0)", "root EPERM"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_get_their_errno(name: str, child) -> None:
    attempt, answer = ATTACKS[name]
    how, _, expected = answer.rpartition(" ")
    if how == "root" and os.geteuid() != 0:
        pytest.skip("needs root: the kernel answers others the same with and without a filter")
    code = f"{PREAMBLE}\nprint({attempt})"
    assert child(code, how if how == "strict" else "walled") == expected
    assert child(code, "open") != expected


def test_thirty_two_bit_entry_kills(child) -> None:
    if HERE != "x86_64":
        pytest.skip("needs an x86_64 host")
    code = (
        PREAMBLE
        + """
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex("b814000000 cd80 c3"))  # mov eax, 20 (getpid); int 0x80; ret
entry = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
print(entry() == os.getpid())
"""
    )
    assert child(code, "walled") == "killed by signal 31"
    assert child(code, "open") in ("True", "False", "killed by signal 11")


def test_strict_refuses_programs_but_not_forks(child) -> None:
    code = (
        PREAMBLE
        + """
pid = os.fork()
if pid == 0: os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
import subprocess
try: subprocess.run(["true"]); print("ran")
except PermissionError: print("refused")
"""
    )
    assert child(code, "strict").split() == ["7", "refused"]
    assert child(code, "walled").split() == ["7", "ran"]


def test_the_filter_binds_children_and_threads(child) -> None:
    code = (
        PREAMBLE
        + """
import subprocess, threading
seen = []
thread = threading.Thread(target=lambda: seen.append(call("unshare", 0))); thread.start(); thread.join()
pid = os.fork()
if pid == 0: os._exit(call("unshare", 0) == "EPERM")
print(seen, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(subprocess.run(["unshare", "--uts", "true"], capture_output=True).returncode)
"""
    )
    assert child(code, "walled") == "['EPERM'] 1\n1"
    if os.geteuid() == 0:
        assert child(code, "open") == "['ok'] 0\n0"


def test_an_unknown_machine_has_no_policy() -> None:
    with pytest.raises(FileNotFoundError):
        seccomp.read_policy("vax")
