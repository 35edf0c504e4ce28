"""Who goes first when memory runs out: a live branch, then a frozen one, pid 1 last."""

from __future__ import annotations

import os

OOM_SCORE_LIVE, OOM_SCORE_FROZEN = 500, 200


def set_oom_score(score: int) -> None:
    """Of this process; an ordinary user may raise it, and lower it to what it once was."""
    try:
        file = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(file, str(score).encode())
        os.close(file)
    except OSError:
        pass  # a hardened /proc: the kernel's own choice stands
