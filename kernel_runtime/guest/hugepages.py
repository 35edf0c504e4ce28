"""Memory in pages of 2 MiB: a fork copies one entry of the page table for each, instead of 512.

numpy asks for such pages for its large arrays. Python's own objects live in pages of 4 KiB, and to copy the table of a
gigabyte of them takes a fork some 30 ms. While the branch rests they are put together, as far as no copy shares them:
then both would hold the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import time
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import MIB

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

#: Page faults (4 KiB each, or a huge page) since the last time that make looking worth while.
_TOUCHED = 16 * MIB // 4096
#: How long nothing has run before, and how long it takes at a time: a request that comes waits for no more.
_REST, _SLICE = 0.05, 0.001
#: Looking takes no more than this share of the time.
_SHARE = 1 / 50
_HUGE = 2 * MIB
_PAGES = _HUGE // 4096
#: With so few pages of 512 missing, filling them in costs little memory (Python's arenas keep 4 of 256 unused).
_FULL = _PAGES - _PAGES // 16
_ENTRY = 8
#: Of each entry of a pagemap: the page is there; it is in this address space alone.
_PRESENT = int.from_bytes((1 << 63).to_bytes(_ENTRY, "little") * _PAGES, "little")
_OURS = _PRESENT >> 7
_ANONYMOUS = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) rw.p [0-9a-f]+ 00:00 0 ", re.MULTILINE)


class HugePages:
    """Those of the live branch; ``is_idle`` says whether nothing runs in it, ``allowed`` whether it may have any."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, is_idle: Callable[[], bool], *, allowed: bool
    ) -> None:
        self._loop = loop
        self._allowed = allowed
        self._is_idle = is_idle
        self._faults = 0
        self._sweep: Iterator[None] | None = None
        self._took = 0.0

    @property
    def works(self) -> bool:
        """Whether something is still to be put together: a copy that shares it would keep it apart."""
        return self._sweep is not None

    def tend(self) -> None:
        """Something has run: put together what it has touched, soon."""
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        self._faults = min(self._faults, faults)  # a copy that was thawed counts its own
        if faults - self._faults < _TOUCHED or self._sweep is not None or not self._allowed:
            return
        self._sweep = _put_together()
        self._loop.call_later(max(_REST, self._took / _SHARE), self._begin)

    def _begin(self) -> None:
        self._faults, self._took = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, 0.0
        self._step()

    def _step(self) -> None:
        if self._sweep is None:
            return
        if not self._is_idle():
            self._loop.call_later(_REST, self._step)
            return
        begun = time.monotonic()
        with contextlib.suppress(OSError):  # no /proc, or no memory: what is left stays as it is
            for _ in self._sweep:
                if time.monotonic() - begun > _SLICE:
                    self._took += time.monotonic() - begun
                    self._loop.call_soon(self._step)
                    return
        self._sweep = None


def _put_together() -> Iterator[None]:
    """One stretch after the other. Raises ``OSError`` when memory is short."""
    for start in _stretches():
        if _is_worth_it(start):
            from kernel_runtime.guest import native

            try:
                native.collapse(start, _HUGE)
            except OSError as error:
                if error.errno == errno.ENOMEM:
                    raise
        yield


def _stretches() -> Iterator[int]:
    """Where private memory without a file begins, each of the size of a huge page."""
    with open("/proc/self/maps", "rb") as file:
        text = file.read()
    for found in _ANONYMOUS.finditer(text):
        first, end = int(found[1], 16), int(found[2], 16)
        yield from range(-(-first // _HUGE) * _HUGE, end - _HUGE + 1, _HUGE)


def _is_worth_it(start: int) -> bool:
    """Nearly all is there, and no other process has any of it."""
    fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        entries = int.from_bytes(os.pread(fd, _PAGES * _ENTRY, start // 4096 * _ENTRY), "little")
    finally:
        os.close(fd)
    present = entries & _PRESENT
    return present.bit_count() >= _FULL and present >> 7 == entries & _OURS
