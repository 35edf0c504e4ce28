"""SIGINT inside the live branch: when it becomes a KeyboardInterrupt, and when it waits."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import KernelRuntimeError

if TYPE_CHECKING:
    from types import FrameType, TracebackType

#: Modules whose frames no user has written: what asks, and what waits for a line.
_OURS = ("kernel_runtime.", "ipykernel.kernelbase")


class Interrupts:
    """The one SIGINT handler.

    Between cells (not ``armed``) it does nothing. Inside ``with interrupts:`` (a frame is being
    sent, a buffer changed) it waits for the end of the block. While a cell awaits, it wakes the
    loop and cancels ``task``; the shell turns that into KeyboardInterrupt. Otherwise it raises.
    SIGURG follows it from outside: it only wakes the system call that may have begun meanwhile.
    ``struck`` stays true afterwards, for the debugger.
    """

    def __init__(self) -> None:
        self._main = threading.main_thread().ident
        self._depth = 0
        self._pending = False
        self._armed = False
        self.task: asyncio.Task[Any] | None = None
        self.cancelled = False
        self.struck = False

    def arm(self) -> None:
        """A request begins; user code may have replaced the handler, so it is set again."""
        self._pending = self.cancelled = False
        if signal.getsignal(signal.SIGINT) != self._handle:
            signal.signal(signal.SIGINT, self._handle)
        if signal.getsignal(signal.SIGURG) in (signal.SIG_DFL, signal.SIG_IGN):
            signal.signal(signal.SIGURG, _wake)
        self._armed = True

    def disarm(self) -> None:
        """The request is over: from here on SIGINT is harmless."""
        self._armed = False
        self._pending = False

    def install(self) -> None:
        """Take SIGINT over, disarmed."""
        self._main = threading.get_ident()
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGURG, _wake)

    def __enter__(self) -> None:
        if threading.get_ident() == self._main:
            self._depth += 1

    def __exit__(self, *exc: object) -> None:
        if threading.get_ident() == self._main:
            self._depth -= 1
            if self._pending and not self._depth:
                self._pending = False
                self._strike()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._armed:
            return
        if self._depth:
            self._pending = True
        else:
            self._strike()

    def _strike(self) -> None:
        self.struck = True
        task = self.task
        if task is None or task.done() or _running(task):
            raise KeyboardInterrupt
        self.cancelled = True
        # call_soon would not wake a sleeping selector (ipykernel issues 881, 1239)
        task.get_loop().call_soon_threadsafe(task.cancel)


def _wake(number: int, frame: FrameType | None) -> None:
    """A handler of Python's: with it a signal ends a system call, and SIGINT's handler gets its turn."""


def _running(task: asyncio.Task[Any]) -> bool:
    return asyncio.current_task(task.get_loop()) is task


def show_users_own(error: BaseException | None) -> None:
    """End the tracebacks of an error, and of those that led to it, where steps of ours begin: how an interrupt comes,
    how the sdk asks and ``input`` waits are no steps of the user's."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, KeyboardInterrupt):
            _cut_handler(error.__traceback__)
        if isinstance(error, KeyboardInterrupt | EOFError | KernelRuntimeError):
            _cut_ours(error.__traceback__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _cut_ours(trace: TracebackType | None) -> None:
    """End a traceback behind its last frame that is not of this package, nor of the kernel's that it is built on."""
    last = trace
    while trace is not None:
        if not str(trace.tb_frame.f_globals.get("__name__")).startswith(_OURS):
            last = trace
        trace = trace.tb_next
    if last is not None:
        last.tb_next = None


def _cut_handler(trace: TracebackType | None) -> None:
    """End a traceback where the handler here begins."""
    while trace is not None:
        if trace.tb_next is not None and trace.tb_next.tb_frame.f_code.co_filename == __file__:
            trace.tb_next = None
        trace = trace.tb_next
