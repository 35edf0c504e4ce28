"""ipykernel's kernel and shell without sockets and threads; what differs is here."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import threading
import types
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ipykernel.displayhook import ZMQShellDisplayHook
from ipykernel.eventloops import enable_gui
from ipykernel.ipkernel import IPythonKernel
from ipykernel.zmqshell import ZMQDisplayPublisher
from ipykernel.zmqshell import ZMQInteractiveShell as IpykernelShell
from IPython.core.error import UsageError
from IPython.core.profiledir import ProfileDir
from tornado.ioloop import IOLoop
from traitlets import Type, observe

from kernel_runtime import wire
from kernel_runtime.guest.hints import hint, limit_behind
from kernel_runtime.guest.interrupts import show_users_own
from kernel_runtime.guest.shell_debugger import Debugging
from kernel_runtime.guest.shell_session import SHELL, from_json
from kernel_runtime.guest.stdio import Header, request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator

    from kernel_runtime.guest.connection import Connection
    from kernel_runtime.guest.denials import Slate
    from kernel_runtime.guest.gates import Gates
    from kernel_runtime.guest.headroom import Headroom
    from kernel_runtime.guest.interrupts import Interrupts
    from kernel_runtime.guest.mending import Mending
    from kernel_runtime.guest.stdio import Console

_ERRNOS = 4096
#: What the front answers by itself and a guest is never asked.
_NOT_OURS = ("shutdown_request", "interrupt_request", "connect_request")


class Profile(ProfileDir):
    """IPython's profile directory as names only: nothing is made on disk before user code asks."""

    @observe("location")
    def _location_changed(self, change: Any) -> None:
        self.startup_dir = f"{change['new']}/startup"
        self.static_dir = f"{change['new']}/static"

    def check_log_dir(self, change: Any = None) -> None: ...
    def check_startup_dir(self, change: Any = None) -> None: ...
    def check_security_dir(self, change: Any = None) -> None: ...
    def check_pid_dir(self, change: Any = None) -> None: ...


class GuestDisplayHook(ZMQShellDisplayHook):
    """Shows results even when user code broke ``sys.stdout``."""

    if TYPE_CHECKING:
        shell: Any

    def finish_displayhook(self) -> None:
        self.shell.kernel.mending.streams()
        super().finish_displayhook()


class GuestDisplayPublisher(ZMQDisplayPublisher):
    """Publishes without touching ``sys.stdout``: sending a frame flushes what was printed."""

    def _flush_streams(self) -> None: ...


class ZMQInteractiveShell(IpykernelShell):
    """ipykernel's shell. Libraries ask for the class by this name (tqdm, rich, pandas)."""

    displayhook_class = Type(GuestDisplayHook)
    display_pub_class = Type(GuestDisplayPublisher)
    _transformed: tuple[str, str] | None = None
    _shown: BaseException | None = None

    def init_ipython_dir(self, ipython_dir: str | None) -> None: ...

    @observe("ipython_dir")
    def _ipython_dir_changed(self, change: Any) -> None:
        """A name only, like the profile."""

    @observe("exit_now")
    def _update_exit_now(self, change: Any) -> None:
        """The payload ``ask_exit`` tells the front, and the front decides."""

    def enable_gui(self, gui: Any = None) -> None:
        """As ipykernel's, which finds the kernel through an application that is not here."""
        try:
            enable_gui(gui, self.kernel)
        except ValueError as error:
            raise UsageError(str(error)) from error
        self.active_eventloop = gui

    def system_piped(self, cmd: str) -> None:
        """``!command``: through a terminal of its own, or without one where the guest may have none."""
        try:
            os.close(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
        except OSError:
            self.system_raw(cmd)
        else:
            super().system_piped(cmd)

    system = system_piped

    def transform_cell(self, raw_cell: str) -> str:
        """Once for each cell: ipykernel asks for it, and run_cell asks again."""
        known, self._transformed = self._transformed, None
        if known is not None and known[0] is raw_cell:
            return known[1]
        transformed: str = super().transform_cell(raw_cell)
        self._transformed = (raw_cell, transformed)
        return transformed

    async def run_cell_async(self, raw_cell: str, *args: Any, **options: Any) -> Any:
        self._last_traceback = None
        self._last_traceback_during_displayhook = False
        run = super().run_cell_async(raw_cell, *args, **options)
        return await _interruptible(run, self.kernel.interrupts)

    def _get_exc_info(self, exc_tuple: Any = None) -> Any:
        etype, value, trace = super()._get_exc_info(exc_tuple)
        if isinstance(value, MemoryError):
            self.kernel.headroom.open()
        show_users_own(value)
        return etype, value, trace

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        kernel = self.kernel
        kernel.mending.streams()
        begin = kernel.begin
        line = hint(evalue, begin.limits, begin.cwd, kernel.denied(), begin.shown_by)
        super()._showtraceback(etype, evalue, [*stb, line] if line else stb)
        self._shown = evalue
        kernel.limited = (limit_behind(evalue, begin.limits), getattr(evalue, "errno", None))

    def _format_exception_for_storage(
        self, exception: BaseException, *args: Any, **options: Any
    ) -> dict[str, Any]:
        """The traceback just shown; IPython would format it a second time (tens of ms)."""
        shown, self._shown = self._shown, None
        if exception is shown:
            return {
                "ename": type(exception).__name__,
                "evalue": str(exception),
                "traceback": self._last_traceback,
            }
        stored: dict[str, Any] = super()._format_exception_for_storage(exception, *args, **options)
        return stored


@types.coroutine
def _interruptible(coro: Coroutine[Any, Any, Any], interrupts: Interrupts) -> Generator[Any, Any, Any]:
    """Drive ``coro``; a cancellation that stands for SIGINT reaches it as KeyboardInterrupt."""
    step: Callable[[], Any] = partial(coro.send, None)
    while True:
        try:
            waited_for = step()
        except StopIteration as end:
            return end.value
        try:
            value = yield waited_for
            step = partial(coro.send, value)
        except asyncio.CancelledError as error:
            thrown: BaseException = error
            if interrupts.cancelled:
                interrupts.cancelled = False
                thrown = KeyboardInterrupt()
            step = partial(coro.throw, thrown)
        except BaseException as error:  # noqa: BLE001 - passed on into the coroutine as it is
            step = partial(coro.throw, error)


class GuestKernel(IPythonKernel):
    """IPythonKernel whose messages come from, and go to, the frames of one connection."""

    if TYPE_CHECKING:
        shell: Any
        session: Any
    shell_class = Type(ZMQInteractiveShell)
    connection: Connection
    console: Console
    interrupts: Interrupts
    mending: Mending
    begin: wire.Begin
    last_parent: dict[str, Any]
    limited: tuple[str | None, object] = (None, None)
    headroom: Headroom
    gates: Gates
    slate: Slate | None = None
    _slate_mark = 0
    _prompts = itertools.count(1)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._execute_sleep = 0.0
        self.last_parent = {}
        # do_execute asks on which thread SIGINT arrives
        self.shell_channel_thread = types.SimpleNamespace(parent_thread=threading.main_thread())
        for kind in _NOT_OURS:
            self.shell_handlers.pop(kind, None)
        self.shell_handlers["debug_request"] = self.debug_request
        self.debugging = Debugging(self)
        self.on_error: Callable[[], None] = lambda: None

    @property
    def _supports_kernel_subshells(self) -> bool:
        return False

    @property
    def io_loop(self) -> IOLoop:  # type: ignore[override] # typed as any there
        """Tornado's view of the running loop, for libraries that schedule on the kernel's."""
        return IOLoop.current()

    async def serve(self, request: wire.Request) -> None:
        """Handle one request: whatever comes of it is sent with this request as its parent."""
        handler = self.shell_handlers.get(request.kind)
        if handler is None:
            raise NotImplementedError(f"this kernel's guest does not know the request {request.kind!r}")
        message = to_message(request)
        self.set_parent([], message)
        if request.kind == "execute_request" and request.count:
            self.shell.execution_count = request.count
        result = handler(SHELL, [], message)
        if inspect.isawaitable(result):
            await result

    def set_parent(self, ident: Any, parent: dict[str, Any], channel: str = "shell") -> None:
        super().set_parent(ident, parent, channel)
        self.last_parent = parent
        self.console.set_parent(request_of(parent), everywhere=True)

    def adopt(self, parent: dict[str, Any]) -> None:
        """In a new thread: its output belongs to the cell that started it."""
        self._shell_parent.set(parent)
        self.shell.set_thread_parent(parent)
        self.console.set_parent(request_of(parent), everywhere=False)

    async def do_execute(self, code: str, *args: Any, **options: Any) -> dict[str, Any]:
        self.shell._transformed = None
        self.limited = (None, None)
        self.headroom.close()
        self._slate_mark = self.slate.mark() if self.slate is not None else 0
        self.debugging.rearm()
        try:
            reply: dict[str, Any] = await super().do_execute(code, *args, **options)
        finally:
            self.headroom.open()
            self.mending()
            self.shell.exit_now = False
        if reply.get("status") == "error":
            self._say_limited()
        return reply

    def _say_limited(self) -> None:
        """Tell the host which limit is behind the cell's error, if one is."""
        name, number = self.limited
        if name is not None:
            number = number if isinstance(number, int) and 0 < number < _ERRNOS else 0
            frame = wire.Limited(parent=request_of(self.get_parent()), name=name, errno=number)
            self.connection.send(frame)

    def denied(self) -> list[str]:
        """The system calls that were denied since this cell began."""
        return self.slate.since(self._slate_mark) if self.slate is not None else []

    @contextmanager
    def _cancel_on_sigint(self, future: asyncio.Task[Any]) -> Iterator[None]:
        self.interrupts.task = future
        try:
            yield
        finally:
            self.interrupts.task = None

    def _input_request(self, prompt: str, ident: Any, parent: Any, password: bool = False) -> str:
        self.console.flush()
        ask = wire.Ask(
            id=f"ask-{next(self._prompts)}",
            parent=request_of(parent),
            prompt=prompt[: wire.MAX_SAID],
            password=password,
        )
        try:
            text = self.connection.ask(ask)
        except KeyboardInterrupt:
            # again from here, to cut the traceback short, as ipykernel does
            raise KeyboardInterrupt("Interrupted by user") from None
        if text is None or text == "\x04":
            raise EOFError
        return text

    def _abort_queues(self, subshell_id: str | None = None) -> None:
        self.on_error()

    def _publish_execute_input(self, code: str, parent: Any, execution_count: int) -> None:
        """The front has published it."""

    async def do_debug_request(self, msg: Any) -> Any:
        """The host's own questions; DAP itself does not come this way."""
        return self.debugging.answer(msg)


def to_message(request: wire.Request) -> dict[str, Any]:
    """A request frame as the message dict that ipykernel's handlers take."""
    header = Header(from_json(request.header))
    header.request = request.id
    header.setdefault("msg_id", request.id)
    header.setdefault("msg_type", request.kind)
    return {
        "header": header,
        "msg_id": header["msg_id"],
        "msg_type": request.kind,
        "parent_header": {},
        "metadata": from_json(request.metadata),
        "content": from_json(request.content),
        "buffers": [memoryview(buffer) for buffer in request.buffers],
    }
