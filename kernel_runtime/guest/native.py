"""What only the C library can do for a branch: the guest's twin of ``sandbox/syscalls.py``.

Imported when it is needed, not before: a bare guest has no ctypes.
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
]
_PROT_READ, _PROT_WRITE = 1, 2
_MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS = 0x02, 0x10, 0x20
_FAILED = ctypes.c_void_p(-1).value
_OMP_PAUSE_HARD = 2
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_PR_SET_PDEATHSIG = 1
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_MADV_POPULATE_READ, _MADV_POPULATE_WRITE, _MADV_COLLAPSE = 22, 23, 25


def make_private(start: int, size: int) -> None:
    """Replace the mapping at ``start`` by a private one with the same bytes; raises ``OSError``."""
    held = ctypes.string_at(start, size)
    flags = _MAP_PRIVATE | _MAP_FIXED | _MAP_ANONYMOUS
    if _libc.mmap(start, size, _PROT_READ | _PROT_WRITE, flags, -1, 0) in (None, _FAILED):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    ctypes.memmove(start, held, size)


def collapse(start: int, size: int) -> None:
    """Put these pages together into huge ones (Linux 6.1); raises ``OSError``."""
    _advise(start, size, _MADV_COLLAPSE)


def populate(start: int, size: int, *, writing: bool) -> None:
    """Have these pages as if each had been read, or written to (Linux 5.14); raises ``OSError``."""
    _advise(start, size, _MADV_POPULATE_WRITE if writing else _MADV_POPULATE_READ)


def _advise(start: int, size: int, advice: int) -> None:
    if _libc.madvise(start, size, advice):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def end_with(parent: int) -> None:
    """Be killed when this parent ends; at once if it has ended already."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def pause_openmp(library: str) -> bool:
    """End the idle threads of this OpenMP runtime (they come back with the next parallel region);
    False when it is in use or too old to be asked."""
    try:
        runtime = ctypes.CDLL(library)
        return bool(runtime.omp_pause_resource_all(_OMP_PAUSE_HARD) == 0)
    except (OSError, AttributeError):
        return False


def set_local(frame: FrameType, name: str, value: object) -> None:
    """Set a local variable of a running function (before Python 3.13, where ``f_locals`` does it)."""
    names = frame.f_locals
    names[name] = value
    ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
