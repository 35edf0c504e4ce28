"""Threads beside the one that forks: they do not exist in the copy, and what they held never comes free.

Some end by themselves when asked (idle pools of asyncio and OpenMP, the monitor of tqdm's bars), some are known to
come back in a copy; any other makes a copy worthless, and is named.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

#: Named threads that their libraries handle around a fork.
_SAFE_NAMES = frozenset({"jemalloc_bg_thd"})


_UNNAMED = "native threads without a name"
#: How often a thread is looked for whose code has ended, and how long it is left alone each time. It is not the clock
#: that counts: where all stand still for a while, it has had no time to leave.
_LOOKS, _PAUSE = 100, 0.0005
#: How long the monitor of tqdm's bars may take to leave: it waits for their lock, which the code that is copied may hold.
_MONITOR_SECONDS = 1.0
#: How the names of OpenMP's runtimes begin: GNU's, LLVM's, Intel's.
_OPENMP = (b"libgomp", b"libomp", b"libiomp5")


def _arrow(module: Any) -> int:
    return int(module.cpu_count()) + int(module.io_thread_count())


#: Libraries whose idle pools have no names and survive a fork (proven by tests): most threads of each.
_POOLS: dict[str, Callable[[Any], int]] = {"pyarrow": _arrow}
#: Those whose pools have no names and do not survive it: where one is, no unnamed thread is safe.
_FATAL = {"duckdb": "those of duckdb end with SET threads=1 and SET async_threads=0"}
_JOBLIB = "from joblib.externals.loky import get_reusable_executor; get_reusable_executor().shutdown()"
#: Threads that a library names: the module that began them, and what ends them.
_ENDED_BY = {
    "ExecutorManagerThread": ("joblib.externals.loky", f"joblib's workers end with: {_JOBLIB}"),
}


def stop_idle(loop: asyncio.AbstractEventLoop) -> None:
    """End what may be ended without anybody noticing: the loop's own idle executor, OpenMP's pool, tqdm's monitor."""
    _stop_executor(loop)
    with contextlib.suppress(Exception):  # whatever it is that is called tqdm
        _stop_monitors()
    for library in openmp_libraries():
        from kernel_runtime.guest import native

        native.pause_openmp(library)


def _stop_executor(loop: Any) -> None:
    executor = getattr(loop, "_default_executor", None)
    if executor is None:
        return
    idle = executor._idle_semaphore._value >= len(executor._threads)
    if idle and executor._work_queue.empty():
        executor.shutdown(wait=True)
        loop._default_executor = None


def _stop_monitors() -> None:
    """As tqdm itself does: the next bar begins one anew, and open bars lose no more than the refresh that it forces."""
    kind: Any = getattr(sys.modules.get("tqdm.std"), "TMonitor", None)
    for thread in threading.enumerate() if kind else ():
        if isinstance(thread, kind):
            thread.was_killed.set()
            thread.join(_MONITOR_SECONDS)
            thread.tqdm_cls.monitor = None


_openmp: tuple[int, list[str]] = (0, [])


def openmp_libraries() -> list[str]:
    """Paths of the OpenMP runtimes that are loaded; looked for again when modules were imported."""
    global _openmp
    if _openmp[0] != len(sys.modules):
        with open("/proc/self/maps", "rb") as file:
            _openmp = (len(sys.modules), _runtimes(file))
    return _openmp[1]


def _runtimes(maps: Iterable[bytes]) -> list[str]:
    paths = {line.partition(b"/")[2].rstrip(b"\n") for line in maps}
    return [f"/{os.fsdecode(path)}" for path in sorted(paths) if os.path.basename(path).startswith(_OPENMP)]


def unsafe() -> list[str]:
    """The threads that stand in the way, by name; to be asked right after a fork, in the original:
    pools that end themselves for a fork are gone then. A thread whose code has ended is listed for a
    moment longer: one without a name is looked for again.
    """
    found = _found()
    for _ in range(_LOOKS):
        if not found or not found[-1].endswith(_UNNAMED):
            break
        time.sleep(_PAUSE)
        found = _found()
    return found


def may_act(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether there are threads that may do something though nothing is asked for. Pools without names do not: a fork
    ends those of OpenBLAS, and ``unsafe`` tells after it what it did not end."""
    stop_idle(loop)
    return any(not name.endswith(_UNNAMED) for name in _found())


def _found() -> list[str]:
    names = _beside()
    if not names:
        return []
    python = {thread.native_id: thread.name for thread in threading.enumerate()}
    known = [f"Python thread {python[tid]!r}{_advice(python[tid])}" for tid in names if tid in python]
    native = [name for tid, name in names.items() if tid not in python and name not in _SAFE_NAMES]
    return [*known, *_unexplained(native)]


def _advice(thread: str) -> str:
    module, text = _ENDED_BY.get(thread, ("", ""))
    return f" ({text})" if module in sys.modules else ""


def _beside() -> dict[int, str]:
    """Thread id → name, of all but this one."""
    found: dict[int, str] = {}
    own = threading.get_native_id()
    for entry in os.listdir("/proc/self/task"):
        tid = int(entry)
        if tid == own:
            continue
        try:
            with open(f"/proc/self/task/{tid}/comm") as file:
                found[tid] = file.read().strip()
        except OSError:
            continue  # it has just ended
    return found


def _unexplained(names: list[str]) -> list[str]:
    """Native threads without a name of their own may be as many as the known pools have."""
    with open("/proc/self/comm") as file:
        own = file.read().strip()
    unnamed = [name for name in names if name == own]
    named = [f"native thread {name!r}" for name in names if name != own]
    fatal = [advice for name, advice in _FATAL.items() if name in sys.modules]
    explained = sum(most(sys.modules[name]) for name, most in _POOLS.items() if name in sys.modules)
    if len(unnamed) > (0 if fatal else explained):
        advice = f" ({'; '.join(fatal)})" if fatal else ""
        named.append(f"{len(unnamed)} {_UNNAMED}{advice}")
    return named
