"""A snapshot of a branch in which nothing was done yet: pid 1 can fork it at any time, so no process keeps it."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import GuestLost
from kernel_runtime.guest import files
from kernel_runtime.sandbox.pages import are_huge_allowed
from kernel_runtime.workers import causes
from kernel_runtime.workers.egress import PROXIED
from kernel_runtime.workers.thawing import THAW_SECONDS, becoming

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncIterator

    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.freezing import Freezing, Live
    from kernel_runtime.workers.frozen import Frozen
    from kernel_runtime.workers.init import Init
    from kernel_runtime.workers.restoration import How
    from kernel_runtime.workers.terms import Terms

_SEED_BYTES = 32


def new_seed() -> bytes:
    """What a branch's random generators begin with."""
    return os.urandom(_SEED_BYTES)


def beginning(terms: Terms, init: Init, execution_count: int) -> wire.Begin:
    """What a live branch of a session under these terms is told when it begins; who forks it says its number."""
    return wire.Begin(
        branch=0,
        cwd=terms.cwd if terms.workdir or not init.scratch else init.scratch,
        env=terms.env | init.places | (PROXIED if init.has_egress else {}),
        limits=terms.limits,
        level=terms.level,
        execution_count=execution_count,
        arguments=terms.arguments,
        blocked=terms.blocked,
        huge_pages=are_huge_allowed(),
        summed=not init.meter.counts_memory,
        seed=new_seed(),
        shown_by=terms.shown_by,
    )


class Pristine:
    """``begin``: how its branch began. While pid 1 forks it once more, all else of the guest stands still: what was
    run since reaches it neither by signals nor through its memory."""

    def __init__(self, live: Live, init: Init, begin: wire.Begin) -> None:
        self._live = live
        self._init = init
        self._begin = begin
        self._dated = files.now()

    @property
    def gone(self) -> bool:
        """Whether nobody can fork it any more."""
        return self._init.closed

    async def goes_on(self) -> bool:
        """See ``Frozen``."""
        return not self.gone

    def thawed(self) -> int:
        """See ``Source``: pid 1 has forked it."""
        return 0

    async def bring(self, new: Branch, how: How, leaving: Future[Any] | None = None) -> None:
        """Have it as ``new``, after ``leaving``. Everything else stands still from then on, until it is ended;
        raises what prevents it, and then it goes on."""
        begin = msgspec.structs.replace(self._begin, seed=new_seed()) if how.reseed else self._begin
        try:
            await self._forked(new, begin, leaving)
        except BaseException:
            self._go_on()
            raise

    @asynccontextmanager
    async def frozen(self, freezing: Freezing) -> AsyncIterator[Frozen]:
        """A frozen copy of it, for a while."""
        frozen = await self._frozen(freezing)
        try:
            yield frozen
        finally:
            frozen.drop()

    async def _frozen(self, freezing: Freezing) -> Frozen:
        self._live.resume()
        branch = self._live.next_branch()
        with self._init.meter.room():
            try:
                await self._forked(branch, self._begin)
                order = freezing.order(branch, dated=self._dated)
                await order.made()
                return order.frozen
            finally:
                branch.close()  # it ends when it sees that
                self._go_on()

    async def _forked(self, new: Branch, begin: wire.Begin, leaving: Future[Any] | None = None) -> None:
        with becoming(new):
            await self._ordered(new, begin, leaving)
            async with asyncio.timeout(THAW_SECONDS):
                await asyncio.shield(new.ready)
            if new.link.closed:
                raise GuestLost(causes.ended("it ended while starting"))

    async def _ordered(self, new: Branch, begin: wire.Begin, leaving: Future[Any] | None) -> None:
        try:
            if leaving is not None:
                await asyncio.wait([leaving])
            await self._init.pause()
            self._init.fork(new, begin, beside=True)
        except BaseException as error:
            new.let_go()
            if isinstance(error, OSError):
                raise GuestLost(causes.ended(f"pid 1 does not take what it is sent ({error})")) from None
            raise

    def _go_on(self) -> None:
        if not self._live.paused:
            self._init.resume()
