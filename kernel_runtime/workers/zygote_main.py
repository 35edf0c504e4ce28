"""The program that a zygote runs: `python -I -m kernel_runtime.workers.zygote_main FD`.

A clean interpreter with an empty environment. It enters namespaces of its own before it
imports anything large, stages the image, and forks one first process for each session. It
runs no user code and never reads a frame of a guest.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import resource
import select
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import WallUnavailable
from kernel_runtime.domain.level import Rung
from kernel_runtime.guest import init
from kernel_runtime.guest.channel import Channel
from kernel_runtime.guest.denials import Denials
from kernel_runtime.sandbox import enter, landlock, stage
from kernel_runtime.sandbox import syscalls as sc
from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
from kernel_runtime.workers import tree

if TYPE_CHECKING:
    from collections.abc import Callable

#: Preloading this module builds the shell, too.
SHELL = "kernel_runtime.guest.shell"
_KEPT_FD = 3
_BACKEND = "module://matplotlib_inline.backend_inline"


def main() -> None:
    """Boot, then serve spawns until the host hangs up."""
    sc.set_pdeathsig(signal.SIGKILL)
    _allow_descriptors_on_their_way()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the front
    channel = Channel(socket.socket(fileno=int(sys.argv[1])), wire.decode_to_zygote)
    boot = channel.receive()
    if not isinstance(boot, wire.Boot):
        return
    image = msgspec.msgpack.decode(boot.image, type=ImagePlan)
    if os.getppid() != image.parent:  # it ended before its death could have ended us
        return
    try:
        if image.rung is Rung.NAMESPACES:
            stage.found(image)
        pid = os.fork()
        if pid == 0:
            sc.set_pdeathsig(signal.SIGKILL)
            os.setsid()
            if image.rung is Rung.NAMESPACES:
                stage.build(image)
            else:
                sc.set_child_subreaper()
            _settle(image.cache or stage.CACHE)
    except OSError as error:
        channel.send(wire.Refused(id=-1, wall=_wall_of(error), error=str(error)))
        os._exit(1)
    if pid == 0:
        Zygote(channel, image).run()
        os._exit(0)
    channel.close()
    _stand_by(pid)


def _allow_descriptors_on_their_way() -> None:
    """What is passed and not yet taken counts for all processes of a user, guests as well, and is
    held against the sender's own limit: with a higher one than any guest's we can always send."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _stand_by(pid: int) -> NoReturn:
    """Be the zygote's parent, on whose death it dies, in as little memory as possible.

    The zygote's own end shows at its socket; the host then ends this process.
    """
    with contextlib.suppress(OSError):
        os.execv("/bin/sleep", ["kernel-runtime-launcher", str(2**31 - 1)])  # noqa: S606 — no shell is wanted
    os.waitpid(pid, 0)
    os._exit(0)


def _settle(cache: str) -> None:
    """Libraries that write caches when imported (matplotlib) get a place of their own for it."""
    os.environ.update(HOME=cache, MPLCONFIGDIR=cache, MPLBACKEND=_BACKEND)
    os.chdir("/")


def _wall_of(error: OSError) -> str:
    return (
        "user"
        if any(word in str(error) for word in ("unshare", "uid_map", "setgroups", "ns/user"))
        else "mount"
    )


class Zygote:
    """Pid 1 of its own namespace (if the rung has one): preloads, then forks on request."""

    def __init__(self, channel: Channel, image: ImagePlan) -> None:
        self._channel = channel
        self._has_namespace = image.rung is Rung.NAMESPACES
        self._poll = select.poll()
        self._children: dict[int, int] = {}  # pidfd → pid
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._channel.send(wire.Booted(preloaded=_preload(image.preload)))
        gc.collect()
        gc.freeze()

    def run(self) -> None:
        self._poll.register(self._channel.fileno(), select.POLLIN)
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._channel.fileno():
                    self._bury(fd)
                elif not self._serve():
                    return

    def _serve(self) -> bool:
        """Everything that has arrived; False when the host has hung up."""
        while True:
            frame = self._channel.receive()
            if not isinstance(frame, wire.Spawn):
                return False
            self._spawn(frame)
            if not self._channel.has_frames:
                return True

    def _bury(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        os.close(pidfd)
        os.waitpid(self._children.pop(pidfd), 0)
        if not self._has_namespace:
            self._end_orphans()

    def _end_orphans(self) -> None:
        """What a first process left behind when it was killed is a child of ours now."""
        sessions = set(self._children.values())
        while orphans := tree.children(os.getpid()) - sessions:
            for pid in orphans:
                tree.end(pid)
            for pid in orphans:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def _spawn(self, frame: wire.Spawn) -> None:
        fds = list(self._channel.fds)
        self._channel.fds.clear()
        if threading.active_count() != 1:
            names = ", ".join(thread.name for thread in threading.enumerate())
            self._channel.send(
                wire.Refused(id=frame.id, wall="zygote", error=f"it has Python threads: {names}")
            )
            return
        if self._has_namespace:
            sc.unshare(sc.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            self._become_first_process(frame, fds)
        if self._has_namespace:
            sc.setns(self._own_pids, sc.CLONE_NEWPID)
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        self._channel.send(wire.Spawned(id=frame.id), [pidfd])
        self._children[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)

    def _become_first_process(self, frame: wire.Spawn, fds: list[int]) -> NoReturn:
        """Only the control socket and the cgroup files survive; then the walls, then pid 1's life."""
        try:
            os.setsid()
            if not self._has_namespace:
                sc.set_child_subreaper()
            kept = _keep_only(fds)
            control = Channel(socket.socket(fileno=kept[0]), wire.decode_to_init)
            plan = msgspec.msgpack.decode(frame.plan, type=GuestPlan)
            listeners: list[int] = []
            walls, missing = enter.enter(plan, kept[1:], listeners)
            spaces = plan.rung is Rung.NAMESPACES
            remove_ipc = sc.remove_ipc if "ipc" in walls else _leave_ipc
            denials = Denials(listeners[0], plan.calls) if listeners else None
            born = wire.Born(walls=walls, missing=missing, names_denied=denials is not None)
            set_apart = landlock.set_apart if not spaces and "landlock" in walls else None
            kill_others = None if spaces else _killer("landlock" in walls)
            init.serve(control, born, sc.set_dumpable, remove_ipc, denials, kill_others, set_apart)
        except WallUnavailable as error:
            control.send(wire.Failed(wall=error.wall, error=error.reason, fix=error.fix))
        except BaseException as error:  # noqa: BLE001 — whatever it was, this is no zygote and must end
            control.send(wire.Failed(wall="guest", error=f"{type(error).__name__}: {error}"))
        finally:
            os._exit(1)


def _killer(walled: bool) -> Callable[[set[int]], None]:
    """How a first process without a pid namespace kills its session, and nobody else. Nothing can be
    spared there: it has no frozen branches."""
    own, parent = os.getpid(), os.getppid()
    if not walled or landlock.abi() < landlock.SCOPES_SINCE:

        def kill_found(_: set[int]) -> None:
            if os.getpid() == own:
                tree.end_below(own)

        return kill_found

    def kill_scoped(_: set[int]) -> None:
        """All at once: behind Landlock's scope, "everybody" are the processes of this session."""
        if os.getpid() == own and not _can_signal(parent):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(-1, signal.SIGKILL)

    return kill_scoped


def _can_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _leave_ipc() -> None:
    """Without a namespace of its own, the guest's System V objects lie among the host's."""


def _keep_only(fds: list[int]) -> list[int]:
    """Move ``fds`` to 3, 4, …, put /dev/null on 0–2, close everything else."""
    high = [os.dup2(fd, 100 + index) for index, fd in enumerate(fds)]
    null = os.open("/dev/null", os.O_RDWR)
    for target in (0, 1, 2):
        os.dup2(null, target)
    kept = [os.dup2(fd, _KEPT_FD + index, inheritable=False) for index, fd in enumerate(high)]
    sc.close_range(_KEPT_FD + len(kept))
    return kept


def _preload(names: list[str]) -> list[str]:
    """Import what the image asks for; what is not installed is simply not there."""
    loaded = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        loaded.append(name)
    if SHELL in loaded:
        shell = sys.modules[SHELL].prepare()
        if len(loaded) > 1:
            shell.warm()
    return loaded


if __name__ == "__main__":
    main()
