"""A first process begun ahead of the spawn that asks for it, as far as nothing of the guest's own is
needed: forked, and in namespaces of its own that no other process has ever been in.

It waits in there for its descriptors, enters the other walls, and is used once. A plan that was asked
for twice lately has one, whatever else was asked for in between; it is ended when nobody asks for long.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, NoReturn

from kernel_runtime.guest.passing import receive_fds

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds without a spawn before one is begun, and before the one that waits is ended.
QUIET, KEEP = 0.05, 300.0
#: So many spawns are lately.
_LATELY = 4
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
        self._lately: deque[bytes] = deque(maxlen=_LATELY)
        self._asked = time.monotonic()

    def take(self, plan: bytes, fds: list[int]) -> int | None:
        """The pid of one that goes on with ``fds`` from here; None when there is none for this plan."""
        self._lately.append(plan)
        self._asked = time.monotonic()
        waiting = self._waiting
        if waiting is None:
            return None
        if waiting.plan != plan:
            if waiting.plan not in self._lately:
                self._end(waiting)
            return None
        stands = waiting.stands()
        if stands is None:
            return None  # it is for the next one
        if stands and waiting.give(fds):
            self._waiting = None
            return waiting.pid
        self._end(waiting)
        return None

    def _end(self, waiting: Waiting) -> None:
        self._waiting = None
        waiting.end()

    def _wanted(self) -> bytes | None:
        """The plan that will be asked for again, if one was."""
        twice = (plan for plan in reversed(self._lately) if self._lately.count(plan) > 1)
        return next(twice, None)

    def seconds(self) -> float | None:
        """How long the zygote may sleep before it calls ``tend``; None: until something comes."""
        if self._waiting is None and self._wanted() is None:
            return None
        due = self._asked + (QUIET if self._waiting is None else KEEP)
        return max(0.0, due - time.monotonic())

    def tend(self) -> None:
        """Begin one when it has been quiet; end it when it has been quiet for long."""
        if self.seconds() != 0:
            return
        if self._waiting is not None:
            self._lately.clear()
            self._end(self._waiting)
        elif plan := self._wanted():
            self._begin(plan)

    def _begin(self, plan: bytes) -> None:
        ours, theirs = socket.socketpair()
        try:
            pid = self._fork()
        except OSError:  # the spawn that asks for one will say so
            self._lately.clear()
            ours.close()
        else:
            if pid == 0:
                self._become(plan, theirs.fileno())
            self._waiting = Waiting(plan, pid, ours)
        theirs.close()


def receive(fd: int) -> list[int]:
    """Say that all is ready, and wait for the guest's descriptors; without any, this process ends."""
    with socket.socket(fileno=fd) as sock:
        sock.sendall(_STANDS)
        data, fds = receive_fds(sock, 1, _MOST_FDS)
    if not data:
        os._exit(1)
    return fds
