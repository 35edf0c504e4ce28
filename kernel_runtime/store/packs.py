"""Pack files: blocks of chunks, compressed, encrypted when there is a key.

A pack is written once, under a temporary name, and gets its own when the manifest lists it; before the manifest
forgets it, it has a temporary one again. So a pack under its own name is never garbage, whatever the manifest
says. Small chunks share a block, so that compression finds what they have in common.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Damaged, StorageFailed
from kernel_runtime.store.compression import pack as compress
from kernel_runtime.store.compression import unpack as decompress

if TYPE_CHECKING:
    from pathlib import Path

    from kernel_runtime.store.keys import Key, NoKey

_MAGIC = b"KRPACK1\n"
_BLOCK = 64 * 1024
#: A block holds at most this: what is read of a damaged pack stays small.
_MAX_BLOCK = 2 * _BLOCK
_HEADER = struct.Struct("<IIB")
_COMPRESSED = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk lies: its block's offset in the pack, and itself within the block."""

    block: int
    start: int
    size: int


class PackWriter:
    """A new pack; nothing of it counts before ``finish``. ``places`` is complete after it."""

    def __init__(self, directory: Path, key: Key | NoKey) -> None:
        self.name = uuid.uuid4().hex
        self.size = 0
        self.names: set[bytes] = set()
        self.places: dict[bytes, Place] = {}
        self._directory = directory
        self._key = key
        self._pending: list[tuple[bytes, bytes]] = []
        self._held = 0
        self._fd = os.open(
            temporary(directory, self.name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # until it is closed, no other process judges it
        try:
            self._write(_MAGIC)
        except BaseException:
            self.discard()
            raise

    def add(self, name: bytes, chunk: bytes) -> None:
        """Take a chunk; it is written together with its neighbours."""
        if self._held and self._held + len(chunk) > _BLOCK:
            self._flush()
        self.names.add(name)
        self._pending.append((name, chunk))
        self._held += len(chunk)

    def _flush(self) -> None:
        raw = b"".join(chunk for _, chunk in self._pending)
        packed = compress(raw)
        compressed = len(packed) < len(raw)
        sealed = self._key.seal(self.name, self.size, packed if compressed else raw)
        start = 0
        for name, chunk in self._pending:
            self.places[name] = Place(self.size, start, len(chunk))
            start += len(chunk)
        self._write(_HEADER.pack(len(sealed), len(raw), _COMPRESSED if compressed else 0) + sealed)
        self._pending, self._held = [], 0

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.size += len(data)

    def finish(self) -> None:
        """All on disk, under its temporary name still: the manifest comes next."""
        if self._pending:
            self._flush()
        os.fsync(self._fd)
        sync_directory(self._directory)

    def publish(self) -> None:
        """The manifest lists it: it has its own name, and the lock is let go."""
        settle(self._directory, self.name)
        self.close()

    def close(self) -> None:
        """Let go of the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Remove whatever there is of it."""
        remove(self._directory, self.name)
        self.close()


class PackReader:
    """Reads chunks of one pack; the last block is kept, for neighbours are asked for in order."""

    def __init__(self, directory: Path, name: str, key: Key | NoKey) -> None:
        self._name = name
        self._key = key
        self._fd = _open(directory, name)
        self._at = -1
        self._block = b""

    def chunk(self, place: Place) -> bytes:
        if place.block != self._at:
            self._block, self._at = self._read(place.block), place.block
        return self._block[place.start : place.start + place.size]

    def _read(self, offset: int) -> bytes:
        header = os.pread(self._fd, _HEADER.size, offset)
        if len(header) < _HEADER.size:
            raise Damaged(f"pack {self._name} is cut")
        stored, size, flags = _HEADER.unpack(header)
        if size > _MAX_BLOCK or stored > 2 * _MAX_BLOCK:
            raise Damaged(f"pack {self._name} was altered")
        data = os.pread(self._fd, stored, offset + _HEADER.size)
        if len(data) < stored:
            raise Damaged(f"pack {self._name} is cut")
        return self._unpack(self._key.open(self._name, offset, data), size, flags)

    def _unpack(self, data: bytes, size: int, flags: int) -> bytes:
        if not flags & _COMPRESSED:
            return data
        try:
            return decompress(data, size)
        except ValueError:
            raise Damaged(f"pack {self._name} was altered") from None

    def close(self) -> None:
        os.close(self._fd)


def own(directory: Path, name: str) -> Path:
    """Where a pack lies that the manifest lists."""
    return directory / f"{name}.pack"


def temporary(directory: Path, name: str) -> Path:
    """Where it lies before that, and after."""
    return directory / f".{name}.tmp"


def settle(directory: Path, name: str) -> None:
    """Give a pack that is listed its own name; a disk that does not let us leaves that to the next opening."""
    with suppress(OSError):
        os.rename(temporary(directory, name), own(directory, name))


def unsettle(directory: Path, name: str) -> None:
    """Take its own name from a pack that is about to be listed no more."""
    with suppress(FileNotFoundError):
        os.rename(own(directory, name), temporary(directory, name))


def remove(directory: Path, name: str) -> None:
    """Remove a pack that is not listed. The temporary name first: meanwhile it may be given its own."""
    temporary(directory, name).unlink(missing_ok=True)
    own(directory, name).unlink(missing_ok=True)


def _open(directory: Path, name: str) -> int:
    """Under whichever name; it may get the other one while we look."""
    last = own(directory, name)
    for path in (last, temporary(directory, name)):
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return os.open(last, os.O_RDONLY | os.O_CLOEXEC)


def is_abandoned(path: Path) -> bool:
    """Whether no living writer holds what was to become a pack."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def sync_directory(directory: Path) -> None:
    """A name that was given or taken is on disk, too."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def failed(error: OSError, what: str, if_full: str = "") -> StorageFailed:
    """An error of the disk in words; ``if_full``: what can be done where it is full."""
    advice = f"; {if_full}" if if_full and error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return StorageFailed(f"{what}: {os.strerror(error.errno) if error.errno else error}{advice}")
