"""The program that a zygote runs: `python -I -m kernel_runtime.workers.zygote_main FD`.

A clean interpreter with an empty environment. It enters namespaces of its own before it
imports anything large, stages the image, and forks one first process for each session. It
runs no user code and never reads a frame of a guest.
"""

from __future__ import annotations

import contextlib
import fcntl
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
from kernel_runtime.workers import apart, tree
from kernel_runtime.workers.ahead import Ahead, receive

if TYPE_CHECKING:
    from collections.abc import Callable

#: Preloading this module builds the shell, too.
SHELL = "kernel_runtime.guest.shell"
_KEPT_FD = 3
#: Preloads of a zygote that many guests come from: the shell, and something of the user's.
_WARM = 2
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
        preloaded = _preload(image.preload)
        # Most guests come from a warm zygote, by and by: a bare one begins none ahead.
        warm = self._has_namespace and len(preloaded) >= _WARM and threading.active_count() == 1
        self._ahead = Ahead(self._fork, self._become_ahead) if warm else None
        self._channel.send(wire.Booted(preloaded=preloaded))
        gc.collect()
        gc.freeze()

    def run(self) -> None:
        self._poll.register(self._channel.fileno(), select.POLLIN)
        while True:
            seconds = self._ahead.seconds() if self._ahead is not None else None
            ready = self._poll.poll(None if seconds is None else 1000 * seconds)
            if self._ahead is not None and not ready:
                self._ahead.tend()
            for fd, _ in ready:
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
        pid = None if self._ahead is None else self._ahead.take(frame.plan, fds)
        if pid is None:
            pid = self._fork()
        if pid == 0:
            self._become_first_process(frame.plan, lambda: _keep_only(fds), late=False)
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        self._channel.send(wire.Spawned(id=frame.id), [pidfd])
        self._children[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)

    def _fork(self) -> int:
        """A child that is pid 1 of a new namespace (if the rung has one); 0 in there."""
        if not self._has_namespace:
            return os.fork()
        sc.unshare(sc.CLONE_NEWPID)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                sc.setns(self._own_pids, sc.CLONE_NEWPID)
        return pid

    def _become_ahead(self, plan: bytes, fd: int) -> NoReturn:
        """Nothing of the zygote's survives but the socket that the guest's descriptors come by."""
        try:
            [kept] = _keep_only([fd])
        except BaseException:  # noqa: BLE001 — whatever it was, this is no zygote and must end
            os._exit(1)
        self._become_first_process(plan, lambda: receive(kept), late=True)

    def _become_first_process(
        self, plan_bytes: bytes, provide: Callable[[], list[int]], *, late: bool
    ) -> NoReturn:
        """Only the control socket and the cgroup files survive; then the walls, then pid 1's life.
        ``late``: they come when the namespaces have been entered."""
        control: Channel | None = None
        door: socket.socket | None = None

        def take() -> list[int]:
            nonlocal control
            first, *rest = provide()
            control = Channel(socket.socket(fileno=first), wire.decode_to_init)
            return rest

        def groups(given: list[int]) -> list[int]:
            nonlocal door
            door = socket.socket(fileno=given.pop(0)) if plan.egress else None
            return given

        def hand_over(listener: socket.socket) -> None:
            if door is not None:
                socket.send_fds(door, [b"l"], [listener.fileno()])

        try:
            os.setsid()
            if not self._has_namespace:
                sc.set_child_subreaper()
            given = [] if late else take()
            plan = msgspec.msgpack.decode(plan_bytes, type=GuestPlan)
            listeners: list[int] = []
            layers: list[int] = []
            joined = (lambda: groups(take())) if late else groups(given)
            walls, missing = enter.enter(plan, joined, listeners, hand_over, layers)
            if control is None:
                raise RuntimeError("it was given no control socket")
            if door is not None:
                door.close()
            spaces = plan.rung is Rung.NAMESPACES
            remove_ipc = sc.remove_ipc if "ipc" in walls else apart.leave_ipc
            denials = Denials(listeners[0], plan.calls) if listeners else None
            born = wire.Born(
                walls=walls, missing=missing, names_denied=denials is not None, layer=bool(layers)
            )
            set_apart = landlock.set_apart if not spaces and "landlock" in walls else None
            kill_others = None if spaces else apart.killer("landlock" in walls)
            init.serve(control, born, sc.set_dumpable, remove_ipc, denials, kill_others, set_apart, layers)
        except WallUnavailable as error:
            _say_failed(control, error.wall, error.reason, error.fix)
        except BaseException as error:  # noqa: BLE001 — whatever it was, this is no zygote and must end
            _say_failed(control, "guest", f"{type(error).__name__}: {error}")
        finally:
            os._exit(1)


def _say_failed(control: Channel | None, wall: str, error: str, fix: str = "") -> None:
    """Begun ahead it has nobody to tell: the next spawn does without, and meets the same trouble."""
    if control is not None:
        control.send(wire.Failed(wall=wall, error=error, fix=fix))


def _keep_only(fds: list[int]) -> list[int]:
    """Move ``fds`` to 3, 4, …, put /dev/null on 0–2, close everything else."""
    behind = _KEPT_FD + len(fds)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, behind) for fd in fds]  # none takes another's number
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
