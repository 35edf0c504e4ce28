"""Holds one session's limits over its cells: warns, interrupts first, kills what goes on."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.domain.usage import Nearly, nearly
from kernel_runtime.domain.verdict import REASON_OF, Reason, Verdict
from kernel_runtime.sandbox.plan import file_size
from kernel_runtime.workers.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.workers.account import Account
    from kernel_runtime.workers.branch import Branch, Pending
    from kernel_runtime.workers.meter import Meter
    from kernel_runtime.workers.pressure import Pressure

#: How long a cell may go on after a limit has interrupted it, before it is killed.
LIMIT_GRACE = 1.0
#: What stands in the evidence where there was no error number.
_WORDS = {"memory": "MemoryError", "pids": "no new thread"}
#: Limits that a guest may say it has met; the host adds what it sees of them.
_MET_INSIDE = frozenset({"memory", "disk", "inodes", "file_size", "open_files", "pids"})


class Limiter:
    """``interrupt`` and ``kill`` are the session's; ``end_floods``: a flood ends its cell;
    ``notices``: warnings are also a line on the cell's stderr.
    """

    def __init__(
        self,
        account: Account,
        interrupt: Callable[[Branch], None],
        kill: Callable[[Branch, Pending, Verdict], None],
        *,
        end_floods: bool,
        notices: bool,
    ) -> None:
        self._account = account
        self._limits = account.limits
        self._interrupt = interrupt
        self._kill = kill
        self._end_floods = end_floods
        self._notices = notices
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_warning: Callable[[Nearly], None] = _warn_nobody

    def close(self) -> None:
        """The session is closed: let go of it."""
        for task in self._tasks:
            task.cancel()
        self._interrupt = self._kill = _leave
        self.on_warning = _warn_nobody

    # -- a cell --------------------------------------------------------------------------------

    async def watch(
        self, meter: Meter, branch: Branch, pending: Pending, pressure: Pressure | None = None
    ) -> None:
        """Hold the CPU and wall limit of one cell, from now until it is over."""
        pending.kills, pending.refusals = meter.kills_told, self._account.refusals
        meter.begin_cell()
        watch = Watch(
            meter, lambda w: self._warn(pending, w), lambda text: self._note(pending, text), pressure
        )
        await self._exceed(branch, pending, await watch.exceeded())

    async def _exceed(self, branch: Branch, pending: Pending, verdict: Verdict) -> None:
        if pending.cause is not None:
            return
        pending.cause = msgspec.structs.replace(verdict, survived=True)
        self._interrupt(branch)
        await asyncio.sleep(LIMIT_GRACE)
        self._kill(branch, pending, verdict)

    def _warn(self, pending: Pending, warning: Nearly) -> None:
        self.on_warning(warning)
        if self._notices:
            self._note(pending, warning.explain())

    def _note(self, pending: Pending, text: str) -> None:
        if not pending.ended.done():
            pending.sink(wire.Stream(parent=pending.id, name="stderr", text=f"[kernel_runtime: {text}]\n"))

    # -- output --------------------------------------------------------------------------------

    def on_output(self, branch: Branch, pending: Pending) -> None:
        """A running cell sent output: warn, and end it where the policy says so."""
        limit, used = self._limits.output, self._account.output
        if not pending.warned and (warning := nearly("output", used, limit)):
            pending.warned = True
            self._warn(pending, warning)
        if used > limit and self._end_floods:
            self._end_flood(branch, pending, "output", limit, used)

    def on_cut(self, branch: Branch, pending: Pending | None) -> None:
        """Messages come faster than their limit and are being left out."""
        limit = self._limits.messages or 0
        if pending is None:
            return
        if self._end_floods:
            self._end_flood(branch, pending, "messages", limit, self._account.message_rate())
        else:
            self._note(pending, f"more than {limit} messages per second: some are left out")

    def _end_flood(self, branch: Branch, pending: Pending, name: str, limit: int, used: float) -> None:
        if pending.cause is not None or pending.ended.done():
            return
        evidence = "counted by the host; a flood is to end its cell"
        verdict = Verdict(
            reason=Reason.OUTPUT,
            amount="" if name == "output" else name,
            limit=limit,
            used=max(used, limit),
            evidence=evidence,
        )
        task = asyncio.get_running_loop().create_task(self._exceed(branch, pending, verdict))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- limits that code meets inside ---------------------------------------------------------

    def on_limited(self, meter: Meter, frame: wire.Limited) -> Verdict | None:
        """The verdict for a limit that a cell met as an exception, with what the host sees of it;
        None where the host sees that it is not so (EAGAIN has other reasons, too).
        """
        if frame.name not in _MET_INSIDE:
            raise ProtocolViolation(f"no limit {frame.name!r} is met inside")
        if frame.name == "pids" and not meter.forks_were_denied():
            return None
        limit, used, seen = self._seen(meter, frame.name)
        code = errno.errorcode.get(frame.errno, "")
        word = f"{code} ({os.strerror(frame.errno)})" if code else _WORDS.get(frame.name, "an exception")
        return Verdict(
            reason=REASON_OF[frame.name],
            amount="" if frame.name == REASON_OF[frame.name] else frame.name,
            limit=limit,
            used=used,
            evidence=f"{word} in the cell; {seen}",
            survived=True,
        )

    def _seen(self, meter: Meter, name: str) -> tuple[float | None, float | None, str]:
        limit = getattr(self._limits, name)
        if name == "pids":
            return limit, limit, "the host counted its processes and threads"
        if name == "memory":
            used = meter.memory(meter.look())
            return limit, used, f"it uses {used} bytes now"
        if name == "open_files":
            return limit, None, "by its own words"
        if name == "file_size":
            return file_size(self._limits), None, "by its own words"
        layer = meter.processes.layer()
        if layer is None:
            return limit, None, "by its own words"
        if name == "inodes":
            return limit, layer.inodes, f"its layer holds {layer.inodes} of {layer.most_inodes} inodes now"
        return layer.size, layer.used, f"its layer holds {layer.used} of {layer.size} bytes now"

    def killed_inside(self, meter: Meter, kills: int) -> Verdict | None:
        """The kernel killed processes of a cell that then failed: that is why it did."""
        verdict = meter.out_of_memory(since=kills)
        return verdict and msgspec.structs.replace(verdict, survived=True)

    def stopped_outside(self, refusals: int) -> Verdict | None:
        """What the cell wanted moved over the network was not, and then it failed."""
        return self._account.network_met if self._account.refusals > refusals else None


def _warn_nobody(_: Nearly) -> None:
    """Nobody asked."""


def _leave(*_: object) -> None:
    """What was to be interrupted or killed is gone."""
