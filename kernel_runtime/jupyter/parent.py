"""The launcher's death ends the kernel: no orphans."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

POLL_SECONDS = 1.0


def watch(loop: asyncio.AbstractEventLoop, environment: Mapping[str, str], gone: Callable[[], None]) -> None:
    """Call ``gone`` when the launcher named by ``JPY_PARENT_PID`` has ended.

    Without that variable (``jupyter kernel``, debugging by hand) nothing is watched. A pidfd
    tells at once; without one, the parent's id is compared each second.
    """
    named = environment.get("JPY_PARENT_PID", "")
    if not named.isdigit() or int(named) <= 1:
        return
    parent = os.getppid()
    if parent == 1 or not _alive(int(named)):
        loop.call_soon(gone)
        return
    try:
        descriptor = os.pidfd_open(parent)
    except (AttributeError, OSError):
        _poll(loop, parent, gone)
        return
    if os.getppid() != parent or select.select([descriptor], [], [], 0)[0]:
        loop.call_soon(gone)
        return

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        gone()

    loop.add_reader(descriptor, ended)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _poll(loop: asyncio.AbstractEventLoop, parent: int, gone: Callable[[], None]) -> None:
    if os.getppid() != parent:
        gone()
        return
    loop.call_later(POLL_SECONDS, _poll, loop, parent, gone)
