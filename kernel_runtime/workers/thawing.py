"""A process becomes a branch beside the one that goes on: until it has answered, or will not."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import GuestLost
from kernel_runtime.workers import causes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.workers.branch import Branch

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
