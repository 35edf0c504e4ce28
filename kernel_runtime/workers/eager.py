"""Tasks that begin where they are made: what never waits is over without a turn of the loop."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine


def begun(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Its task, which has taken its first step."""
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    task = asyncio.Task(work, loop=loop)
    if asyncio.current_task(loop) is None:
        _step(task, getattr(loop, "_ready", None))
    return task


def _step(task: asyncio.Task[None], ready: Any) -> None:
    """Take the step that has just been put in line: asyncio of 3.11, which does not change any more, begins none at once.
    Of another loop, and behind what another thread has put in line meanwhile, it is taken in its turn."""
    if ready:
        handle = ready.pop()
        if getattr(handle._callback, "__self__", None) is task:  # noqa: SLF001
            handle._run()  # noqa: SLF001
        else:
            ready.append(handle)
