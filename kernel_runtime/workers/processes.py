"""The processes of one session, looked at from outside through its own ``/proc``.

A session's private /proc lists its processes and nothing else, so that a look takes a fraction
of a millisecond whatever else runs on the host. Where there is none (a session without a pid
namespace or mounts of its own) the host's /proc is searched for the descendants instead.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from typing import TYPE_CHECKING, Protocol

import msgspec

from kernel_runtime.workers import tree

if TYPE_CHECKING:
    from collections.abc import Container

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: What the kernel sums up of a process's memory.
ROLLUP, _ROLLUP_BYTES = "smaps_rollup", 4096
_TABLE, _STATUS_BYTES = re.compile(rb"^FDSize:\s*(\d+)$", re.MULTILINE), 4096


class Process(msgspec.Struct, frozen=True):
    """One look at a process: its pid in the /proc it was found in, ``state`` (``T`` stopped, ``Z``
    ended with all of its threads), ``cpu`` seconds with those of children it waited for, ``threads``, ``resident`` bytes.
    """

    pid: int
    state: str
    cpu: float
    threads: int
    resident: int


class Layer(msgspec.Struct, frozen=True):
    """The writable layer: bytes and inodes, used and there; ``in_memory`` unless it is a directory
    of the host, as it was at the last look.
    """

    used: int
    size: int
    inodes: int
    most_inodes: int
    in_memory: bool = True


class Scratch(Protocol):
    """A directory of the host that a guest writes to."""

    @property
    def layer(self) -> Layer: ...


class Processes:
    """Looks at the tree below ``root``, the host's pid of the session's first process."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._proc = -1
        self._layer = -1
        self._scratch: Scratch | None = None

    def writes_to(self, scratch: Scratch) -> None:
        """It has no root of its own: its layer is a directory of the host."""
        self._scratch = scratch

    def look(self) -> list[Process]:
        """Every process of the session that is there now; the first one's first."""
        found = (self._read(pid) for pid in self._pids())
        return [process for process in found if process is not None]

    def shared_out(self, processes: list[Process]) -> int:
        """Bytes of their memory, pages that several hold divided among them (PSS)."""
        return sum(map(self._proportional, processes))

    def open(self, pid: int, name: str) -> int:
        """A descriptor of one of the kernel's files about a process that ``look`` finds; raises ``OSError``."""
        return os.open(self._path(pid, name), os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory())

    def open_files(self, apart: Container[int] = ()) -> int:
        """Descriptors of the process that has most of them, but for the first one, which is not the guest's, and
        those ``apart``; 0 when none may be looked at."""
        return max((self._told(pid) or self._listed(pid) for pid in self._others(apart)), default=0)

    def room_for_files(self, apart: Container[int] = ()) -> int:
        """No less than ``open_files``, and quickly, however many they are: where the kernel does not tell their
        number, that for which a table was made."""
        return max((self._told(pid) or self._table(pid) for pid in self._others(apart)), default=0)

    def send(self, pid: int, number: int) -> None:
        """Send a signal to a process that ``look`` found; nothing if it has ended."""
        with contextlib.suppress(OSError):
            fd = os.open(f"{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory())
            try:
                signal.pidfd_send_signal(fd, number)
            finally:
                os.close(fd)

    def layer(self) -> Layer | None:
        """Its writable layer; None while it cannot be looked at."""
        if self._scratch is not None:
            return self._scratch.layer
        if self._layer < 0:
            fd = self._first_open("tmp")
            if fd >= 0 and os.fstat(fd).st_dev == os.stat("/tmp").st_dev:  # noqa: S108 - the host's own
                os.close(fd)
                return None
            self._layer = fd
        if self._layer < 0:
            return None
        status = os.fstatvfs(self._layer)
        size = status.f_frsize
        return Layer(
            (status.f_blocks - status.f_bfree) * size,
            status.f_blocks * size,
            status.f_files - status.f_ffree,
            status.f_files,
        )

    def close(self) -> None:
        """Let go of its mounts."""
        for fd in (self._proc, self._layer):
            if fd >= 0:
                os.close(fd)
        self._proc = self._layer = -1

    def _directory(self) -> int | None:
        """Its own /proc; None (the host's /proc is meant, by full paths) where it has none."""
        if self._proc < 0:
            fd = self._first_open("proc")
            if fd >= 0 and _is_private(fd):
                self._proc = fd
            elif fd >= 0:
                os.close(fd)
        return self._proc if self._proc >= 0 else None

    def _first_open(self, place: str) -> int:
        """A directory of the session's root, by the first of its processes that may be looked at:
        pid 1 itself is closed to an ordinary user. -1: none yet.
        """
        for pid in (self._root, *self._below()):
            with contextlib.suppress(OSError):
                return os.open(f"/proc/{pid}/root/{place}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return -1

    def _pids(self) -> list[int]:
        if self._root <= 0:
            return []
        directory = self._directory()
        if directory is None:
            return [self._root, *self._below()]
        with contextlib.suppress(OSError):
            return sorted(int(name) for name in os.listdir(directory) if name.isdigit())
        return []

    def _others(self, apart: Container[int]) -> list[int]:
        return [pid for pid in self._pids()[1:] if pid not in apart]

    def _below(self) -> list[int]:
        """The processes below the first one, by the host's /proc; the ended ones count, too."""
        return sorted(tree.descendants(self._root, zombies=True))

    def _first(self) -> int:
        """The first process, by its number where the processes are looked at."""
        return self._root if self._directory() is None else 1

    def _path(self, pid: int, name: str) -> str:
        return f"{pid}/{name}" if self._directory() is not None else f"/proc/{pid}/{name}"

    def _text(self, pid: int, name: str, size: int) -> bytes:
        fd = self.open(pid, name)
        try:
            return os.read(fd, size)
        finally:
            os.close(fd)

    def _read(self, pid: int) -> Process | None:
        try:
            fields = self._text(pid, "stat", 1024).rpartition(b")")[2].split()
        except OSError:
            return None
        times = sum(map(int, fields[11:15]))
        goes_on = fields[0] in b"ZX" and not tree.has_ended(fields)
        return Process(
            pid,
            "R" if goes_on else fields[0].decode(),
            times / _TICKS,
            int(fields[17]),
            int(fields[21]) * _PAGE,
        )

    def _proportional(self, process: Process) -> int:
        """Its PSS; all that it has where it keeps us from reading it, as any process can by not being
        dumpable: it must not hide what it uses. (The first one does, and runs no code of the guest.)"""
        try:
            return share(self.open(process.pid, ROLLUP))
        except PermissionError:
            return 0 if process.pid == self._first() else process.resident
        except OSError:
            return 0  # it has just ended

    def _told(self, pid: int) -> int:
        """The number of its descriptors; 0 before Linux 6.2, and of one that has ended."""
        try:
            return os.stat(self._path(pid, "fd"), dir_fd=self._directory()).st_size
        except OSError:
            return 0

    def _table(self, pid: int) -> int:
        try:
            found = _TABLE.search(self._text(pid, "status", _STATUS_BYTES))
        except OSError:
            return 0
        return int(found[1]) if found else 0

    def _listed(self, pid: int) -> int:
        try:
            fd = self.open(pid, "fd")
        except OSError:
            return 0
        try:
            return len(os.listdir(fd))
        except OSError:
            return 0
        finally:
            os.close(fd)


def share(rollup: int) -> int:
    """The PSS that this descriptor of the kernel's summary tells, which is closed; raises ``OSError``."""
    try:
        for line in os.read(rollup, _ROLLUP_BYTES).splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    finally:
        os.close(rollup)
    return 0


def pid_within(pid: int) -> int:
    """The number that a process has in the innermost of its pid namespaces; 0 when it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"NSpid:"):
                return int(line.split()[-1])
    return 0


def _is_private(proc: int) -> bool:
    """Whether this is the /proc of another pid namespace than ours."""
    try:
        return os.stat("self", dir_fd=proc, follow_symlinks=False).st_dev != os.stat("/proc").st_dev
    except OSError:
        return True  # there is no ``self`` where we have no pid
