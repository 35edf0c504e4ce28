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
    ready = getattr(loop, "_ready", None)
    if ready:
        _step(task, loop, ready)
    return task


def _step(task: asyncio.Task[None], loop: asyncio.AbstractEventLoop, ready: Any) -> None:
    """Take the step that has just been put in line: asyncio of 3.11, which does not change any more, begins none at once.
    Of another loop, and behind what another thread has put in line meanwhile, it is taken in its turn."""
    handle = ready.pop()
    if getattr(handle._callback, "__self__", None) is not task:
        ready.append(handle)
        return
    outer = asyncio.current_task(loop)
    if outer is not None:  # see "Extending" in asyncio's documentation
        asyncio.tasks._leave_task(loop, outer)
    try:
        handle._run()
    finally:
        if outer is not None:
            asyncio.tasks._enter_task(loop, outer)
