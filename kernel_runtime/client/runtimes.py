"""The runtimes behind the sessions of this process: one for each loop and directory.

They end with their loop. ``asyncio.run`` finishes the asynchronous generators that are still open before it closes its
loop, and one of these holds them: a program that calls it again and again keeps no zygotes of the last times.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.runtime import Runtime, default_settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_runtimes: dict[tuple[int, str | None], Runtime] = {}
_holders: dict[int, AsyncGenerator[None, None]] = {}
_runtimes_lock = threading.Lock()


def runtime_for(workdir: str | None) -> Runtime:
    """The runtime of this loop for a directory: sessions of one directory share a zygote."""
    settings = (
        default_settings(workdir)
        if workdir is not None
        else msgspec.structs.replace(default_settings(), workdir=None)
    )
    loop = id(asyncio.get_running_loop())
    key = (loop, settings.workdir)
    with _runtimes_lock:
        if loop not in _holders:
            _holders[loop] = _held()
        if key not in _runtimes:
            _runtimes[key] = Runtime(settings)
        return _runtimes[key]


def _held() -> AsyncGenerator[None, None]:
    """Begun at once: the loop knows of generators that have."""

    async def holder() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await close_runtimes()

    held = holder()
    with contextlib.suppress(StopIteration):  # it has come to its ``yield``
        held.__anext__().send(None)
    return held


async def close_runtimes() -> None:
    """End those of this loop, with their guests."""
    own = id(asyncio.get_running_loop())
    _holders.pop(own, None)
    with _runtimes_lock:  # it may be called once more while these are ending
        ended = [_runtimes.pop(key) for key in [*_runtimes] if key[0] == own]
    for runtime in ended:
        await runtime.close()
