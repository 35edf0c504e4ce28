"""A first process begun ahead of the spawn that asks for it, as far as nothing of the guest's own is
needed: forked, and in namespaces of its own that no other process has ever been in.

It waits in there for its descriptors, enters the other walls, and is used once. Plans that were
asked for twice have one; it is ended when nobody asks for long.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING, NoReturn

from kernel_runtime.guest.passing import receive_fds

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds without a spawn before one is begun, and before the one that waits is ended.
QUIET, KEEP = 0.05, 300.0
_MOST_FDS = 16
_STANDS = b"s"


class Waiting:
    """A process that waits for its guest's descriptors."""

    def __init__(self, plan: bytes, pid: int, sock: socket.socket) -> None:
        self.plan = plan
        self.pid = pid
        self._socket = sock

    def stands(self) -> bool | None:
        """Whether it waits for descriptors by now; None: not yet."""
        try:
            return self._socket.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == _STANDS
        except BlockingIOError:
            return None

    def give(self, fds: list[int]) -> bool:
        """Let it go on with these; False when it has ended."""
        try:
            with self._socket:
                socket.send_fds(self._socket, [b"g"], fds)
        except OSError:
            return False
        return not _has_ended(self.pid)

    def end(self) -> None:
        """Kill and bury it."""
        self._socket.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _has_ended(pid: int) -> bool:
    """Without burying it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Ahead:
    """What the zygote has begun. ``fork`` makes a child that is pid 1 of a namespace of its own:
    its pid, or 0 in the child; there ``become`` gets the plan, and the socket to ``receive`` from.
    """

    def __init__(
        self,
        fork: Callable[[], int],
        become: Callable[[bytes, int], NoReturn],
    ) -> None:
        self._fork = fork
        self._become = become
        self._waiting: Waiting | None = None
        self._plan = b""
        self._wanted = False
        self._asked = time.monotonic()

    def take(self, plan: bytes, fds: list[int]) -> int | None:
        """The pid of one that goes on with ``fds`` from here; None when there is none for this plan."""
        self._wanted = plan == self._plan
        self._plan, self._asked = plan, time.monotonic()
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return None
        fits = waiting.plan == plan
        if fits and waiting.stands() is None:
            self._waiting = waiting  # for the next one
            return None
        if fits and waiting.stands() and waiting.give(fds):
            return waiting.pid
        waiting.end()
        return None

    def seconds(self) -> float | None:
        """How long the zygote may sleep before it calls ``tend``; None: until something comes."""
        if not self._wanted:
            return None
        due = self._asked + (QUIET if self._waiting is None else KEEP)
        return max(0.0, due - time.monotonic())

    def tend(self) -> None:
        """Begin one when it has been quiet; end it when it has been quiet for long."""
        if self.seconds() != 0:
            return
        if self._waiting is None:
            self._begin()
        else:
            waiting, self._waiting, self._wanted = self._waiting, None, False
            waiting.end()

    def _begin(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            pid = self._fork()
        except OSError:  # the spawn that asks for one will say so
            self._wanted = False
            ours.close()
        else:
            if pid == 0:
                self._become(self._plan, theirs.fileno())
            self._waiting = Waiting(self._plan, pid, ours)
        theirs.close()


def receive(fd: int) -> list[int]:
    """Say that all is ready, and wait for the guest's descriptors; without any, this process ends."""
    with socket.socket(fileno=fd) as sock:
        sock.sendall(_STANDS)
        data, fds = receive_fds(sock, 1, _MOST_FDS)
    if not data:
        os._exit(1)
    return fds
