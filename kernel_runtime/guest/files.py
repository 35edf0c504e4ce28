"""Which files were written since a moment: no branch takes that back.

Found by looking, not by keeping a list: the time of a file's last change cannot be set by programs,
and looking costs nothing before somebody goes back.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque

MOST_ENTRIES, MOST_NAMED, MOST_SECONDS = 20_000, 50, 1.5
_CUT = 300
#: CLOCK_REALTIME_COARSE, which ``time`` does not name.
_COARSE = 5
#: What the notebook's editor writes, while the guest only looks on: notebooks and their copies.
_NOT_LOOKED_INTO = (".ipynb_checkpoints", "__pycache__")


def now() -> float:
    """The clock by which the kernel dates changes."""
    return time.clock_gettime(_COARSE)


def written_since(moment: float) -> list[str]:
    """Files changed or made since ``moment`` where a guest writes to, and directories whose entries
    were made or removed; the last entry says so where not all was looked at.
    """
    found: dict[str, None] = {}
    entries = 0
    deadline = time.monotonic() + MOST_SECONDS
    waiting = deque(_places())
    while waiting:
        place, device = waiting.popleft()
        try:
            directories, files, count = _look(place, device, moment)
        except OSError:
            continue
        waiting.extend((directory, device) for directory in directories)
        found.update(dict.fromkeys(files))
        entries += count
        if entries > MOST_ENTRIES or time.monotonic() > deadline:
            found[f"(only {entries} files were looked at)"] = None
            break
    more = len(found) - MOST_NAMED
    return list(found) if more <= 0 else [*list(found)[:MOST_NAMED], f"(and {more} more)"]


def _look(place: str, device: int, moment: float) -> tuple[list[str], list[str], int]:
    """In one directory: those below, what was written, and how many entries there are. What is
    mounted there from elsewhere (an interpreter) is none of the guest's."""
    directories, files, count = [], [], 0
    if os.stat(place).st_dev != device:
        return [], [], 0
    with os.scandir(place) as listing:
        for entry in listing:
            count += 1
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _NOT_LOOKED_INTO:
                    directories.append(entry.path)
            elif not entry.name.endswith(".ipynb") and entry.stat(follow_symlinks=False).st_ctime >= moment:
                files.append(entry.path[-_CUT:])
    if not files and os.stat(place).st_ctime >= moment:
        files.append(f"{place[-_CUT:]}/ (entries were made, renamed or removed)")
    return directories, files, count


def _places() -> list[tuple[str, int]]:
    """With the device that each lies on."""
    wanted = {os.getcwd(), tempfile.gettempdir(), os.environ.get("HOME", "/tmp")}  # noqa: S108 — the guest's own
    return [(place, os.stat(place).st_dev) for place in sorted(map(os.path.realpath, wanted)) if place != "/"]
