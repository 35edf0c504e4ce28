"""Waiting for a state that others write just now, without holding the loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from kernel_runtime.domain.errors import StorageFailed

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
#: Seconds that are waited, and between two attempts.
PATIENCE, AGAIN = 5.0, 0.02


async def patiently(work: Callable[[], T], patience: float = PATIENCE) -> T:
    """What ``work`` gives, tried until it does; ``StorageFailed`` when it took too long."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return work()
        except StorageFailed:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(AGAIN)
