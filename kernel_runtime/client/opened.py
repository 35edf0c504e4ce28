"""An open guest of a program's, and what is collected of the code that runs in it."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import UNDO, Conflict, GuestCodeError
from kernel_runtime.domain.records import Records
from kernel_runtime.result import Collector, Output, Result
from kernel_runtime.workers.cancelled import being_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.workers import session as sessions
    from kernel_runtime.workers.branch import Sink

_request_numbers = itertools.count(1)


class Opened:
    """What every part of ``AsyncSession`` works with. ``records``: what its runs were and have shown, for ``replay``."""

    limits: Limits

    def __init__(self) -> None:
        self.records = Records()
        self._session: sessions.Session | None = None

    @property
    def _open(self) -> sessions.Session:
        if self._session is None:
            raise Conflict("the session is not open; use it in a `with` block or call open()")
        return self._session

    def interrupt(self) -> None:
        """KeyboardInterrupt in the code that runs now."""
        self._open.interrupt()

    async def follow(
        self,
        begin: Callable[[Sink], Awaitable[Verdict | None]],
        *,
        check: bool = True,
        on_output: Callable[[Output], None] | None = None,
        on_input: Callable[[str, bool], str | None] | None = None,
    ) -> Result:
        """What ``begin(sink)`` leaves behind: code that runs in the guest and whose frames go to the sink, as for ``run``."""
        collector = Collector(self._open.answer, self.limits.output, on_output, on_input)
        begun = time.monotonic()
        verdict = None
        try:
            verdict = await begin(collector.take)
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            collector.result.error = GuestCodeError("KeyboardInterrupt", "interrupted before it began")
        finally:
            collector.end()
        result = collector.result
        result.verdict = verdict
        if result.error is not None and verdict is not None and verdict.raised:
            result.error.verdict = verdict
            if verdict.undoable:
                result.error.add_note(UNDO)
        result.seconds = time.monotonic() - begun
        return result.check() if check else result


def execute_request(code: str, count: int = 0, *, allow_stdin: bool = False) -> wire.Request:
    """Code to be run as a cell; ``count``: its number, 0: it is none that counts."""
    content = {
        "code": code,
        "silent": not count,
        "store_history": bool(count),
        "user_expressions": {},
        "allow_stdin": allow_stdin,
        "stop_on_error": True,
    }
    number = next(_request_numbers)
    return wire.Request(
        id=f"run-{number}", kind="execute_request", content=msgspec.json.encode(content), count=count
    )
