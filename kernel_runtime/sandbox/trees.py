"""A part of the host's files, seen read-only.

A descriptor that was opened for reading alone is no wall by itself: who owns the file may change its mode and
times by it, and open it anew for writing through /proc. Below a read-only mount nothing of that works, for the
kernel asks the mount first. The mount is attached nowhere: it exists as a descriptor, and ends with the last.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from kernel_runtime.sandbox import syscalls as sc

_ATTRIBUTES = sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOEXEC
_SECONDS = 20
_PACKAGES = str(Path(__file__).parents[2])
#: Without site-packages: it needs nothing of them, and starts sooner.
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from kernel_runtime.sandbox import trees; trees.hand_over(sys.argv[2])"


def read_only(path: str) -> int:
    """All that is mounted at and below ``path`` now, read-only; ``OSError`` where this host lets nobody do it."""
    if os.geteuid() == 0:
        return _clone(path)
    return _from_helper(path)


def _clone(path: str) -> int:
    flags = sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC | sc.AT_RECURSIVE
    tree = sc.open_tree(sc.AT_FDCWD, path, flags)
    try:
        sc.mount_setattr(tree, "", sc.AT_EMPTY_PATH | sc.AT_RECURSIVE, _ATTRIBUTES)
    except BaseException:
        os.close(tree)
        raise
    return tree


def _from_helper(path: str) -> int:
    """An ordinary user may mount in a user namespace only, which a process with threads cannot enter."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(_SECONDS)
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, _PACKAGES, path]
        done = subprocess.run(
            command, stdin=theirs.fileno(), capture_output=True, timeout=_SECONDS, check=False
        )
        theirs.close()
        said, fds, _, _ = socket.recv_fds(ours, 4096, 1)
    if done.returncode or len(fds) != 1:
        raise OSError(
            1, f"no read-only view of {path}: {said.decode(errors='replace') or 'no user namespaces'}"
        )
    os.set_inheritable(fds[0], False)
    return fds[0]


def hand_over(path: str) -> None:
    """In the helper: the tree goes through standard input to who waits for it."""
    with socket.socket(fileno=0) as sock:
        try:
            sc.unshare(sc.CLONE_NEWUSER | sc.CLONE_NEWNS)
            socket.send_fds(sock, [b"tree"], [_clone(path)])
        except OSError as error:
            sock.sendall(str(error).encode())
            raise SystemExit(1) from None
