"""Branches of a running process: a copy is forked off, between two callbacks of the loop, and waits frozen.

It holds nothing of the original's: see ``frozen``.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
import traceback
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.guest import descriptors, files, threads
from kernel_runtime.guest.channel import Channel
from kernel_runtime.guest.connection import lift
from kernel_runtime.guest.frozen import Moment, few
from kernel_runtime.guest.mappings import Mappings
from kernel_runtime.guest.waiting import children
from kernel_runtime.sdk import branches as hooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.guest.connection import Connection
    from kernel_runtime.guest.forking import Forking
    from kernel_runtime.guest.frozen import FrozenCopy, Restored
    from kernel_runtime.guest.garbage import Garbage

#: How long the original waits for the copy to make shared memory its own.
_PRIVATE_SECONDS = 10.0


class Branching:
    """One process's means to branch. ``refusal``: what stood in the way of the last copy, for people."""

    def __init__(
        self, loop: Any, connection: Connection, frozen: FrozenCopy, forking: Forking, garbage: Garbage
    ) -> None:
        self.refusal = ""
        self._loop = loop
        self._connection = connection
        self._frozen = frozen
        self._forking = forking
        self._mappings = Mappings()
        self._garbage = garbage
        self._pipe: list[int] = []

    def freeze(self, order: wire.Freeze, fd: int) -> Restored | None:
        """Make a frozen copy that waits at ``fd``, and answer. Returns None, and in the copy, when
        it is thawed one day, what has happened: then this process is the live branch.
        """
        begun = time.perf_counter(), time.process_time()
        refused: list[str] = []
        try:
            channel = _channel(fd)
        except OSError:
            os.close(fd)
            self.refuse(order, "no descriptor is free: close some")
            return None
        try:
            for hook in list(hooks.before):
                hook()
            moment = self._moment(channel.fileno(), order.dated or files.now())
            refused = _refusal(order, moment)
            lost = None if refused else self._copy(moment, channel)
            if lost is not None:
                return self._frozen.wait(moment, channel, lost)
            said: dict[str, Any] = {"external": refused} if refused else {"threads": self._beside(moment)}
        except Exception as error:  # noqa: BLE001 - a hook of user code, or no process to be had
            said = {"error": f"{type(error).__name__}: {error}"[: wire.MAX_SAID]}
        channel.close()
        self._close_pipe()
        for hook in list(hooks.after):
            _run_hook(hook)
        self._answer(order, begun, **said)
        return None

    def _beside(self, moment: Moment) -> list[str]:
        """The copy is made: the threads that it misses, by name."""
        names = few(threads.unsafe())
        if moment.shared:
            self._wait_for_copy()
        return names

    def _wait_for_copy(self) -> None:
        """Until it has made shared memory its own: it closes its end of the pipe."""
        os.close(self._pipe.pop())
        select.select(self._pipe, [], [], _PRIVATE_SECONDS)

    def _close_pipe(self) -> None:
        while self._pipe:
            os.close(self._pipe.pop())

    def refuse(self, order: wire.Freeze, reason: str) -> None:
        """No copy now."""
        self._answer(order, (time.perf_counter(), time.process_time()), error=reason)

    def _answer(self, order: wire.Freeze, begun: tuple[float, float], **more: Any) -> None:
        """``refusal`` is kept: what stood in the way of this copy, for people."""
        self.refusal = more.get("error") or ", ".join(more.get("external") or more.get("threads") or ())
        pause, spent = time.perf_counter() - begun[0], time.process_time() - begun[1]
        self._connection.send(wire.Froze(parent=order.id, pause=pause, spent=spent, **more))

    def _moment(self, fd: int, dated: float) -> Moment:
        threads.stop_idle(self._loop)
        own = self._frozen.own()
        shared = self._mappings.shared()
        if shared:
            self._pipe = list(os.pipe())
            own |= set(self._pipe)
        stock = descriptors.take_stock(own | {fd})
        timer = signal.getitimer(signal.ITIMER_REAL)
        return Moment(stock, shared, self._children(), time.monotonic(), dated, timer, own - {0})

    def _children(self) -> dict[int, str]:
        """Processes that user code has started here: pid → name."""
        self._forking.copies.bury()
        return {
            pid: f"child process {pid}{_name_of(pid)}"
            for pid in children()
            if pid not in self._forking.copies
        }

    def _copy(self, moment: Moment, channel: Channel) -> list[str] | None:
        """None in the original; in the copy, what it does not have. It hides from its first moment: what begins in the
        original at once finds it closed."""
        self._garbage.tend()
        lost = None
        self._frozen.hide()
        try:
            lost = self._forking.fork(lambda: self._frozen.begin(moment, channel, self._close_pipe))
        finally:
            if lost is None:
                self._frozen.show()
        return lost


def run_restored_hooks() -> None:
    """The notebook's own, when a thawed branch may act."""
    for hook in list(hooks.restored):
        _run_hook(hook)


def _run_hook(hook: Callable[[], object]) -> None:
    try:
        hook()
    except Exception:  # noqa: BLE001 - user code: its error is shown and changes nothing
        traceback.print_exc()


def _channel(fd: int) -> Channel:
    """Where a copy waits: at a number out of the way of user code."""
    high = lift(fd)
    os.close(fd)
    return Channel(socket.socket(fileno=high), wire.decode_to_frozen)


def _refusal(order: wire.Freeze, moment: Moment) -> list[str]:
    """What stands in the way of a copy at all, or (if asked to refuse) cannot be in it."""
    refused = [str(mapping) for mapping in moment.shared if not mapping.copied]
    if order.still and (moment.shared or moment.children or any(moment.timer)):
        refused.append("what changes by itself")
    if order.refuse:
        refused += [*moment.stock.others.values(), *moment.children.values()]
    return few(refused)


def _name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return f" ({file.read().strip()})"
    except OSError:
        return ""
