"""Start a zygote's process. Imports next to nothing: it is the first thing that a front does."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.level import Rung
from kernel_runtime.sandbox import image as images

if TYPE_CHECKING:
    from kernel_runtime.sandbox.plan import ImagePlan

#: What the first zygote of a front imports: the shell, and nothing of the user's.
BARE = ("kernel_runtime.guest.shell",)
_CHILD_FD = 3


def launch_for_shell(workdir: str) -> Launch:
    """The zygote that a front starts with; ``workdir`` is shown to guests if it may be."""
    path = os.path.realpath(workdir)
    return Launch(list(BARE), None if images.why_hidden(path) else path)


class Launch:
    """A zygote's process, started as early as possible: before any event loop exists.

    Interpreter start and staging then overlap with the start of the front.
    """

    def __init__(
        self, preload: list[str], workdir: str | None, rung: Rung = Rung.NAMESPACES, cache: str = ""
    ) -> None:
        self.image: ImagePlan = images.describe(preload, workdir, rung, cache)
        host, child = socket.socketpair()
        self.pid = _start(child.fileno())
        child.close()
        host.sendall(wire.pack(wire.Boot(image=msgspec.msgpack.encode(self.image))))
        self.socket = host

    def end(self) -> None:
        """Kill the launcher (the zygote dies with it, by its parent-death signal) and bury it."""
        end(self.pid)
        self.socket.close()  # behind it: a zygote that lives, and is hung up on, would complain
        remove_cache(self.image)


def remove_cache(image: ImagePlan) -> None:
    """Remove what the zygote has written outside a stage of its own."""
    if image.cache:
        from kernel_runtime.workers import scratch

        with contextlib.suppress(OSError):  # the zygote is only just ending: the next front sweeps
            scratch.remove(image.cache)


def end(pid: int) -> None:
    """Kill and bury a launcher."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _start(fd: int) -> int:
    """Start the interpreter with nothing of the host's environment, and nothing open but ``fd``; in a group of its
    own, for a terminal's Ctrl-C is for the front."""
    arguments = [sys.executable, "-I", "-m", "kernel_runtime.workers.zygote_main", str(_CHILD_FD)]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, 2, 1),
        (os.POSIX_SPAWN_DUP2, fd, _CHILD_FD),
    ]
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    return os.posix_spawn(sys.executable, arguments, environment, file_actions=actions, setpgroup=0)
