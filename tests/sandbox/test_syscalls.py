"""The raw calls: errors with names, nothing cut short, and what they do to a child."""

from __future__ import annotations

import errno
import os

import pytest

from kernel_runtime.sandbox import syscalls

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

#: A mount namespace of its own, so that nothing reaches the machine.
APART = """
import os, sys
from kernel_runtime.sandbox import syscalls as sc
sc.unshare(sc.CLONE_NEWNS | sc.CLONE_NEWUTS)
sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE)
place = sys.argv[1]
sc.mount("tmpfs", place, "tmpfs", sc.MS_NOSUID, "size=1m")
"""


def test_errors_carry_errno_and_name() -> None:
    with pytest.raises(OSError, match="setns: Bad file descriptor") as caught:
        syscalls.setns(-1)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="move_mount"):
        syscalls.move_mount(-1, "", -1, "", 0)


def test_errors_of_permission_are_permission_errors() -> None:
    if os.geteuid() == 0:
        pytest.skip("needs an ordinary user")
    with pytest.raises(PermissionError, match="sethostname"):
        syscalls.sethostname("x")


@pytest.mark.parametrize("path", ["/tmp\0/etc", b"/tmp\0"])
def test_nul_bytes_in_paths_are_refused(path: str | bytes) -> None:
    with pytest.raises(ValueError, match="NUL"):
        syscalls.umount2(path)
    with pytest.raises(ValueError, match="NUL"):
        syscalls.mount("none", "/nowhere", "tmpfs", 0, "size=1m\0x")


def test_a_call_without_a_number_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "NUMBERS", {})
    with pytest.raises(NotImplementedError, match="pivot_root"):
        syscalls.pivot_root(".", ".")


def test_importing_is_cheap(child) -> None:
    code = """
import sys
import kernel_runtime.sandbox
before = set(sys.modules)
import kernel_runtime.sandbox.syscalls
print(sorted(m for m in set(sys.modules) - before if "kernel_runtime" not in m))
"""
    known = {"ctypes", "_ctypes", "ctypes._endian", "struct", "_struct"}
    assert set(eval(child(code))) <= known


@needs_root
def test_mounts_and_attributes(child, tmp_path) -> None:
    code = (
        APART
        + """
sc.mount_setattr(sc.AT_FDCWD, place, 0, sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSYMFOLLOW)
try: open(place + "/x", "w")
except OSError as error: print(error.errno)
sc.mount_setattr(sc.AT_FDCWD, place, 0, 0, sc.MOUNT_ATTR_RDONLY)
open(place + "/x", "w").close()
os.symlink("x", place + "/link")
try: open(place + "/link")
except OSError as error: print(error.errno)
"""
    )
    assert child(code, str(tmp_path)).split() == [str(errno.EROFS), str(errno.ELOOP)]


@needs_root
def test_detached_trees_move(child, tmp_path) -> None:
    code = (
        APART
        + """
open(place + "/x", "w").close()
copy = sc.open_tree(sc.AT_FDCWD, place, sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC)
sc.umount2(place, sc.MNT_DETACH)
print(os.listdir(place))
sc.move_mount(copy, "", sc.AT_FDCWD, place, sc.MOVE_MOUNT_F_EMPTY_PATH)
print(os.listdir(place))
"""
    )
    assert child(code, str(tmp_path)) == "[]\n['x']"


@needs_root
def test_another_root(child, tmp_path) -> None:
    code = (
        APART
        + """
open(place + "/only", "w").close()
os.chdir(place)
sc.pivot_root(".", ".")
sc.umount2(".", sc.MNT_DETACH)
sc.sethostname("apart")
print(os.listdir("/"), os.uname().nodename)
"""
    )
    assert child(code, str(tmp_path)) == "['only'] apart"


STATUS = """
import os
from kernel_runtime.sandbox import syscalls as sc
def status(*names):
    lines = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    return [int(lines[name], 16) for name in names]
"""


def test_no_capability_is_left(child) -> None:
    code = (
        STATUS
        + """
print(status("CapEff")[0] == 0)
print(sc.capset_none())
print(status("CapInh", "CapPrm", "CapEff", "CapAmb"), status("CapBnd")[0] == 0)
"""
    )
    root = os.geteuid() == 0
    assert child(code).splitlines() == [str(not root), str(root), f"[0, 0, 0, 0] {root}"]


def test_prctl_settings(child) -> None:
    code = (
        STATUS
        + """
import signal
sc.set_no_new_privs(); sc.set_no_new_privs()
sc.set_pdeathsig(signal.SIGKILL)
sc.set_child_subreaper()
sc.set_dumpable(False)
print(sc.prctl(sc.PR_GET_NO_NEW_PRIVS), sc.prctl(sc.PR_GET_DUMPABLE))
sc.set_dumpable(True)
print(sc.prctl(sc.PR_GET_DUMPABLE))
"""
    )
    assert child(code).split() == ["1", "0", "1"]


def test_a_range_of_descriptors_closes(child) -> None:
    code = (
        STATUS
        + """
fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
sc.close_range(fds[1], fds[2])
def is_open(fd):
    try: return bool(os.fstat(fd))
    except OSError: return False
print([is_open(fd) for fd in fds])
sc.close_range(3)
print(any(is_open(fd) for fd in fds), is_open(2))
"""
    )
    assert child(code).splitlines() == ["[True, False, False, True]", "False True"]


def test_a_filter_that_is_none_is_refused(child) -> None:
    code = (
        STATUS
        + """
sc.set_no_new_privs()
for program in (b"", bytes(8), bytes(7), b"\\xff" * 16):
    try: sc.seccomp_load(program)
    except OSError as error: print(error)
"""
    )
    assert child(code).splitlines() == ["[Errno 22] seccomp: Invalid argument"] * 4
