"""What this host says about pages of memory."""

from __future__ import annotations

import functools
from pathlib import Path

#: ``always``, ``madvise`` or ``never``, the one that holds in brackets.
ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@functools.cache
def are_huge_allowed() -> bool:
    """Whether guests may put their memory together into huge pages, found out once: not where the host's owner wants
    none (the kernel would do it all the same when asked), nor where that cannot be seen."""
    try:
        return "[never]" not in ENABLED.read_text()
    except OSError:
        return False
