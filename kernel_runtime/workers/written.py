"""The pages that a live branch works with: those of files that it has mapped, and those that it has for itself, because
it has written to them since the last copy of it was made.

So will the next live branch, and each page costs that a fault: a frozen one that is to come has them mapped and copied in
advance, as long as they are few. A long stretch is not what any cell writes to, but data that one has replaced.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from kernel_runtime.domain.amounts import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import FileIO

PAGE = os.sysconf("SC_PAGESIZE")
#: So many pages are copied in advance, at most, and so many of files mapped; a longer stretch is data.
COPIED, _MAPPED, _LONGEST = 8 * MIB // PAGE, 128 * MIB // PAGE, 64
#: Looking for them takes no longer, in seconds of CPU time, and no more bytes of the list of mappings.
_SECONDS, _MAPS = 0.1, 4 * MIB
_ENTRY, _TOGETHER, _READ = 8, 4096, 1 << 16
#: Bits of each entry of a pagemap: the page is there; it is a file's; it is in this address space alone.
_PRESENT, _FILE, _OURS = 63, 61, 56
_LOWEST = int.from_bytes((1).to_bytes(_ENTRY, "little") * _TOGETHER, "little")
_PRIVATE = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) r..p ", re.MULTILINE)

Stretch = tuple[int, int]


class Pages(NamedTuple):
    """Their numbers."""

    written: list[int]
    mapped: list[int]


def pages(maps: FileIO, pagemap: FileIO) -> Pages:
    """Of the process that these files of the kernel's are about, which are closed; raises ``OSError``."""
    written, mapped = list[int](), list[int]()
    until = time.thread_time() + _SECONDS
    with maps, pagemap:
        for found in _PRIVATE.finditer(_read(maps, until)):
            end = int(found[2], 16) // PAGE
            for first in range(int(found[1], 16) // PAGE, end, _TOGETHER):
                if time.thread_time() > until:
                    break
                size = min(_TOGETHER, end - first) * _ENTRY
                entries = int.from_bytes(os.pread(pagemap.fileno(), size, first * _ENTRY), "little")
                there, files = entries >> _PRESENT & _LOWEST, entries >> _FILE
                written += (first + index for index in _indices(there & (entries >> _OURS) & ~files))
                mapped += (first + index for index in _indices(there & files))
    short = (range(first, first + count) for first, count in stretches(written) if count <= _LONGEST)
    return Pages(list(itertools.islice(itertools.chain.from_iterable(short), COPIED)), mapped[:_MAPPED])


def _read(maps: FileIO, until: float) -> bytes:
    """All, as far as it is soon read: a guest has thousands of mappings, each with a name as long as it likes."""
    parts, size = list[bytes](), 0
    while size < _MAPS and time.thread_time() < until and (part := maps.read(_READ)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def stretches(numbers: Iterable[int]) -> Iterator[Stretch]:
    """Neighbours together: where each stretch begins, and how many there are."""
    begun, count = 0, 0
    for number in numbers:
        if count and number == begun + count:
            count += 1
            continue
        if count:
            yield begun, count
        begun, count = number, 1
    if count:
        yield begun, count


def _indices(marks: int) -> Iterator[int]:
    """Of the entries that are marked."""
    found = marks.to_bytes(_TOGETHER * _ENTRY, "little")
    place = found.find(1)
    while place >= 0:
        yield place // _ENTRY
        place = found.find(1, place + 1)
