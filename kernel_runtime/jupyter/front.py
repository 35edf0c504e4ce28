"""The trusted front kernel: clients on one side, the guest's session on the other.

It runs no user code. What must work while a guest is busy, dead or not yet born is answered
here, at once; cells and questions about code wait in line (``cells.py``); comm messages go
straight on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

import zmq

from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.jupyter import parent, paths, requests
from kernel_runtime.jupyter.cells import Cells
from kernel_runtime.jupyter.channels import Router, adopt
from kernel_runtime.jupyter.comms import Comms
from kernel_runtime.jupyter.connection import PORTS
from kernel_runtime.jupyter.contents import encode
from kernel_runtime.jupyter.debugger import Debugger
from kernel_runtime.jupyter.guest import Guest
from kernel_runtime.jupyter.history import History, Question
from kernel_runtime.jupyter.identity import kernel_info
from kernel_runtime.jupyter.latecomers import Latecomers
from kernel_runtime.jupyter.messages import Message, MessageError, Scribe
from kernel_runtime.jupyter.outgoing import Outgoing
from kernel_runtime.jupyter.panels.sources import Sources
from kernel_runtime.jupyter.panels.stage import Stage
from kernel_runtime.jupyter.policy import Gate
from kernel_runtime.jupyter.prompts import Prompts
from kernel_runtime.jupyter.publisher import Publisher
from kernel_runtime.jupyter.relay import Desk, Relay, request_of
from kernel_runtime.jupyter.usage import UsageReport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.jupyter.connection import Door
    from kernel_runtime.jupyter.guest import House
    from kernel_runtime.jupyter.settings import Settings

#: Bytes that may wait for one slow client, at least; and as a multiple of the output limit.
QUEUE_FLOOR = 64 * 1024 * 1024
QUEUE_FACTOR = 2
CLOSE_SECONDS = 5.0
WARM_SECONDS = 0.3
_LINE = frozenset({"execute_request", "complete_request", "inspect_request", "is_complete_request"})
_COMMS = frozenset({"comm_open", "comm_msg", "comm_close"})


class Front:
    """One kernel. ``run`` serves until a shutdown is asked for, then leaves nothing behind."""

    def __init__(self, settings: Settings, door: Door, house: House) -> None:
        self._settings = settings
        self._door = door
        self._scribe = Scribe(door.connection.key.encode(), door.connection.signature_scheme)
        self._guest = Guest(house, settings)
        self._comms = Comms()
        self._history = History(
            settings.history or str(paths.data_dir() / "kernel-runtime" / "history.sqlite")
        )
        self._report = UsageReport(self._guest)
        self._comms.targets["kernel_runtime.usage"] = self._report.to_comm
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: dict[str, Callable[[Message], dict[str, Any] | Awaitable[dict[str, Any]]]] = {
            "kernel_info_request": lambda _: kernel_info(
                self._settings, self._guest.walls, self._guest.missing
            ),
            "connect_request": lambda _: self._ports() | {"status": "ok"},
            "comm_info_request": self._comm_info,
            "history_request": self._ask_history,
            "interrupt_request": self._interrupt,
            "usage_request": lambda _: self._report.to_client(),
            "debug_request": lambda message: self._debugger.answer(requests.read(message, requests.Debug)),
        }

    # -- life ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Bind, tell where, serve, shut down."""
        loop = self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = loop.create_future()
        await self._bind()
        self._desk = self._make_desk()
        self._cells = Cells(
            self._guest, self._desk, self._settings, self._history, self._reply, self._shell.drain
        )
        self._debugger = Debugger(
            self._guest, self._settings.level, self._debug_event, lambda: self._cells.running is not None
        )
        self._handle_signals()
        parent.watch(loop, os.environ, self._stop)
        self._desk.publish("status", {"execution_state": "starting"}, b"{}")
        self._guest.open(self._cells.strays)
        if self._guest.session is not None:
            self._spawn(self._cells.hear(self._guest.session.offer()))
        self._spawn(self._cells.serve())
        self._spawn(self._warm())
        await self._over
        await self._close()

    async def _bind(self) -> None:
        budget = max(QUEUE_FLOOR, QUEUE_FACTOR * self._settings.limits.output)
        self._publisher = Publisher(self._loop, self._scribe, budget)
        self._context = zmq.Context()
        await self._publisher.listen(self._door.listening["iopub_port"])
        self._shell = self._router("shell_port", self._on_shell)
        self._stdin = self._router("stdin_port", self._on_stdin)
        self._control = self._router("control_port", self._on_control)
        self._heart = self._router("hb_port", lambda frames: self._heart.send(frames))

    def _router(self, name: str, receive: Callable[[list[bytes]], None]) -> Router:
        return Router(self._loop, adopt(self._context, self._door.listening[name]), receive)

    def _make_desk(self) -> Desk:
        prompts = Prompts(self._scribe, self._stdin.send, self._guest.answer)
        self._settings.person.prompts = prompts
        limits = self._settings.limits
        gate = Gate(self._settings.level, self._settings.page_hosts, self._comms.of_front)
        self._stage = Stage(self._publisher, self._comms)
        self._sources = Sources(self._guest)
        self._latecomers = Latecomers(
            self._publisher, self._comms, gate, self._stage, lambda: self._cells.running is not None
        )
        return Desk(self._publisher, self._comms, prompts, gate, limits.output, self._stage, self._sources)

    def _handle_signals(self) -> None:
        self._loop.add_signal_handler(signal.SIGINT, self._guest.interrupt)
        self._loop.add_signal_handler(signal.SIGTERM, self._stop)

    async def _warm(self) -> None:
        """Let warmer guests be prepared once the first one stands and the start is over."""
        if self._guest.session is None:
            return
        try:
            await self._guest.session.ready()
        except (KernelRuntimeError, OSError):
            return
        await asyncio.sleep(WARM_SECONDS)
        self._guest.warm_up()

    def _stop(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    async def _close(self) -> None:
        """Guest first (no orphans), then the last messages, then the sockets."""
        for task in self._tasks:
            task.cancel()
        self._stage.close()
        try:
            await asyncio.wait_for(self._guest.close(), CLOSE_SECONDS)
        except Exception:  # noqa: BLE001 - the process ends; the zygote's death signal does the rest
            traceback.print_exc()
        await self._publisher.drained(1.0)
        self._history.close()
        self._publisher.close()
        for router in (self._shell, self._stdin, self._control, self._heart):
            router.close()
        self._context.term()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- requests ------------------------------------------------------------------------------

    def _on_shell(self, frames: list[bytes]) -> None:
        self._dispatch(frames, self._shell)

    def _on_control(self, frames: list[bytes]) -> None:
        self._dispatch(frames, self._control)

    def _on_stdin(self, frames: list[bytes]) -> None:
        try:
            self._desk.prompts.reply(self._scribe.read(frames))
        except MessageError as error:
            _complain(error)

    def _dispatch(self, frames: list[bytes], channel: Router) -> None:
        try:
            message = self._scribe.read(frames)
            self._route(message, channel)
        except MessageError as error:
            _complain(error)

    def _route(self, message: Message, channel: Router) -> None:
        kind = message.kind
        if kind in _LINE:
            if kind == "execute_request" and (panel := self._cells.panel(message)) is not None:
                self._spawn(panel)
            elif kind != "execute_request" or not self._cells.front_magic(message):
                self._cells.put(message)
        elif kind in _COMMS:
            self._spawn(self._comm(message, requests.read(message, requests.Comm)))
        elif kind == "shutdown_request":
            self._shutdown(message, channel)
        elif kind in self._answers:
            self._answer(message, channel)
        else:
            _complain(MessageError(f"unknown message type {kind!r}"))
            self._between(message)

    def _answer(self, message: Message, channel: Router) -> None:
        """Answer at once, whatever the guest does."""
        self._cells.status("busy", message)
        content = self._answers[message.kind](message)
        if isinstance(content, dict):
            self._finish_answer(message, channel, content)
        else:
            self._spawn(self._answer_later(message, channel, content))

    async def _answer_later(
        self, message: Message, channel: Router, content: Awaitable[dict[str, Any]]
    ) -> None:
        self._finish_answer(message, channel, await content)

    def _finish_answer(self, message: Message, channel: Router, content: dict[str, Any]) -> None:
        self._send(channel, message, message.kind.removesuffix("_request") + "_reply", content)
        self._between_end(message)

    def _between(self, message: Message) -> None:
        self._cells.status("busy", message)
        self._between_end(message)

    def _between_end(self, message: Message) -> None:
        """Idle for this request; a cell that runs meanwhile is said to be busy again, because
        front ends show the last status they saw."""
        self._cells.status("idle", message)
        if self._cells.running is not None:
            self._cells.status("busy", self._cells.running)

    def _reply(self, message: Message, content: object, metadata: dict[str, Any]) -> None:
        """Reply on shell to a request that waited in line."""
        kind = message.kind.removesuffix("_request") + "_reply"
        self._send(self._shell, message, kind, content, metadata)

    def _send(
        self, channel: Router, message: Message, kind: str, content: object, metadata: object = None
    ) -> None:
        self._publisher.flush()  # what was said before the reply leaves before it
        extra = encode(metadata) if metadata else b"{}"
        parts = self._scribe.write(kind, encode(content), message.raw, extra)
        channel.send([*message.identities, *parts])

    # -- what the front answers ----------------------------------------------------------------

    def _ports(self) -> dict[str, Any]:
        return {name: getattr(self._door.connection, name) for name in PORTS}

    def _comm_info(self, message: Message) -> dict[str, Any]:
        target = requests.read(message, requests.CommInfo).target_name
        return {"status": "ok", "comms": self._comms.info(target)}

    def _ask_history(self, message: Message) -> dict[str, Any]:
        question = requests.read(message, Question)
        return {"status": "ok", "history": self._history.ask(question)}

    def _interrupt(self, _: Message) -> dict[str, Any]:
        self._guest.interrupt()
        return {"status": "ok"}

    def _shutdown(self, message: Message, channel: Router) -> None:
        content = {"status": "ok", "restart": requests.read(message, requests.Shutdown).restart}
        self._cells.status("busy", message)
        self._send(channel, message, "shutdown_reply", content)
        self._publisher.publish(Outgoing("shutdown_reply", encode(content), message.raw))
        self._cells.status("idle", message)
        self._publisher.flush()
        self._stop()

    def _debug_event(self, event: dict[str, Any]) -> None:
        cell = self._cells.running
        self._desk.publish("debug_event", event, cell.raw if cell else b"{}")

    # -- comms ---------------------------------------------------------------------------------

    async def _comm(self, message: Message, comm: requests.Comm) -> None:
        self._cells.status("busy", message)
        try:
            if comm.comm_id in self._stage:
                self._stage.receive(message, comm)
            elif self._latecomers.answer(message, comm):
                pass
            elif self._comms.is_front(comm):
                await self._comm_at_front(message, comm)
            else:
                await self._comm_at_guest(message, comm)
        except (KernelRuntimeError, OSError, MessageError) as error:
            _complain(error)
        finally:
            self._between_end(message)

    async def _comm_at_front(self, message: Message, comm: requests.Comm) -> None:
        answer = await self._comms.at_front(message.kind, comm)
        if answer is not None:
            kind, data = answer
            self._desk.publish(kind, {"comm_id": comm.comm_id, "data": data}, message.raw)

    async def _comm_at_guest(self, message: Message, comm: requests.Comm) -> None:
        self._comms.note_client(message.kind, comm)
        self._desk.gate.heard(message.kind, comm.comm_id, comm.data, list(message.buffers))
        relay = Relay(self._desk, message)
        session = await self._guest.ready()
        verdict = await session.submit(request_of(message), relay)
        relay.finish()
        self._cells.strays.remember(relay)
        if verdict is not None and not verdict.survived:
            self._desk.guest_died()


def _complain(error: Exception) -> None:
    print(f"kernel_runtime: {error}", file=sys.stderr)
