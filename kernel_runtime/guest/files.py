"""Which files were written since a moment: no branch takes that back.

Found by looking, not by keeping a list: the time of a file's last change cannot be set by programs,
and looking costs nothing before somebody goes back.
"""

from __future__ import annotations

import contextlib
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


def written_since(moment: float, workdir: str) -> list[str]:
    """Files changed or made since ``moment`` where a guest writes to (in ``workdir`` wherever it is now), and before
    them their directories if entries were made or removed there; the last entry says so where not all was looked at.
    """
    found: dict[str, None] = {}
    entries = 0
    deadline = time.monotonic() + MOST_SECONDS
    waiting = deque(_places(workdir))
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
    own = os.stat(place)
    if own.st_dev != device:
        return [], [], 0
    if own.st_ctime >= moment:  # also beside files that were written: it may be that others are gone
        files.append(f"{place[-_CUT:]}/ (entries were made, renamed or removed)")
    with os.scandir(place) as listing:
        for entry in listing:
            count += 1
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _NOT_LOOKED_INTO:
                    directories.append(entry.path)
            elif not entry.name.endswith(".ipynb") and entry.stat(follow_symlinks=False).st_ctime >= moment:
                files.append(entry.path[-_CUT:])
    return directories, files, count


def _places(workdir: str) -> list[tuple[str, int]]:
    """With the device that each lies on; none that is gone."""
    wanted = {workdir, tempfile.gettempdir(), os.environ.get("HOME", "/tmp")}  # noqa: S108 — the guest's own
    with contextlib.suppress(FileNotFoundError):
        wanted.add(os.getcwd())
    paths = sorted({os.path.realpath(place) for place in wanted} - {"/"})
    return [(path, os.stat(path).st_dev) for path in paths if os.path.exists(path)]
