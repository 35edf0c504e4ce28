"""The pages that a live branch has for itself: it has written to them since the last copy of it was made.

So will the next live branch, and each page costs that a fault and a copy: a frozen one that is to come has them copied
in advance, as long as they are few. A long stretch is not what any cell touches, but data that one has replaced.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import FileIO

PAGE = os.sysconf("SC_PAGESIZE")
#: So many pages are copied in advance, at most; a longer stretch is data.
MOST, _LONGEST = 8 * MIB // PAGE, 64
#: Looking for them takes no longer, in seconds of CPU time.
_SECONDS = 0.1
_ENTRY, _TOGETHER = 8, 4096
#: Bits of each entry of a pagemap: the page is there; it is a file's; it is in this address space alone.
_PRESENT, _FILE, _OURS = 63, 61, 56
_LOWEST = int.from_bytes((1).to_bytes(_ENTRY, "little") * _TOGETHER, "little")
_PRIVATE = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) rw.p ", re.MULTILINE)


def pages(maps: FileIO, pagemap: FileIO) -> list[int]:
    """Their numbers, by these files of the kernel's about a process, which are closed; raises ``OSError``."""
    until = time.thread_time() + _SECONDS
    with maps, pagemap:
        short = (found for found in stretches(_own(maps.readall(), pagemap.fileno(), until)) if found[1] <= _LONGEST)
        return list(itertools.islice((page for first, count in short for page in range(first, first + count)), MOST))


def stretches(pages: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbours together: where each stretch begins, and how many there are."""
    begun, count = 0, 0
    for page in pages:
        if count and page == begun + count:
            count += 1
            continue
        if count:
            yield begun, count
        begun, count = page, 1
    if count:
        yield begun, count


def _own(maps: bytes, pagemap: int, until: float) -> Iterator[int]:
    for found in _PRIVATE.finditer(maps):
        end = int(found[2], 16) // PAGE
        for first in range(int(found[1], 16) // PAGE, end, _TOGETHER):
            if time.thread_time() > until:
                return
            size = min(_TOGETHER, end - first) * _ENTRY
            yield from (first + place for place in _marked(os.pread(pagemap, size, first * _ENTRY)))


def _marked(entries: bytes) -> Iterator[int]:
    """Which of these entries are pages that no other process has."""
    bits = int.from_bytes(entries, "little")
    marks = (bits >> _PRESENT) & (bits >> _OURS) & ~(bits >> _FILE) & _LOWEST
    found = marks.to_bytes(_TOGETHER * _ENTRY, "little")
    place = found.find(1)
    while place >= 0:
        yield place // _ENTRY
        place = found.find(1, place + 1)
