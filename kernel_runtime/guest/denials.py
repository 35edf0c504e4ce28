"""Denied system calls: pid 1 answers them, remembers their names, and tells the host.

The filter puts a refused call before a listener that only pid 1 holds. The answer is always
EPERM: nothing is decided here, no pointer is read, no call is let through. What is written
down is a courtesy for the person; the walls do not depend on it.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import struct
import time
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.domain.bucket import Bucket
from kernel_runtime.guest.calls import name_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: ``struct seccomp_notif`` (id, pid, flags; number, architecture, instruction pointer, arguments)
#: and ``struct seccomp_notif_resp`` (id, value, error, flags), with the ioctls that carry them.
_ASKED = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101

#: Frames to the host: so many at once, so many a second. What is beyond goes unsaid, but
#: for the first of each name in a branch's life (so many names).
BURST, RATE = 64, 64.0
MAX_NAMES = 64


class Slate:
    """A page that pid 1 writes and its branches read: what was denied last, oldest first.

    User code can write on it, too, and so spoil the lines under its own errors: pid 1 never
    reads it and writes all of it anew each time.
    """

    _KEPT = 16
    _LINE = re.compile(rb"(\d{1,18}) ([^\n\0]{1,%d})\n" % wire.MAX_CALL)

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self._last: dict[str, int] = {}
        self._count = 0

    def write(self, call: str) -> None:
        self._count += 1
        self._last.pop(call, None)
        self._last[call] = self._count
        if len(self._last) > self._KEPT:
            del self._last[next(iter(self._last))]
        text = "".join(f"{number} {name}\n" for name, number in self._last.items()).encode() + b"\0"
        self._page[: len(text)] = text

    def mark(self) -> int:
        """What ``since`` takes to tell only of what comes from now on."""
        return max((number for number, _ in self._lines()), default=0)

    def since(self, mark: int) -> list[str]:
        """The calls denied after the mark, each once."""
        return [call for number, call in self._lines() if number > mark]

    def _lines(self) -> list[tuple[int, str]]:
        try:
            text = self._page[:].partition(b"\0")[0]
        except ValueError:
            return []  # user code has closed it
        return [(int(number), call.decode(errors="replace")) for number, call in self._LINE.findall(text)]


class Denials:
    """The listener's owner. ``names``: number → name of every call that the filter may deny."""

    def __init__(self, listener: int, names: dict[int, str]) -> None:
        self.slate = Slate()
        self._listener = listener
        self._names = names
        self._told: set[str] = set()
        self._bucket = Bucket(RATE, BURST, time.monotonic())

    def fileno(self) -> int:
        return self._listener

    def close(self) -> None:
        """In a branch: it must never hold the listener, by which calls could be let through."""
        os.close(self._listener)

    def forget(self) -> None:
        """A new branch begins: what is denied to it is told from the first."""
        self._told.clear()

    def serve(self, tell: Callable[[wire.Denied], None]) -> None:
        """Answer the call that waits with EPERM; ``tell`` hears of it before the asker goes on."""
        asked = bytearray(_ASKED.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, asked)
        except OSError:
            return  # who asked has ended meanwhile
        asker, _, _, number, _, _, *arguments = _ASKED.unpack(asked)
        call = name_of(self._names.get(number, f"call {number}"), arguments)[: wire.MAX_CALL]
        self.slate.write(call)
        frame = self._report(call)
        if frame is not None:
            tell(frame)
        try:
            fcntl.ioctl(self._listener, _SEND, _ANSWER.pack(asker, 0, -errno.EPERM, 0))
        except OSError:
            pass  # as above

    def _report(self, call: str) -> wire.Denied | None:
        new = call not in self._told and len(self._told) < MAX_NAMES
        if not self._bucket.take(time.monotonic()) and not new:
            return None
        self._told.add(call)
        return wire.Denied(call=call)
