"""Descriptors across a branch: what a frozen copy keeps, what it reopens, what it cannot have.

A descriptor that is copied by ``fork`` leads to the same thing as the original: reading a file in
one moves the place of the other, a socket has two owners. So a copy opens its regular files anew,
each at the place where it was, and holds nothing else: the numbers of sockets, pipes and the like
stay taken, and every use of them is an error (EBADF).
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from typing import NamedTuple

_HARMLESS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
#: Not O_DIRECTORY: it is a part of O_TMPFILE, too.
_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK


class Place(NamedTuple):
    """A regular file or directory that is open: flags, where it was read or written next, what it was
    like (size, time of change in ns), and the descriptor whose place it shares (by ``dup``), if any."""

    fd: int
    flags: int
    offset: int
    path: str
    size: int
    changed: int
    twin: int | None = None


class Inventory(NamedTuple):
    """What a process has open, but for the guest's own: files with a place, and the others by name;
    ``kinds`` tells whether a descriptor leads still to the same thing (device, inode)."""

    places: list[Place]
    others: dict[int, str]
    kinds: dict[int, tuple[int, int]]


def take_stock(own: frozenset[int]) -> Inventory:
    """List what is open now and not among ``own``."""
    places: list[Place] = []
    others: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd in own:
            continue
        try:
            _note(fd, places, others)
        except OSError:
            continue  # the listing's own, closed by now
    return Inventory(_with_twins(places), others, {fd: _kind(fd) for fd in others})


def _with_twins(places: list[Place]) -> list[Place]:
    """Find out which share their place: only where several are at the same one of the same file."""
    found: list[Place] = []
    for place in places:
        like = (other for other in found if other.twin is None and other[1:4] == place[1:4])
        twin = next((other.fd for other in like if _share_place(other, place)), None)
        found.append(place._replace(twin=twin))
    return found


def _share_place(one: Place, other: Place) -> bool:
    """Whether moving one moves the other; both are at the same place again afterwards."""
    if os.fstat(one.fd)[1:3] != os.fstat(other.fd)[1:3]:
        return False
    os.lseek(one.fd, one.offset + 1, os.SEEK_SET)
    moved = os.lseek(other.fd, 0, os.SEEK_CUR) != other.offset
    os.lseek(one.fd, one.offset, os.SEEK_SET)
    return moved


def _note(fd: int, places: list[Place], others: dict[int, str]) -> None:
    status = os.fstat(fd)
    kind = stat.S_IFMT(status.st_mode)
    target = os.readlink(f"/proc/self/fd/{fd}")
    if kind == stat.S_IFREG and _is_locked(fd):
        others[fd] = f"descriptor {fd}: {target}, locked"  # no copy has the lock: it must not write
    elif kind in (stat.S_IFREG, stat.S_IFDIR):
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        places.append(Place(fd, flags & _FLAGS, offset, target, status.st_size, status.st_mtime_ns))
    elif kind == stat.S_IFSOCK:
        others[fd] = f"descriptor {fd}: {_name_socket(fd)}"
    elif kind == stat.S_IFIFO:
        others[fd] = f"descriptor {fd}: a pipe"
    elif target not in _HARMLESS:
        others[fd] = f"descriptor {fd}: {target}"


def _is_locked(fd: int) -> bool:
    with open(f"/proc/self/fdinfo/{fd}", "rb", buffering=0) as file:
        return b"\nlock:" in file.read(4096)


def _name_socket(fd: int) -> str:
    with socket.socket(fileno=os.dup(fd)) as sock:
        family = getattr(sock.family, "name", str(sock.family)).removeprefix("AF_")
        return f"a socket ({family} {getattr(sock.type, 'name', sock.type)})".replace("SOCK_", "")


def detach(inventory: Inventory, own: frozenset[int]) -> list[str]:
    """In the copy: open the files anew, occupy the other numbers, ``own`` ones too. Returns what it
    does not have. What a library has closed or opened anew around the fork is the library's business.
    """
    nothing = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
    missing = {fd: name for fd, name in inventory.others.items() if _kind(fd) == inventory.kinds[fd]}
    for place in inventory.places:
        try:
            _reopen(place)
        except FileNotFoundError:
            continue  # not the file: the descriptor. A library closes its own in a child (matplotlib's fonts)
        except OSError as error:
            missing[place.fd] = f"descriptor {place.fd}: {place.path} ({error.strerror})"
    for fd in (*missing, *own):
        _put(nothing, fd)
    os.close(nothing)
    return [missing[fd] for fd in sorted(missing)]


def _kind(fd: int) -> tuple[int, int]:
    try:
        status = os.fstat(fd)
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)


def changed(inventory: Inventory) -> list[str]:
    """Files that are open here and not as they were when stock was taken."""
    found = []
    for place in inventory.places:
        try:
            status = os.fstat(place.fd)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) != place[4:6]:
            found.append(f"{place.path} has changed since the snapshot")
    return found


def reopen(inventory: Inventory) -> None:
    """In a copy of a copy: places of its own once more."""
    for place in inventory.places:
        try:
            _reopen(place)
        except OSError:
            continue  # it is occupied already, and told


def replace(fd: int, new: int) -> None:
    """Put ``new`` at the number ``fd``, and nowhere else."""
    if new != fd:
        _put(new, fd)
        os.close(new)


def _reopen(place: Place) -> None:
    if place.twin is not None:
        _put(place.twin, place.fd)
        return
    fd = os.open(f"/proc/self/fd/{place.fd}", place.flags | os.O_CLOEXEC)
    try:
        os.lseek(fd, place.offset, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    replace(place.fd, fd)


def _put(source: int, target: int) -> None:
    """``dup2`` that keeps whether the target is inherited by programs."""
    try:
        inheritable = os.get_inheritable(target)
    except OSError:
        inheritable = False  # user code has closed it
    if source != target:
        os.dup2(source, target, inheritable=inheritable)
