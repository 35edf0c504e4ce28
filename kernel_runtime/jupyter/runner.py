"""One cell: counted, announced, and run to its reply, by the front's own magics or by the guest."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.domain.records import Records
from kernel_runtime.jupyter import bench, front_magics, verdicts
from kernel_runtime.jupyter.contents import Content, ExecuteReply, Trouble
from kernel_runtime.jupyter.relay import Relay, Strays, request_of
from kernel_runtime.jupyter.settings import cell_source, may_be_read, tighten
from kernel_runtime.workers.cancelled import being_cancelled
from kernel_runtime.workers.replay import Recorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.jupyter.advice import Advice
    from kernel_runtime.jupyter.guest import Guest, Sink
    from kernel_runtime.jupyter.messages import Message
    from kernel_runtime.jupyter.panels.openers import Panels
    from kernel_runtime.jupyter.relay import Desk
    from kernel_runtime.jupyter.requests import Execute
    from kernel_runtime.jupyter.settings import Settings

#: A client answers what an output widget captured with comm messages. nbclient sends them beside its event
#: loop, and does not see a reply that arrives at that very moment: it waits until its timeout.
CAPTURED_SECONDS = 0.1
#: Characters of a cell that the check reads in some milliseconds; longer ones are read beside the loop.
READ_AT_ONCE = 4000
INTERRUPTED = verdicts.trouble("KeyboardInterrupt", "interrupted while waiting for the guest", [])


class Runner:
    """Runs the cells that the line gives it, and knows how many there were."""

    def __init__(self, guest: Guest, desk: Desk, settings: Settings, panels: Panels) -> None:
        self.count = 0
        self.strays = Strays(desk)
        self._guest = guest
        self._desk = desk
        self._settings = settings
        self._panels = panels
        self._records = Records()

    def begin(self, message: Message, request: Execute) -> int:
        """Count the cell, if it is one that counts, and publish it with its number."""
        if request.counts:
            self.count += 1
        count = self.count if request.counts else self.count + 1
        if not request.silent:
            content = {"code": request.code, "execution_count": count}
            self._desk.publish("execute_input", content, message.raw)
        return count

    async def answer(self, message: Message, request: Execute, count: int) -> tuple[Content, dict[str, Any]]:
        """By the front's own magics, if it is nothing else, or by the guest."""
        calls = bench.MAGICS.recognise(request.code)
        if calls is not None:
            return await self._perform(calls, message, request, count)
        try:
            relay = self._relay(message, request, count)
            await self._advise(message, request)
        except KernelRuntimeError as error:
            return self.show(message, request, verdicts.trouble_from(error)), {}
        sink: Sink = relay
        if request.counts:
            sink = Recorder(self._records.begin(count, request.code), relay)
        number = count if request.counts else 0
        return await self._run(relay, request, lambda: self.submit(message, sink, number))

    async def _perform(
        self, calls: list[front_magics.Call], message: Message, request: Execute, count: int
    ) -> tuple[Content, dict[str, Any]]:
        """One line after the other, until one fails."""

        def run_on(submit: Callable[[Sink], Awaitable[Verdict | None]]) -> bench.Running:
            relay = self._relay(message, request, count)
            return self._run(relay, request, lambda: submit(relay))

        async def panel(name: str) -> dict[str, Any]:
            return await self._panels.open(name, message.raw)

        work = bench.Bench(self._guest.ready, self._records, run_on, panel, self._guest.waits)
        try:
            for call in calls:
                bundle = await front_magics.perform(work, call)
                if bundle is not None and not request.silent:
                    shown = {"data": bundle, "metadata": {}, "transient": {}}
                    self._desk.publish("display_data", shown, message.raw)
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            return self.show(message, request, INTERRUPTED), {}
        except (KernelRuntimeError, OSError, TimeoutError) as error:
            return self.show(message, request, verdicts.trouble_from(error)), {}
        return work.content or ExecuteReply(status="ok", execution_count=count), work.extra

    @functools.cached_property
    def _advice(self) -> Advice | None:
        """What reads the cells; None where nothing does."""
        settings = self._settings
        if settings.error or not may_be_read(settings, Path.cwd()):
            return None
        from kernel_runtime.jupyter.advice import advice_for  # not where nothing is checked

        return advice_for(settings.check, settings.policy, settings.level)

    async def _advise(self, message: Message, request: Execute) -> None:
        """Say what the check finds, before the cell runs; ``CheckRefused`` when it is not to run."""
        advice = self._advice
        if advice is None:
            return
        if len(request.code) < READ_AT_ONCE:
            bundle = advice.judge(request.code)
        else:
            bundle = await asyncio.to_thread(advice.judge, request.code)
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
            return self.show(message, request, INTERRUPTED), {}
        except (KernelRuntimeError, OSError) as error:
            extra = verdicts.metadata_of(getattr(error, "verdict", None), [])
            return self.show(message, request, verdicts.trouble_from(error)), extra
        finally:
            relay.finish()
        self.strays.remember(relay)
        if verdict is not None and verdict.raised and isinstance(relay.reply, ExecuteReply):
            if not request.silent and (way_back := verdicts.way_back(verdict, "%undo")):
                self._desk.note(f"the variables are as the cell left them.{way_back}", message.raw)
            return relay.reply, verdicts.metadata_of(verdict, relay.denied)
        if verdict is not None:
            return self._ended(relay, message, request, verdict), verdicts.metadata_of(verdict, relay.denied)
        if isinstance(relay.reply, ExecuteReply):
            return relay.reply, verdicts.metadata_of(None, relay.denied)
        lost = verdicts.trouble(
            "ProtocolViolation", "the guest said that the cell is done, but sent no reply", []
        )
        return self.show(message, request, lost), {}

    async def submit(self, message: Message, sink: Sink, count: int) -> Verdict | None:
        """Hand a request to the guest, which is started if need be."""
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
        return self.show(message, request, verdicts.trouble_of(verdict), lines or None)

    def show(
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


def _copy(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, origins=dict(settings.origins), notes=[])
