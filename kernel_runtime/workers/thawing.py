"""A frozen branch becomes the live one: it has answered, with the token that only it was given."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import GuestLost, ProtocolViolation
from kernel_runtime.workers import causes

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Iterator

    from kernel_runtime.workers.branch import Branch
    from kernel_runtime.workers.frozen import Frozen
    from kernel_runtime.workers.restoration import How

THAW_SECONDS = 10.0


@contextmanager
def becoming(new: Branch) -> Iterator[None]:
    """While ``new`` is to become a branch: closes it, and raises what prevents that."""
    try:
        yield
    except BaseException as error:
        new.close()
        if isinstance(error, asyncio.CancelledError) and new.ready.cancelled():
            raise GuestLost(
                causes.ended("the snapshot could not become live (it needs two processes)")
            ) from None
        raise


async def thaw(frozen: Frozen, new: Branch, how: How, leaving: Future[Any] | None = None) -> None:
    """Until ``new`` has answered, a copy stays frozen, and ``leaving`` is over; closes ``new`` and raises what
    prevents it."""
    with becoming(new):
        token = await frozen.thaw(new, reseed=how.reseed, edits=how.edits)
        async with asyncio.timeout(THAW_SECONDS):
            await asyncio.shield(new.ready)
            await frozen.wait()
        if new.token != token or new.pid != frozen.thawing:
            raise ProtocolViolation("the thawed branch did not repeat its token, or its pid")
        if leaving is not None:
            await asyncio.wait([leaving])
