"""Memory that a forked copy would share with the original: writable shared mappings.

A small one without a file behind it (``mmap.mmap(-1, n)``, a semaphore of multiprocessing) is made
private in the copy, with the bytes it had; any other stands in the way of a copy.
"""

from __future__ import annotations

import fcntl
import re
import struct
from typing import NamedTuple

from kernel_runtime.domain.amounts import MIB, show_amount

#: ``struct procmap_query`` of Linux 6.11, and its ioctl on /proc/self/maps.
_QUERY = struct.Struct("=8Q Q 2I 2I 2Q")
_PROCMAP_QUERY = 0xC0686611
_WRITABLE_SHARED_OR_NEXT = 0x02 | 0x08 | 0x10
_LINE = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) .w.s [0-9a-f]+ \S+ \d+ *(.*)$", re.MULTILINE)
_COPIED = (b"/dev/zero (deleted)", b"/dev/shm/sem.", b"/dev/shm/psm_", b"/dev/shm/pym-")
MAX_COPIED = 64 * MIB


class Mapping(NamedTuple):
    """Writable and shared: where, how many bytes, and the file behind it."""

    start: int
    size: int
    name: bytes

    @property
    def copied(self) -> bool:
        """Whether a copy of the process gets one of its own."""
        deleted = self.name.startswith(_COPIED) and (self.name.endswith(b"(deleted)") or b"sem." in self.name)
        return self.size <= MAX_COPIED and (not self.name or deleted)

    def __str__(self) -> str:
        what = self.name.decode(errors="replace") or "without a name"
        return f"{show_amount('memory', self.size)} of shared memory ({what})"


class Mappings:
    """Those of this process; what is there when it is made is the guest's own and left alone."""

    def __init__(self) -> None:
        try:
            self._own = frozenset(_starts())
        except OSError:  # no /proc: a guest without namespaces, which has no copies
            self._own = frozenset()

    def shared(self) -> list[Mapping]:
        """What has come since."""
        if self._own.issuperset(_starts()):
            return []
        return [mapping for mapping in _listed() if mapping.start not in self._own]


def _starts() -> list[int]:
    """Where the writable shared mappings begin; asked for one by one, for reading all is slow."""
    found: list[int] = []
    address = 0
    try:
        with open("/proc/self/maps", "rb") as file:
            while True:
                query = bytearray(_QUERY.size)
                struct.pack_into("=3Q", query, 0, _QUERY.size, _WRITABLE_SHARED_OR_NEXT, address)
                fcntl.ioctl(file, _PROCMAP_QUERY, query)
                start, address = struct.unpack_from("=2Q", query, 24)
                found.append(start)
    except FileNotFoundError:
        return found  # ENOENT: none is left
    except OSError:
        return [mapping.start for mapping in _listed()]  # a kernel before 6.11


def _listed() -> list[Mapping]:
    with open("/proc/self/maps", "rb") as file:
        text = file.read()
    return [Mapping(int(m[1], 16), int(m[2], 16) - int(m[1], 16), m[3]) for m in _LINE.finditer(text)]
