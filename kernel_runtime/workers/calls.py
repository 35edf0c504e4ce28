"""Calls of capabilities on their way: from a branch's frames to the broker, and the answers back.

The branch is hostile: each call has a higher number than all before it, and what is in flight is bounded in number and in
bytes. What exceeds that is answered with an error; nothing waits in line. Errors are told without the host's paths:
whole they are said here, on stderr, each once. Arguments of many values are weighed in steps,
between which others have as long; until that is done, nothing more is taken from the branch.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.domain import packed
from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.errors import Conflict, KernelRuntimeError, ProtocolViolation
from kernel_runtime.domain.untold import without_paths
from kernel_runtime.workers.cancelled import being_cancelled
from kernel_runtime.workers.eager import Starter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping

    from kernel_runtime.ports import Answer, Broker
    from kernel_runtime.workers.link import Link

#: Calls of one branch that may be in flight, and bytes that their arguments take in memory.
MAX_IN_FLIGHT, MAX_BYTES = 1024, 64 * MIB
#: A frame with a descriptor beside it is sent whole or not at all.
_MAX_BESIDE = 8 * 1024
_ROOM_SECONDS = 0.005
_MAX_TEXT = 4000
#: Errors of one branch that are said on the host, too.
_MOST_SAID = 100


class Calls:
    """The calls of one branch. ``broker``: gives the session's, made when it is first needed."""

    def __init__(self, link: Link, broker: Callable[[], Broker]) -> None:
        self._link = link
        self._broker = broker
        self._last = 0
        self._bytes = 0
        self._chunk = 0
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._weighing: asyncio.TimerHandle | None = None
        self._starter = Starter()
        self._said: set[str] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, frame: wire.Call) -> None:
        """A call has come; ``ProtocolViolation`` for a number that is not higher, and for no plain data."""
        if frame.id <= self._last:
            raise ProtocolViolation(f"call {frame.id} after call {self._last}: numbers only rise")
        self._last = frame.id
        if len(frame.arguments) <= packed.MAX_DEPTH:  # what is short cannot be deep, or much
            self._admit(frame, len(frame.arguments))
        else:
            self._weigh(frame, packed.walked(frame.arguments), held=False)

    def _weigh(self, frame: wire.Call, walk: Generator[None, None, int], *, held: bool) -> None:
        """A step of the way through its arguments; most are through with the first. ``held``: it was not the first."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            next(walk)
        except StopIteration as end:
            if not held:
                self._admit(frame, end.value)
                return
            following = functools.partial(self._admit_held, frame, end.value)
        else:
            following = functools.partial(self._weigh_on, frame, walk)
        if not held:
            if self._weighing is not None:  # its branch has ended, and goes unheard
                return
            self._link.hold()
        self._weighing = loop.call_later(loop.time() - begun, following)

    def _weigh_on(self, frame: wire.Call, walk: Generator[None, None, int]) -> None:
        with self._believing_nothing():
            self._weigh(frame, walk, held=True)

    def _admit_held(self, frame: wire.Call, parts: int) -> None:
        self._weighing = None
        with self._believing_nothing():
            self._admit(frame, parts)
            self._link.go_on()

    @contextlib.contextmanager
    def _believing_nothing(self) -> Iterator[None]:
        """Out of the link's own hands: what it would have made of trouble there."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a frame sets off: its guest must not wait for ever
            self._link.trouble(error)

    def _admit(self, frame: wire.Call, parts: int) -> None:
        """It has so many values: begin it, if there is room."""
        arguments, size = packed.decoded(frame.arguments, parts)
        if not isinstance(arguments, dict) or not set(map(type, arguments)) <= {str}:
            raise ProtocolViolation("a call whose arguments have no names")
        if len(self._tasks) >= MAX_IN_FLIGHT or self._bytes + size > MAX_BYTES:
            self._refuse(frame.id, Conflict(f"{len(self._tasks)} calls are in flight: wait for some of them"))
            return
        task = self._begun(self._perform(frame, arguments))
        if task is None:
            return
        self._bytes += size
        self._tasks[frame.id] = task
        task.add_done_callback(functools.partial(self._ended, frame.id, size))

    def _begun(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Its task, if it is not over. The first call of what has come is begun here, for most are over without
        waiting; what came along takes turns with all else."""
        before, self._chunk = self._chunk, self._link.chunks
        return self._starter.begun(work) if self._chunk != before else asyncio.create_task(work)

    def withdraw(self, number: int) -> None:
        """Nobody waits for it any more; it may have been answered by now."""
        if number > self._last:
            raise ProtocolViolation(f"call {number} was withdrawn before it was made")
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """The branch has gone: stop what it waited for; the link takes no answers any more."""
        if self._weighing is not None:
            self._weighing.cancel()
        self._starter.close()
        for task in self._tasks.values():
            task.cancel()

    def _ended(self, number: int, size: int, _: asyncio.Task[None]) -> None:
        del self._tasks[number]
        self._bytes -= size

    async def _perform(self, frame: wire.Call, arguments: dict[str, Any]) -> None:
        try:
            broker = self._broker()
            answer = await broker.call(frame.capability, frame.action, arguments, frame.parent)
            if answer.descriptors:
                await self._answer_beside(frame.id, answer)
            else:
                self._link.send(wire.Called(id=frame.id, value=packed.pack_answer(answer.value)))
        except KernelRuntimeError as error:
            self._refuse(frame.id, error, arguments)
        except asyncio.CancelledError:
            if not being_cancelled():  # something within was: the guest must not wait for ever
                self._refuse(frame.id, KernelRuntimeError("the host stopped it"))
            raise
        except Exception as error:  # noqa: BLE001 - a fault of the host's: it goes on, and so does the guest
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"a call of {frame.capability} was not answered", "exception": error}
            )
            self._refuse(frame.id, KernelRuntimeError("the host could not answer, by a fault of its own"))

    async def _answer_beside(self, number: int, answer: Answer) -> None:
        """Send it with its descriptor; our copies are closed whatever happens."""
        beside = list(answer.descriptors)
        try:
            value = packed.pack_answer(answer.value)
            if len(beside) > 1 or len(value) > _MAX_BESIDE:
                raise Conflict("the host's handler gave more than fits into one answer")
            await self._send_beside(wire.Called(id=number, value=value, descriptor=True), beside)
        finally:
            for descriptor in beside:
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    async def _send_beside(self, frame: wire.Called, beside: list[int]) -> None:
        while True:
            try:
                self._link.send(frame, beside)
                return
            except BlockingIOError:  # descriptors cannot wait in line
                await asyncio.sleep(_ROOM_SECONDS)
            except OSError as error:
                raise Conflict(f"no descriptor could be passed: {error.strerror}") from None

    def _refuse(
        self, number: int, error: KernelRuntimeError, arguments: Mapping[str, Any] | None = None
    ) -> None:
        kind, whole = type(error).__name__, str(error)[:_MAX_TEXT]
        text = without_paths(whole, (said for said in (arguments or {}).values() if isinstance(said, str)))
        if text != whole and whole not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(whole)
            print(f"kernel_runtime: a guest was told, without the paths: {whole!r}", file=sys.stderr)
        self._link.send(wire.Called(id=number, error=kind, text=text.encode(errors="replace").decode()))
