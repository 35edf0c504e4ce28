"""The host's side of a zygote: launch it, have it fork guests, notice when it is gone."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import ProtocolViolation, WallUnavailable, ZygoteLost
from kernel_runtime.sandbox.rungs import FIX_ANY, FIXES
from kernel_runtime.workers.launch import end, remove_cache
from kernel_runtime.workers.link import Link

if TYPE_CHECKING:
    from kernel_runtime.sandbox.plan import GuestPlan
    from kernel_runtime.workers.launch import Launch

_ANSWER_SECONDS = 10.0


class Zygote:
    """A running zygote; ``booted`` is set when it takes spawns, ``lost`` when it is gone."""

    def __init__(self, launch: Launch) -> None:
        self.image = launch.image
        self.pid = launch.pid
        self.lost: ZygoteLost | WallUnavailable | None = None
        self.preloaded: list[str] | None = None
        self._booted = asyncio.get_running_loop().create_future()
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._count = 0
        self._link = Link(
            launch.socket, wire.decode_from_zygote, self._on_frame, self._on_closed, takes_fds=True
        )

    @property
    def alive(self) -> bool:
        return self.lost is None

    async def booted(self) -> None:
        """Wait until the zygote stands; ``WallUnavailable`` or ``ZygoteLost`` when it cannot."""
        await asyncio.shield(self._booted)

    async def spawn(self, plan: GuestPlan, fds: list[int]) -> int:
        """Fork a session's first process; its pidfd. ``fds``: as ``wire.Spawn`` says."""
        if self.lost is not None:
            raise self.lost
        self._count += 1
        waiting = self._waiting[self._count] = asyncio.get_running_loop().create_future()
        self._link.send(wire.Spawn(id=self._count, plan=msgspec.msgpack.encode(plan)), fds)
        try:
            return await asyncio.wait_for(waiting, _ANSWER_SECONDS)
        except TimeoutError:
            self._on_closed(None)
            raise ZygoteLost(
                "the zygote did not answer for 10 s; a new one is started for the next guest"
            ) from None

    def _on_frame(self, frame: wire.FromZygote) -> None:
        if isinstance(frame, wire.Booted):
            self.preloaded = frame.preloaded
            if not self._booted.done():
                self._booted.set_result(None)
        elif isinstance(frame, wire.Spawned):
            waiting = self._waiting.pop(frame.id, None)
            pidfd = self._link.fds.popleft()
            if waiting is None or waiting.done():
                os.close(pidfd)
            else:
                waiting.set_result(pidfd)
        else:
            self._refused(frame)

    def _refused(self, frame: wire.Refused) -> None:
        fix = FIXES.get("zygote" if frame.wall == "user" else frame.wall, FIX_ANY)
        error = WallUnavailable(frame.wall, frame.error, fix)
        if frame.id == -1:
            self._fail(error)
        elif (waiting := self._waiting.pop(frame.id, None)) and not waiting.done():
            waiting.set_exception(error)

    def _on_closed(self, error: ProtocolViolation | None) -> None:
        end(self.pid)
        remove_cache(self.image)
        detail = f" ({error})" if error else ""
        self._fail(ZygoteLost(f"the zygote ended{detail}; a new one is started for the next guest"))

    def _fail(self, error: ZygoteLost | WallUnavailable) -> None:
        self.lost = self.lost or error
        for waiting in (self._booted, *self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(error)
        if self._booted.exception():  # it may never be awaited
            pass
        self._waiting.clear()
        self.close()

    def close(self) -> None:
        """End the zygote and, with its pid namespace, every guest of it."""
        if not self._link.closed:
            self._link.close()
            end(self.pid)
            remove_cache(self.image)
