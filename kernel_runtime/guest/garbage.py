"""When Python's garbage is collected in a process that is branched: a collection writes to each object it looks at, and
thereby copies all pages of theirs that the branches share.

What the guest began with, its libraries above all, is frozen and stays so. What the notebook has is collected as
Python does it anywhere, until it is much: then it is frozen for each copy, too, and all of it collected from time to time, or
cycles would stay for ever. To unfreeze is to unfreeze the libraries as well, which alone takes 80 ms and 35 MB.
"""

from __future__ import annotations

import functools
import gc
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: The notebook has much when Python has given out so many times the blocks of memory that the guest began with.
_MUCH = 3
#: Collecting what was frozen takes at most this share of the time.
_SHARE = 1 / 300
#: About what each block of memory that Python has given out takes then, in seconds. To count the objects would take a
#: third of the collection itself.
_SECONDS_EACH = 0.1e-6
_OLDEST = 2


class Garbage:
    """Of one live branch and the copies of it."""

    def __init__(self) -> None:
        self._began_with = 0
        self._has_frozen = False
        self._collected = time.monotonic()
        self._seconds = 0.0
        gc.collect = self._collector(gc.collect)  # type: ignore[assignment] # a stand-in

    def begin(self) -> None:
        """No code of the notebook has run yet: what there is is the guest's own, and not among the objects that the
        notebook finds by its collector."""
        gc.freeze()
        self._began_with = sys.getallocatedblocks()

    def tend(self) -> None:
        """A copy is about to be made."""
        if self._has_frozen or sys.getallocatedblocks() > _MUCH * self._began_with:
            self._collect_when_due()
            self._has_frozen = True
            gc.freeze()

    def objects(self) -> list[Any]:
        """Those of the notebook that may be part of a cycle, and where any of them was frozen, those of libraries."""
        if not self._has_frozen:
            return gc.get_objects()
        gc.unfreeze()  # what is frozen is not among the collector's objects
        found = gc.get_objects()
        gc.freeze()
        return found

    def _collect_when_due(self) -> None:
        due = _SHARE * (time.monotonic() - self._collected)
        if self._seconds < due:  # what it takes is not known before the first time, nor after a restore
            self._seconds = max(self._seconds, sys.getallocatedblocks() * _SECONDS_EACH)
        if self._seconds < due and gc.isenabled():
            begun = time.monotonic()
            gc.collect()
            self._collected = time.monotonic()
            self._seconds = self._collected - begun

    def _collector(self, collect: Callable[[int], int]) -> Callable[[int], int]:
        """``gc.collect`` as user code knows it: what is frozen for the sake of the copies is collected, too."""

        @functools.wraps(collect)
        def collect_all(generation: int = 2) -> int:
            if generation == _OLDEST and self._has_frozen:
                gc.unfreeze()
            return collect(generation)

        return collect_all
