"""States from 10 MB to 4 GB, as far as a run and a machine have the room for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from benchmarks.registry import ABSENT
from kernel_runtime.domain.amounts import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

SIZES = {"10MB": 10 * MIB, "100MB": 100 * MIB, "1GB": 1024 * MIB, "4GB": 4096 * MIB}
#: Only full runs measure states above this one: each takes minutes.
_QUICK_MOST = 1024 * MIB


def sizes(scale: Scale, name: str, pile: float) -> Iterator[tuple[str, int]]:
    """The sizes by label. ``pile``: so many times its size must be free; ``name``: what is left out else."""
    for label, size in SIZES.items():
        if scale.name == "tiny":
            yield label, size // 100
        elif scale.name == "quick" and size > _QUICK_MOST:
            ABSENT[f"{name} at {label}"] = "measured in full runs only"
        elif psutil.virtual_memory().available < pile * size:
            ABSENT[f"{name} at {label}"] = f"needs {pile * size / GIB:.0f} GB of free memory"
        else:
            yield label, size
