"""Requests for the guest, one after the other, as they came: cells and what asks about code.

One execute runs at a time; after an error the cells that were waiting are answered
``aborted``, as ipykernel does. Comm messages do not wait in this line.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.domain.level import Level
from kernel_runtime.jupyter import bench, front_magics, identity, limits_magic, verdicts
from kernel_runtime.jupyter.card_place import UnderTheCell
from kernel_runtime.jupyter.contents import CompleteReply, Content, ExecuteReply, Fault, Trouble
from kernel_runtime.jupyter.messages import MessageError
from kernel_runtime.jupyter.panels.asking import Asking
from kernel_runtime.jupyter.panels.openers import Panels
from kernel_runtime.jupyter.records import Recorder, Records
from kernel_runtime.jupyter.relay import Relay, Strays, request_of
from kernel_runtime.jupyter.requests import Cursor, Execute, read
from kernel_runtime.jupyter.settings import cell_source, tighten
from kernel_runtime.workers.cancelled import being_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.jupyter.advice import Advice
    from kernel_runtime.jupyter.guest import Guest, Sink
    from kernel_runtime.jupyter.history import History
    from kernel_runtime.jupyter.messages import Message
    from kernel_runtime.jupyter.relay import Desk
    from kernel_runtime.jupyter.settings import Settings

HISTORY_SECONDS = 0.5
#: A client answers what an output widget captured with comm messages. nbclient sends them beside its event
#: loop, and does not see a reply that arrives at that very moment: it waits until its timeout.
CAPTURED_SECONDS = 0.1
#: Characters of a cell that the check reads in some milliseconds; longer ones are read beside the loop.
READ_AT_ONCE = 4000
#: Bytes of a request that only opens a panel, at most.
MOST_PANEL = 1000


class Cells:
    """The line of requests and the one that is being served."""

    def __init__(
        self,
        guest: Guest,
        desk: Desk,
        settings: Settings,
        history: History,
        reply: Callable[[Message, object, dict[str, Any]], None],
        drain: Callable[[], None],
    ) -> None:
        self.count = 0
        self.notice = ""
        self.running: Message | None = None
        self.strays = Strays(desk)
        self.records = Records()
        self._guest = guest
        self._desk = desk
        self._settings = settings
        self._history = history
        self._reply = reply
        self._drain = drain
        self._advice: Advice | None = None
        self._panels = Panels(desk.stage, guest, desk.sources)
        self._place = UnderTheCell(desk)
        self.person = settings.person.card = Asking(desk.stage, self._place)
        self._line: deque[Message] = deque()
        self._aborted: set[int] = set()
        self._wake = asyncio.Event()
        self._write_later: asyncio.TimerHandle | None = None

    def put(self, message: Message) -> None:
        """Append a request to the line."""
        self._line.append(message)
        self._wake.set()

    async def serve(self) -> None:
        """Serve the line for ever."""
        while True:
            while self._line:
                message = self._line.popleft()
                await self._guarded(message)
            self._wake.clear()
            await self._wake.wait()

    def abort_waiting(self) -> None:
        """After an error: the cells that wait now will be answered ``aborted``."""
        self._drain()
        self._aborted.update(id(message) for message in self._line if message.kind == "execute_request")

    def front_magic(self, message: Message) -> bool:
        """Answer a cell that is only ``%limits`` at once, whatever runs; False when it is none."""
        if b"%limits" not in message.content:
            return False
        request = read(message, Execute)
        what = limits_magic.recognise(request.code)
        if what is None:
            return False
        self.status("busy", message)
        count = self._take_count(request)
        self._announce(message, request, count)
        bundle = limits_magic.answer(what, self._settings)
        if not request.silent:
            self._desk.publish("display_data", {"data": bundle, "metadata": {}, "transient": {}}, message.raw)
        self._reply(message, _execute_reply("ok", count), _stamp("ok"))
        self.status("idle", message)
        return True

    def panel(self, message: Message) -> Coroutine[Any, Any, None] | None:
        """What answers a cell that only opens a panel, also while another runs; None when it does not."""
        if b"%" not in message.content or len(message.content) > MOST_PANEL:
            return None
        request = read(message, Execute)
        name = self._panels.recognise(request.code)
        return None if name is None else self._open_panel(message, request, name)

    async def _open_panel(self, message: Message, request: Execute, name: str) -> None:
        self.status("busy", message)
        count = self._take_count(request)
        self._announce(message, request, count)
        content: Any = _execute_reply("ok", count)
        try:
            bundle = await self._panels.open(name, message.raw)
        except Exception as error:  # noqa: BLE001 - a bug here must not leave a front end waiting
            if not isinstance(error, KernelRuntimeError):
                traceback.print_exc()
            content = self._show(message, request, verdicts.trouble_from(error))
        else:
            if not request.silent:
                shown = {"data": bundle, "metadata": {}, "transient": {}}
                self._desk.publish("display_data", shown, message.raw)
        self._reply(message, content, _stamp("ok" if isinstance(content, dict) else "error"))
        self.status("idle", message)
        if self.running is not None:
            self.status("busy", self.running)

    def status(self, state: str, message: Message) -> None:
        """Publish busy or idle in a request's name."""
        self._desk.publish("status", {"execution_state": state}, message.raw)

    async def _guarded(self, message: Message) -> None:
        """Serve one request; whatever happens it is answered and followed by idle."""
        self.running = message if message.kind == "execute_request" else None
        self._settings.person.running = self.running
        if self.running is not None:
            self._place.runs(message)
        self.status("busy", message)
        try:
            await self._serve(message)
        except MessageError as error:
            print(f"kernel_runtime: {error}", file=sys.stderr)
        except Exception as error:  # noqa: BLE001 - a bug here must not leave a front end waiting
            traceback.print_exc()
            self._reply(message, Fault(ename=type(error).__name__, evalue=str(error)), {})
        finally:
            self.running = self._settings.person.running = None
            self.status("idle", message)

    async def _serve(self, message: Message) -> None:
        if message.kind == "execute_request":
            if id(message) in self._aborted:
                self._aborted.discard(id(message))
                self._reply(message, {"status": "aborted"}, _stamp("aborted"))
            else:
                await self._execute(message, read(message, Execute))
        else:
            await self._ask(message)

    # -- cells ---------------------------------------------------------------------------------

    async def _execute(self, message: Message, request: Execute) -> None:
        started = _now()
        count = self._take_count(request)
        self._announce(message, request, count)
        self._tell_notice(message, request)
        content, extra = await self._answer(message, request, count)
        status = content.status if isinstance(content, ExecuteReply) else "error"
        if isinstance(content, ExecuteReply):
            content.execution_count = self.count
        if status == "error" and request.stop_on_error and not request.silent:
            self.abort_waiting()  # before the reply: what is sent in answer to it is to run
        self._reply(message, content, self._recorded(extra) | _stamp(status) | {"started": started})
        if request.counts:
            self._remember(count, request.code)

    def _recorded(self, extra: dict[str, Any]) -> dict[str, Any]:
        """The reply's metadata with what the guest stood behind: a part of every run's record."""
        standing = identity.standing(self._settings.level, self._guest.walls, self._guest.missing)
        if not standing:
            return extra
        return extra | {"kernel_runtime": extra.get("kernel_runtime", {}) | {"standing": standing}}

    async def _answer(self, message: Message, request: Execute, count: int) -> tuple[Content, dict[str, Any]]:
        """By the front's own magics, if it is nothing else, or by the guest."""
        calls = bench.MAGICS.recognise(request.code)
        if calls is not None:
            return await self._perform(calls, message, request, count)
        try:
            relay = self._relay(message, request, count)
            await self._advise(message, request)
        except KernelRuntimeError as error:
            return self._show(message, request, verdicts.trouble_from(error)), {}
        sink: Sink = relay
        if request.counts:
            sink = Recorder(self.records.begin(count, request.code), relay)
        number = count if request.counts else 0
        return await self._run(relay, request, lambda: self._submit(message, sink, number))

    async def _perform(
        self, calls: list[front_magics.Call], message: Message, request: Execute, count: int
    ) -> tuple[Content, dict[str, Any]]:
        """One line after the other, until one fails."""

        def run_on(submit: Callable[[Sink], Awaitable[Verdict | None]]) -> bench.Running:
            relay = self._relay(message, request, count)
            return self._run(relay, request, lambda: submit(relay))

        async def panel(name: str) -> dict[str, Any]:
            return await self._panels.open(name, message.raw)

        work = bench.Bench(self._guest.ready, self.records, run_on, panel)
        try:
            for call in calls:
                bundle = await front_magics.perform(work, call)
                if bundle is not None and not request.silent:
                    shown = {"data": bundle, "metadata": {}, "transient": {}}
                    self._desk.publish("display_data", shown, message.raw)
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            return self._show(message, request, INTERRUPTED), {}
        except (KernelRuntimeError, OSError, TimeoutError) as error:
            return self._show(message, request, verdicts.trouble_from(error)), {}
        return work.content or ExecuteReply(status="ok", execution_count=count), work.extra

    def _take_count(self, request: Execute) -> int:
        if request.counts:
            self.count += 1
            return self.count
        return self.count + 1

    def _announce(self, message: Message, request: Execute, count: int) -> None:
        if not request.silent:
            content = {"code": request.code, "execution_count": count}
            self._desk.publish("execute_input", content, message.raw)

    def _tell_notice(self, message: Message, request: Execute) -> None:
        """What has waited for a cell to be told with."""
        if self.notice and not request.silent:
            text = f"[kernel_runtime: {self.notice}]\n"
            self._desk.publish("stream", {"name": "stderr", "text": text}, message.raw)
            self.notice = ""

    async def _advise(self, message: Message, request: Execute) -> None:
        """Say what the check finds, before the cell runs; ``CheckRefused`` when it is not to run."""
        settings = self._settings
        if settings.error or not (settings.check or settings.policy or settings.level is Level.STRICT):
            return
        if self._advice is None:
            from kernel_runtime.jupyter.advice import advice_for  # not where nothing is checked

            self._advice = advice_for(settings.check, settings.policy, settings.level)
        if len(request.code) < READ_AT_ONCE:
            bundle = self._advice.judge(request.code)
        else:
            bundle = await asyncio.to_thread(self._advice.judge, request.code)
        if bundle and not request.silent:
            content = {"data": bundle, "metadata": {}, "transient": {}}
            self._desk.publish("display_data", content, message.raw)

    def _relay(self, message: Message, request: Execute, count: int) -> Relay:
        """The relay, with the cell's own output limit when its metadata asks for less."""
        output = 0
        source = cell_source(message.metadata)
        if source is not None:
            own = _copy(self._settings)
            tighten(own, source)
            output = own.limits.output
        return Relay(self._desk, message, count=count, allow_stdin=request.allow_stdin, output=output)

    async def _run(
        self, relay: Relay, request: Execute, submit: Callable[[], Awaitable[Verdict | None]]
    ) -> tuple[Content, dict[str, Any]]:
        """Run the cell in the guest → reply and extra metadata, whatever becomes of it."""
        message = relay.message
        try:
            verdict = await submit()
            if relay.captured:
                await asyncio.sleep(CAPTURED_SECONDS)
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            return self._show(message, request, INTERRUPTED), {}
        except (KernelRuntimeError, OSError) as error:
            extra = verdicts.metadata_of(getattr(error, "verdict", None), [])
            return self._show(message, request, verdicts.trouble_from(error)), extra
        finally:
            relay.finish()
        self.strays.remember(relay)
        if verdict is not None and verdict.raised and isinstance(relay.reply, ExecuteReply):
            return relay.reply, verdicts.metadata_of(verdict, relay.denied)
        if verdict is not None:
            return self._ended(relay, message, request, verdict), verdicts.metadata_of(verdict, relay.denied)
        if isinstance(relay.reply, ExecuteReply):
            return relay.reply, verdicts.metadata_of(None, relay.denied)
        lost = verdicts.trouble(
            "ProtocolViolation", "the guest said that the cell is done, but sent no reply", []
        )
        return self._show(message, request, lost), {}

    async def _submit(self, message: Message, sink: Sink, count: int) -> Verdict | None:
        session = await self._guest.ready()
        if count:
            session.execution_count = count
        return await session.submit(request_of(message, count), sink)

    def _ended(self, relay: Relay, message: Message, request: Execute, verdict: Verdict) -> ExecuteReply:
        """The cell's error when a limit or the guest itself ended it."""
        self._desk.sources.logs.record("error", verdict.tell(), self.count, source="host")
        if not verdict.survived:
            self._desk.guest_died()
        lines = relay.reply.traceback if isinstance(relay.reply, ExecuteReply) else None
        return self._show(message, request, verdicts.trouble_of(verdict), lines or None)

    def _show(
        self, message: Message, request: Execute, trouble: Trouble, lines: list[str] | None = None
    ) -> ExecuteReply:
        """Publish an error output of the front's own and make the reply that belongs to it."""
        if not request.silent:
            self._desk.publish("error", trouble, message.raw)
        return ExecuteReply(
            status="error",
            execution_count=self.count,
            ename=trouble.ename,
            evalue=trouble.evalue,
            traceback=[*(lines or []), *trouble.traceback],
        )

    def _remember(self, count: int, code: str) -> None:
        """Into the history, written when the kernel has been quiet for a moment."""
        self._history.add(count, code)
        if self._write_later is not None:
            self._write_later.cancel()
        self._write_later = asyncio.get_running_loop().call_later(HISTORY_SECONDS, self._history.write)

    # -- questions about code --------------------------------------------------------------------

    async def _ask(self, message: Message) -> None:
        """complete, inspect, is_complete: relayed; the front's own magics are merged in."""
        relay = Relay(self._desk, message)
        try:
            verdict = await self._submit(message, relay, 0)
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            self._reply(message, Fault(ename="KeyboardInterrupt"), {})
            return
        except (KernelRuntimeError, OSError) as error:
            self._reply(message, Fault(ename=type(error).__name__, evalue=str(error)), {})
            return
        finally:
            relay.finish()
        if verdict is not None and not verdict.survived:
            self._desk.guest_died()
        reply = relay.reply
        if isinstance(reply, CompleteReply):
            bench.merge_completions(reply, read(message, Cursor), self._guest.session)
        reply = reply or Fault(ename="GuestLost", evalue=verdict.explain() if verdict else "no reply came")
        self._reply(message, reply, {})


INTERRUPTED = verdicts.trouble("KeyboardInterrupt", "interrupted while waiting for the guest", [])


def _execute_reply(status: str, count: int) -> dict[str, Any]:
    return {"status": status, "execution_count": count, "user_expressions": {}, "payload": []}


def _stamp(status: str) -> dict[str, Any]:
    """Metadata every execute_reply carries, as ipykernel's."""
    return {"started": _now(), "dependencies_met": True, "status": status}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _copy(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, origins=dict(settings.origins), notes=[])
