"""The runtimes behind the sessions of this process: one for each loop and directory."""

from __future__ import annotations

import asyncio
import threading

import msgspec

from kernel_runtime.runtime import Runtime, default_settings

_runtimes: dict[tuple[int, str | None], Runtime] = {}
_runtimes_lock = threading.Lock()


def runtime_for(workdir: str | None) -> Runtime:
    """The runtime of this loop for a directory: sessions of one directory share a zygote."""
    settings = (
        default_settings(workdir)
        if workdir is not None
        else msgspec.structs.replace(default_settings(), workdir=None)
    )
    key = (id(asyncio.get_running_loop()), settings.workdir)
    with _runtimes_lock:
        if key not in _runtimes:
            _runtimes[key] = Runtime(settings)
        return _runtimes[key]


async def close_runtimes() -> None:
    """End those of this loop, with their guests."""
    own = id(asyncio.get_running_loop())
    for key in [key for key in _runtimes if key[0] == own]:
        await _runtimes.pop(key).close()
