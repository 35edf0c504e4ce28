"""Requests for the guest, one after the other, as they came: cells and what asks about code.

One execute runs at a time; after an error the cells that were waiting are answered
``aborted``, as ipykernel does. Comm messages do not wait in this line.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import traceback
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.jupyter import bench, identity, limits_magic, verdicts
from kernel_runtime.jupyter.card_place import UnderTheCell
from kernel_runtime.jupyter.contents import CompleteReply, ExecuteReply, Fault
from kernel_runtime.jupyter.messages import MessageError
from kernel_runtime.jupyter.panels.asking import Asking
from kernel_runtime.jupyter.panels.openers import Panels
from kernel_runtime.jupyter.relay import Relay
from kernel_runtime.jupyter.requests import Cursor, Execute, read
from kernel_runtime.jupyter.runner import Runner
from kernel_runtime.workers.cancelled import being_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from kernel_runtime.jupyter.guest import Guest
    from kernel_runtime.jupyter.history import History
    from kernel_runtime.jupyter.messages import Message
    from kernel_runtime.jupyter.relay import Desk
    from kernel_runtime.jupyter.settings import Settings

HISTORY_SECONDS = 0.5
#: How long the first cell waits for what is to be told with it: a disk may hang.
NOTICE_SECONDS = 2.0
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
        self.notices = [settings.warning]
        self.running: Message | None = None
        self._guest = guest
        self._desk = desk
        self._settings = settings
        self._history = history
        self._reply = reply
        self._drain = drain
        self._panels = Panels(desk.stage, guest, desk.sources)
        self._runner = Runner(guest, desk, settings, self._panels)
        self.strays = self._runner.strays
        self._place = UnderTheCell(desk)
        self.person = settings.person.card = Asking(desk.stage, self._place)
        self._line: deque[Message] = deque()
        self._aborted: set[int] = set()
        self._wake = asyncio.Event()
        self._write_later: asyncio.TimerHandle | None = None
        self._heard = asyncio.Event()
        self._heard.set()

    def put(self, message: Message) -> None:
        """Append a request to the line."""
        self._line.append(message)
        self._wake.set()

    async def hear(self, notice: Awaitable[str]) -> None:
        """What the first cell is to tell, when it has come."""
        self._heard.clear()
        try:
            self.notices.append(await notice)
        finally:
            self._heard.set()

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
        count = self._runner.begin(message, request)
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
        count = self._runner.begin(message, request)
        content: Any = _execute_reply("ok", count)
        try:
            bundle = await self._panels.open(name, message.raw)
        except Exception as error:  # noqa: BLE001 - a bug here must not leave a front end waiting
            if not isinstance(error, KernelRuntimeError):
                traceback.print_exc()
            content = self._runner.show(message, request, verdicts.trouble_from(error))
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
        count = self._runner.begin(message, request)
        await self._tell_notices(message, request)
        content, extra = await self._runner.answer(message, request, count)
        status = content.status if isinstance(content, ExecuteReply) else "error"
        if isinstance(content, ExecuteReply):
            content.execution_count = self._runner.count
        if status == "error" and request.stop_on_error and not request.silent:
            self.abort_waiting()  # before the reply: what is sent in answer to it is to run
        self._reply(message, content, self._recorded(extra) | _stamp(status) | {"started": started})
        if request.counts:
            self._remember(count, request.code)

    def _recorded(self, extra: dict[str, Any]) -> dict[str, Any]:
        """The reply's metadata with what the guest stood behind: a part of every run's record."""
        guest = self._guest
        standing = identity.standing(self._settings.level, guest.walls, guest.missing, guest.partial)
        if not standing:
            return extra
        return extra | {"kernel_runtime": extra.get("kernel_runtime", {}) | {"standing": standing}}

    async def _tell_notices(self, message: Message, request: Execute) -> None:
        """What has waited for a cell to be told with."""
        if request.silent:
            return
        with contextlib.suppress(TimeoutError):  # then a later cell tells it
            async with asyncio.timeout(NOTICE_SECONDS):
                await self._heard.wait()
        for notice in filter(None, self.notices):
            self._desk.note(notice, message.raw)
        self.notices.clear()

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
            verdict = await self._runner.submit(message, relay, 0)
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


def _execute_reply(status: str, count: int) -> dict[str, Any]:
    return {"status": status, "execution_count": count, "user_expressions": {}, "payload": []}


def _stamp(status: str) -> dict[str, Any]:
    """Metadata every execute_reply carries, as ipykernel's."""
    return {"started": _now(), "dependencies_met": True, "status": status}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
