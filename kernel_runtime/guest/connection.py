"""The live branch's socket: frames out whole and in order, frames in kept until wanted."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.guest.passing import receive_fds

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.guest.interrupts import Interrupts

HIGH_FD = 200
#: For a larger buffer the allocator maps new memory at each read: ten times the read's own time.
_CHUNK = 64 * 1024
_SMALL = 16 * 1024
_AT_ONCE = int(socket.MSG_DONTWAIT)
#: Milliseconds.
ANSWER_POLL = 200


def lift(fd: int, at_least: int = HIGH_FD) -> int:
    """Duplicate ``fd`` out of the reach of code that opens and closes low descriptors."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, at_least)
    except OSError:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


class Connection:
    """Blocking sends from any thread, never torn by SIGINT; reads that never block the loop.

    ``inbox`` holds frames that arrived and nobody took yet, ``fds`` what lay beside them. After a fork by user code the child
    is ``silent``: it must not write into its parent's stream.
    """

    def __init__(self, sock: socket.socket, interrupts: Interrupts) -> None:
        fd = lift(sock.fileno())
        sock.close()
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._interrupts = interrupts
        self._lock = threading.RLock()
        self._out: deque[bytes | memoryview] = deque()
        self._writing = False
        self._reading = threading.Lock()
        self._reader = wire.FrameReader(wire.decode_to_branch)
        self._answers: dict[str, str | None] = {}
        self._told_to_go = False
        self._copies: dict[str, tuple[wire.Freeze, int]] = {}
        self.inbox: deque[wire.Request | wire.Get | wire.Put | wire.Freeze | wire.Revive] = deque()
        self.fds: deque[int] = deque()
        self.on_backlog: Callable[[], None] = lambda: None
        self.on_called: Callable[[wire.Called, int | None], None] = _unasked
        self.on_renewed: Callable[[], None] = lambda: None
        self.on_go: Callable[[], None] = lambda: None
        self.loop: object = None
        self.silent = False
        self._interrupted = ""

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, frame: wire.FromBranch, *, more: bool = False) -> None:
        """Send one frame; ``ProtocolViolation`` when it is larger than the wire allows.

        With ``more`` it leaves together with the next one, which must follow at once.
        """
        data = wire.pack(frame)
        if not self.silent:
            with self._interrupts, self._lock:
                self._out.append(data)
                if not more:
                    self._write()

    def _write(self) -> None:
        # A collected object may send from within a send: its frame waits in the queue.
        if self._writing:
            return
        self._writing = True
        try:
            while self._out:
                if len(self._out) > 1 and len(self._out[0]) + len(self._out[1]) < _SMALL:
                    self._out.appendleft(b"".join((self._out.popleft(), self._out.popleft())))
                data = self._out[0]
                sent = self._socket.send(data)
                if sent == len(data):
                    self._out.popleft()
                else:
                    self._out[0] = memoryview(data)[sent:]
        except OSError:
            # the host is gone, or user code closed the descriptor: nobody can be told
            os._exit(wire.LOST_STATUS)
        finally:
            self._writing = False

    def receive(self) -> bool:
        """Take in what has arrived, without waiting; False when the host has hung up (or talks nonsense)."""
        with self._interrupts, self._reading:
            try:
                data, fds = receive_fds(self._socket, _CHUNK, 1, _AT_ONCE)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self._reader.feed(data)
            try:
                self._sort(fds)
            except ProtocolViolation:
                return False
            return bool(data)

    def _sort(self, fds: list[int]) -> None:
        """The kernel ends a read after what a descriptor lies beside: it belongs to the last frame."""
        frames, others = list(self._reader.frames()), []
        for frame in frames:
            if isinstance(frame, wire.Called):
                mine = fds.pop() if frame.descriptor and fds and frame is frames[-1] else None
                self.on_called(frame, mine)
            else:
                others.append(frame)
        self.fds.extend(fds)
        for frame in others:
            if isinstance(frame, wire.Answer):
                self._answers[frame.id] = frame.text
            elif isinstance(frame, wire.Go):
                self._told_to_go = True
                self.on_go()
            elif isinstance(frame, wire.Interrupt):
                self._interrupted = frame.id
            elif isinstance(frame, wire.Freeze) and frame.gate:
                self._copies[frame.gate] = (frame, self.fds.pop())
            else:
                self.inbox.append(frame)

    def catch_up(self) -> None:
        """Take in all that has arrived; what is not for now waits in ``inbox``."""
        while select.select([self.fileno()], [], [], 0)[0] and self.receive():
            pass

    def is_interrupted(self, request: str) -> bool:
        """Whether this request was interrupted before it began: the signal found nothing to strike then."""
        self.catch_up()
        if self.inbox:
            self.on_backlog()
        return self._interrupted == request

    def ask(self, frame: wire.Ask) -> str | None:
        """Send a prompt and wait for its answer; other frames wait in ``inbox`` meanwhile."""
        self.send(frame)
        self.wait_for(lambda: frame.id in self._answers)
        return self._answers.pop(frame.id)

    def ask_for_copy(self, frame: wire.Gated) -> tuple[wire.Freeze, int] | str:
        """Say that a gate is reached and wait for the order, with a descriptor, or for why there is none."""
        self.send(frame)
        self.wait_for(lambda: frame.id in self._copies or frame.id in self._answers)
        if frame.id in self._copies:
            return self._copies.pop(frame.id)
        return self._answers.pop(frame.id) or "the host refused"

    def take_in(self) -> None:
        """As a loop's reader: what has arrived, for whoever waits for it."""
        if not self.receive():
            os._exit(0)
        if self.inbox:
            self.on_backlog()

    def wait_for(self, there: Callable[[], bool], look: int = ANSWER_POLL) -> None:
        """Read until ``there()``; ``look``: milliseconds after which it is first asked without bytes."""
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN)
        try:
            while not there():
                # with a timeout, as the loop's thread may read this thread's answer
                if poller.poll(look) and not self.receive():
                    os._exit(0)
                look = min(2 * look, ANSWER_POLL)
        finally:
            if self.inbox:
                self.on_backlog()

    def renew(self) -> None:
        """In a thawed branch, with another socket in the old one's place: nothing is on its way."""
        self._reader = wire.FrameReader(wire.decode_to_branch)
        self._answers.clear()
        self._out.clear()
        self.inbox.clear()
        while self.fds:
            os.close(self.fds.popleft())
        self._told_to_go = False
        self.on_renewed()

    def wait_to_go(self) -> bool:
        """Wait for ``Go``; False when the host hangs up instead."""
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN)
        while not self._told_to_go:
            poller.poll()
            if not self.receive():
                return False
        return True

    def orphan(self) -> None:
        """In a child that user code forked: let go of the parent's socket."""
        self.silent = True
        self._lock = threading.RLock()
        self._reading = threading.Lock()
        self._out.clear()
        self._socket.close()


def _unasked(frame: wire.Called, descriptor: int | None) -> None:
    """An answer that nobody waits for."""
    if descriptor is not None:
        os.close(descriptor)
