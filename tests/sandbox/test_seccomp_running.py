"""Real programs and real attacks behind the filter, with what they do in front of it."""

from __future__ import annotations

import os

import pytest

from tests.cases import each

HERE = os.uname().machine


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


#: They take seconds to import, twice; ``walls/test_libraries.py`` has them behind every wall.
LIBRARIES = ("numpy", "pandas", "matplotlib")


@pytest.mark.parametrize("name", each({name: name for name in WORKLOADS}, LIBRARIES.__contains__))
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
