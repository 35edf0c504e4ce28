"""Which fronts of this user are alive: one small JSON file per process, in a private directory.

The directory is ``$XDG_RUNTIME_DIR/kernel-runtime-<uid>`` (or below the temporary directory) with
mode 0700. A file is believed only while its process lives *and* started when the file says so: a
pid that was given to another process does not keep a dead front in the list.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from kernel_runtime.domain.errors import Conflict
from kernel_runtime.sandbox.names import start_time

_MAX_BYTES = 1024 * 1024


def directory() -> Path:
    """Where the files lie; it need not exist yet."""
    parent = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(parent) / f"kernel-runtime-{os.getuid()}"


def announce(info: dict[str, Any]) -> None:
    """Write or replace this process's entry; ``info`` is JSON (``kind``, ``sessions``, …)."""
    place = _own_directory()
    entry = {**info, "pid": os.getpid(), "started": start_time(os.getpid())}
    temporary = place / f".{os.getpid()}.tmp"
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(entry))  # json.dump leaves cycles for the collector
    os.replace(temporary, place / f"{os.getpid()}.json")


def withdraw() -> None:
    """Remove this process's entry, if there is one."""
    with contextlib.suppress(OSError, Conflict):
        (_own_directory(create=False) / f"{os.getpid()}.json").unlink()


def listing() -> list[dict[str, Any]]:
    """The entries of living fronts, oldest first; entries of dead ones are removed."""
    try:
        place = _own_directory(create=False)
    except FileNotFoundError:
        return []
    entries = []
    for path in sorted(place.glob("*.json")):
        entry = _read(path)
        if entry is None:
            with contextlib.suppress(OSError):
                path.unlink()
        else:
            entries.append(entry)
    return sorted(entries, key=lambda entry: entry["started"])


def _own_directory(create: bool = True) -> Path:
    """The directory, made if asked for; ``Conflict`` if it is not ours alone (another user may
    have made it first in a shared temporary directory).
    """
    place = directory()
    if create:
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise Conflict(
            f"{place} is not a private directory of yours; remove it, or set XDG_RUNTIME_DIR to a directory that is"
        )
    return place


def _read(path: Path) -> dict[str, Any] | None:
    """A living front's entry; None for anything else (dead, cut off, not ours)."""
    try:
        with open(path, "rb") as file:
            entry = json.loads(file.read(_MAX_BYTES))
        if entry["pid"] == int(path.stem) and entry["started"] == start_time(entry["pid"]) != 0:
            return dict(entry)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None
