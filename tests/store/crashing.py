"""A process that dies, by SIGKILL, at the step of the store that it is told.

``python crashing.py DIRECTORY WHAT STEP``: WHAT is ``save`` or ``prune``; a step is each call that
changes the disk (half of a write is done before it dies) and each statement of the manifest.
It prints the number of steps when it was not reached.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path

from kernel_runtime.domain.checkpoint import Retention
from kernel_runtime.store import checkpoints, manifest
from kernel_runtime.store.keys import NoKey

sys.path.insert(0, str(Path(__file__).parent))
import parcels

_count = 0
_last = 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _step() -> bool:
    global _count
    _count += 1
    return _count == _last


def _before(name: str) -> None:
    original = getattr(os, name)

    def call(*args, **kwargs):
        if _step():
            _die()
        return original(*args, **kwargs)

    setattr(os, name, call)


def _halfway() -> None:
    original = os.write

    def write(fd, data):
        if _step():
            original(fd, bytes(data)[: len(data) // 2])
            _die()
        return original(fd, data)

    os.write = write


def _traced(connect):
    def call(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(lambda _: _die() if _step() else None)
        return connection

    return call


def main() -> None:
    global _last
    directory, what, _last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    manifest.sqlite3.connect = _traced(sqlite3.connect)
    store = checkpoints.DiskStore(directory, NoKey())
    for name in ("fsync", "rename", "unlink", "open"):
        _before(name)
    _halfway()
    if what == "save":
        parcels.keep(
            store, {"a": b"A" * 5000, "new": os.urandom(150_000)[:60_000], "more": os.urandom(60_000)}
        )
    else:
        store.prune(Retention(count=1))
    os.write(1, b"%d" % _count)


if __name__ == "__main__":
    main()
