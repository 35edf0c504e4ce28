"""What a zygote sets up once, for all its guests: namespaces of its own, and the image tree.

The stage lies on a private tmpfs over /sys, which no guest ever gets and the zygote does not
need. Guests copy it with the mount namespace and bind parts of it into their own root.

When the front is root, guests get a host uid that owns nothing. Root's own files in the
notebook's directory would then be closed to them, so the directory is cloned with an id map
(root's files appear as the guest's) while the process is still root on the host.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

from kernel_runtime.sandbox import syscalls as sc
from kernel_runtime.sandbox.plan import GUEST_TMP

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.sandbox.plan import Ids, ImagePlan

STAGE = "/sys"
IMAGE = f"{STAGE}/image"
DEVICES = f"{STAGE}/devices"
LOWER = f"{STAGE}/lower"
ROOT = f"{STAGE}/root"
SCRATCH = f"{STAGE}/scratch"
CACHE = f"{STAGE}/cache"
#: What covers a file, and a directory.
EMPTY = f"{STAGE}/empty"
NOTHING = f"{STAGE}/nothing"

_READ_ONLY = sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV
_NO_ID_MAPS = (
    "mount: {} lies on a file system without id-mapped mounts, which a front that is root needs: "
    "move it to one that has them (ext4, xfs, btrfs; tmpfs from Linux 6.3 on), or run the front as an ordinary user"
)
_DEVICE_NODES = ("null", "zero", "full", "random", "urandom", "tty")


def found(image: ImagePlan) -> None:
    """Enter the zygote's own user, mount and pid namespaces; the caller forks next.

    The next child is pid 1 of the new pid namespace. Raises ``OSError`` naming the call.
    """
    if image.ids.remapped:
        os.setgroups([])
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount(None, "/", None, sc.MS_REC | sc.MS_SLAVE)
        _make_stage()
        if image.workdir is not None:
            _clone_workdir(image.workdir, image.ids)
        _unshare_with_map(image.ids)
    else:
        sc.unshare(sc.CLONE_NEWUSER | sc.CLONE_NEWNS | sc.CLONE_NEWPID)
        _write_map(
            "self", f"{image.ids.uid} {image.ids.host_uid} 1", f"{image.ids.gid} {image.ids.host_gid} 1"
        )
        sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE)
        _make_stage()
        if image.workdir is not None:
            sc.mount(image.workdir, LOWER, None, sc.MS_BIND)
    sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE)


def _make_stage() -> None:
    sc.mount("tmpfs", STAGE, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "mode=755,size=4m")
    for path in (IMAGE, DEVICES, LOWER, ROOT, SCRATCH, CACHE):
        os.mkdir(path)


def _unshare_with_map(ids: Ids) -> None:
    """As root: a helper that stays outside writes a map with two ids, root and the guest."""
    inside = f"0 0 1\n{ids.uid} {ids.host_uid} 1"
    inside_groups = f"0 0 1\n{ids.gid} {ids.host_gid} 1"
    target = os.getpid()
    with _Helper(lambda: _write_map(str(target), inside, inside_groups)) as write_maps:
        sc.unshare(sc.CLONE_NEWUSER | sc.CLONE_NEWNS | sc.CLONE_NEWPID)
        write_maps()


class _Helper:
    """A forked child that runs ``work`` when told to, and is gone afterwards."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._go, go = os.pipe()[::-1]
        done, self_done = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _run_helper(work, go, self_done, close=(self._go, done))
        os.close(go)
        os.close(self_done)
        self._done = done

    def __enter__(self) -> Callable[[], None]:
        return self._run

    def _run(self) -> None:
        os.write(self._go, b"g")
        if os.read(self._done, 1) != b"d":
            raise OSError(1, "uid_map: the id map of the new user namespace could not be written")

    def __exit__(self, *_: object) -> None:
        os.close(self._go)
        os.close(self._done)
        os.waitpid(self._pid, 0)


def _run_helper(work: Callable[[], None], go: int, done: int, close: tuple[int, ...]) -> None:
    status = 1
    try:
        for fd in close:
            os.close(fd)
        if os.read(go, 1) == b"g":
            work()
            os.write(done, b"d")
        status = 0
    finally:
        os._exit(status)


def _write_map(pid: str, uids: str, gids: str) -> None:
    if pid == "self":  # without a privilege outside, groups must be given up first
        _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/gid_map", gids)
    _write(f"/proc/{pid}/uid_map", uids)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _clone_workdir(workdir: str, ids: Ids) -> None:
    """A detached clone of the directory, root's files appearing as the guest's, read-only."""
    namespace = _id_map_namespace(ids)
    try:
        tree = sc.open_tree(sc.AT_FDCWD, workdir, sc.OPEN_TREE_CLONE | sc.OPEN_TREE_CLOEXEC)
        _map_ids(tree, namespace, workdir)
        sc.move_mount(tree, "", sc.AT_FDCWD, LOWER, sc.MOVE_MOUNT_F_EMPTY_PATH)
        os.close(tree)
    finally:
        os.close(namespace)


def _map_ids(tree: int, namespace: int, workdir: str) -> None:
    """Fails closed: without the map, root's files would be unreadable, or readable as root."""
    try:
        sc.mount_setattr(tree, "", sc.AT_EMPTY_PATH, sc.MOUNT_ATTR_IDMAP | _READ_ONLY, userns_fd=namespace)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        raise OSError(error.errno, _NO_ID_MAPS.format(workdir)) from None


def _id_map_namespace(ids: Ids) -> int:
    """A descriptor of a user namespace that maps 0 to the guest's host id, the rest to itself."""
    ready, child_ready = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            sc.unshare(sc.CLONE_NEWUSER)
            sc.set_pdeathsig(signal.SIGKILL)  # the front may be killed just now: nobody would end us
            if os.getppid() == parent:
                os.write(child_ready, b"r")
                signal.pause()
        finally:
            os._exit(1)
    os.close(child_ready)
    try:
        if os.read(ready, 1) != b"r":
            raise OSError(1, "unshare: no user namespace for the id map of the directory")
        _write_map(
            str(pid),
            f"0 {ids.host_uid} 1\n1 1 {ids.host_uid - 1}",
            f"0 {ids.host_gid} 1\n1 1 {ids.host_gid - 1}",
        )
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def build(image: ImagePlan) -> None:
    """Bind the image's files and the device nodes onto the stage, read-only, once."""
    sc.mount("tmpfs", IMAGE, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "mode=755,size=16m")
    for bind in image.binds:
        _bind_read_only(bind.path, IMAGE + bind.path, bind.directory)
    for path, target in image.links.items():
        os.symlink(target, IMAGE + path)
    for path, text in image.files.items():
        _make_file(IMAGE + path, text)
    for path in (GUEST_TMP, "/dev", "/proc", image.home, image.workdir or GUEST_TMP):
        os.makedirs(IMAGE + path, exist_ok=True)
    sc.mount_setattr(sc.AT_FDCWD, IMAGE, 0, _READ_ONLY)
    _make_file(EMPTY, "")
    _bind_read_only(EMPTY, EMPTY, directory=False)
    os.mkdir(NOTHING)
    _bind_read_only(NOTHING, NOTHING, directory=True)
    _build_devices()


def _bind_read_only(source: str, target: str, directory: bool) -> None:
    if directory:
        os.makedirs(target, exist_ok=True)
    else:
        _make_file(target, "")
    sc.mount(source, target, None, sc.MS_BIND | sc.MS_REC)
    sc.mount_setattr(sc.AT_FDCWD, target, sc.AT_RECURSIVE, _READ_ONLY)


def _make_file(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def _build_devices() -> None:
    sc.mount("tmpfs", DEVICES, "tmpfs", sc.MS_NOSUID, "mode=755,size=64k")
    for name in _DEVICE_NODES:
        _make_file(f"{DEVICES}/{name}", "")
        sc.mount(f"/dev/{name}", f"{DEVICES}/{name}", None, sc.MS_BIND)
    for name in ("pts", "shm"):
        os.mkdir(f"{DEVICES}/{name}")
    for name, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"),
                         ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")):  # fmt: skip
        os.symlink(target, f"{DEVICES}/{name}")
    # The nodes are the host's own, and may be the guest's user's: it writes to them, not on them.
    sc.mount_setattr(sc.AT_FDCWD, DEVICES, sc.AT_RECURSIVE, sc.MOUNT_ATTR_RDONLY | sc.MOUNT_ATTR_NOSUID)
