"""Work that begins where it is made: what never waits is over without a turn of the loop, and without a task of its own."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Generator

    Work = Coroutine[Any, Any, None]


class Starter:
    """Begins one work after another, in the loop that it is made in. Python 3.11 has no eager tasks: there first steps
    are taken in the name of a task that is kept for it, and goes on with the first work that is not over with that."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._part = _Part(self._loop)

    def begun(self, work: Work) -> asyncio.Task[None] | None:
        """Take its first step; the task that goes on, if that was not all."""
        if sys.version_info >= (3, 12):
            eager = asyncio.Task(work, loop=self._loop, eager_start=True)
            return None if eager.done() else eager
        task, part, going = self._task, self._part, None
        if task is None or not part.waits:
            going = self._loop.create_task(work)
        elif part.begins(task, work):
            going = task
        if task is None or task.done() or part.handed.done():
            self._part = _Part(self._loop)
            self._task = self._loop.create_task(self._part.play())
        return going

    def close(self) -> None:
        """Nothing more is begun."""
        if self._task is not None:
            self._task.cancel()


class _Part:
    """What the task does that is kept. Errors refer to frames, and frames to what they hold: those here that an error
    refers to hold neither the task nor an error nor what is awaited, which would wait for the collector of cycles."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.handed = loop.create_future()
        self.waits = False
        self._rest: list[Awaitable[None]] = []

    def begins(self, task: asyncio.Task[None], work: Work) -> bool:
        """Take its first step in the name of ``task``; whether that is to go on with it."""
        self.waits = False
        context = contextvars.copy_context()
        outer = asyncio.current_task(self._loop)
        if outer is not None:  # see "Extending" in asyncio's documentation
            asyncio.tasks._leave_task(self._loop, outer)
        asyncio.tasks._enter_task(self._loop, task)
        try:
            awaited = context.run(work.send, None)
        except StopIteration:
            self.waits = not self.handed.done()
            return False
        except BaseException as error:  # noqa: BLE001 - as of any task
            within = error.__traceback__ and error.__traceback__.tb_next
            self._rest.append(_failed(error.with_traceback(within)))
        else:
            self._rest.append(_following(context, work, [awaited]))
        finally:
            asyncio.tasks._leave_task(self._loop, task)
            if outer is not None:
                asyncio.tasks._enter_task(self._loop, outer)
        if not self.handed.done():
            self.handed.set_result(None)
        return True

    async def play(self) -> None:
        """Wait for work, and do what is left of it."""
        self.waits = True
        try:
            await self.handed
        except asyncio.CancelledError as error:
            if not self._rest:
                raise
            _cancel_again(error)  # what the work awaits is to hear of it
        await self._rest.pop()


def _cancel_again(error: asyncio.CancelledError) -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
        task.cancel(*error.args)


async def _failed(error: BaseException) -> None:
    try:
        raise error
    finally:
        del error


@types.coroutine
def _following(context: contextvars.Context, work: Work, awaited: list[Any]) -> Generator[Any, Any, None]:
    """What comes behind the first step, in the work's own context."""
    while True:
        try:
            try:
                yield awaited.pop()
            except BaseException as error:  # noqa: BLE001 - whatever is thrown at a task is for its work
                awaited.append(context.run(work.throw, error))
            else:
                awaited.append(context.run(work.send, None))
        except StopIteration:
            return
