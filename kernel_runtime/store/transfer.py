"""One checkpoint as one file, to be carried to another host and taken in there.

The file holds the record's public part and every chunk, compressed, not encrypted. Reading it,
nothing is believed: sizes are bounded before memory is taken, chunks are named anew, and it goes
through the same door as what a guest sends.
"""

from __future__ import annotations

import os
import reprlib
import struct
import tempfile
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.checkpoint import DIGEST, About, Checkpoint, Group
from kernel_runtime.domain.errors import Invalid, ProtocolViolation
from kernel_runtime.domain.snapshot import check_name
from kernel_runtime.store.compression import pack, unpack
from kernel_runtime.store.packs import failed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.domain.checkpoint import Quota
    from kernel_runtime.ports import CheckpointStore, CheckpointWriter

_MAGIC = b"KRCHECK1"
_LENGTH = struct.Struct("<I")
_BATCH, _MAX_PIECE = 1 * MIB, 64 * MIB
_MAX_KEY = 4096  # a path, at most


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    label: str
    about: About
    skipped: dict[str, str]


class _Chunks(msgspec.Struct, frozen=True, tag="chunks"):
    sizes: bytes  # of 4 bytes each
    digests: bytes
    data: bytes


class _Group(msgspec.Struct, frozen=True, tag="group"):
    group: Group


class _End(msgspec.Struct, frozen=True, tag="end"):
    head: _Head


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Chunks | _Group | _End).decode


def export(store: CheckpointStore, identity: str, path: Path) -> int:
    """Write the checkpoint to ``path``, all of it or nothing; the bytes it takes."""
    one = store.checkpoint(identity)
    try:
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(fd, "wb") as file:
                file.write(_MAGIC)
                for item in _items(store, one):
                    _put(file, item)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return path.stat().st_size
    except OSError as error:
        raise failed(error, str(path)) from None


def _items(store: CheckpointStore, one: Checkpoint) -> Iterator[msgspec.Struct]:
    seen: set[bytes] = set()
    groups = store.groups(one.id)
    for group in groups:
        for place, part in enumerate(group.parts):
            yield from _batches(store.read(one.id, group.number, place), part.digests, seen)
    for group in groups:
        yield _Group(group)
    yield _End(_Head(one.key, one.label, one.about, one.skipped))


def _batches(chunks: Iterator[bytes], digests: bytes, seen: set[bytes]) -> Iterator[_Chunks]:
    """New chunks, as many together as make a good frame."""
    waiting: list[bytes] = []
    names = bytearray()
    for place, chunk in enumerate(chunks):
        name = digests[place * DIGEST : (place + 1) * DIGEST]
        if name not in seen:
            seen.add(name)
            waiting.append(chunk)
            names += name
        if sum(map(len, waiting)) >= _BATCH:
            yield _Chunks(array("I", map(len, waiting)).tobytes(), bytes(names), b"".join(waiting))
            waiting, names = [], bytearray()
    if waiting:
        yield _Chunks(array("I", map(len, waiting)).tobytes(), bytes(names), b"".join(waiting))


def _put(file: BinaryIO, item: msgspec.Struct) -> None:
    data = pack(_encode(item))
    file.write(_LENGTH.pack(len(data)) + data)


def take_in(store: CheckpointStore, path: Path, quota: Quota | None = None) -> Checkpoint:
    """Keep the checkpoint of the file ``path``; ``Invalid`` if it is none, and nothing is kept."""
    try:
        with open(path, "rb") as file:
            head = _checked(_head_of(file, path), path)
            file.seek(len(_MAGIC))
            writer = store.begin(head.key, parent="", label=head.label, quota=quota)
            try:
                _take(file, writer)
                for name, reason in head.skipped.items():
                    writer.skip(name, reason)
                return writer.commit(head.about)
            except BaseException:
                writer.abort()
                raise
    except OSError as error:
        raise failed(error, str(path)) from None
    except (msgspec.DecodeError, ValueError, ProtocolViolation) as error:
        raise Invalid(f"{path} is no checkpoint, or was altered: {error}") from None


def _head_of(file: BinaryIO, path: Path) -> _Head:
    """Said last, wanted first; passing over the rest shows whether the file is whole."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise Invalid(f"{path} is no checkpoint")
    last: object = None
    while (item := _next(file)) is not None:
        if isinstance(last, _End):
            raise ProtocolViolation("something follows its end")
        last = item
    if not isinstance(last, _End):
        raise ProtocolViolation("it is cut; export it again")
    return last.head


def _checked(head: _Head, path: Path) -> _Head:
    """Its label and key are said to people in lines of ours: they are what we could have given, or can be shown."""
    if head.label:
        check_name(head.label, of=f"{path}: the checkpoint's label")
    if not head.key.isprintable() or len(head.key) > _MAX_KEY:
        raise Invalid(
            f"{path}: the session or notebook that it is of is called {reprlib.repr(head.key)}, which cannot be shown"
        )
    return head


def _next(file: BinaryIO) -> _Chunks | _Group | _End | None:
    length = file.read(_LENGTH.size)
    if not length:
        return None
    size = _LENGTH.unpack(length.ljust(_LENGTH.size, b"\xff"))[0]
    if size > _MAX_PIECE:
        raise ProtocolViolation("a piece of it is too large")
    data = file.read(size)
    if len(data) < size:
        raise ProtocolViolation("it is cut; export it again")
    item: _Chunks | _Group | _End = _decode(unpack(data, _MAX_PIECE))
    return item


def _take(file: BinaryIO, writer: CheckpointWriter) -> None:
    while (item := _next(file)) is not None:
        if isinstance(item, _Chunks):
            writer.add(item.digests, _cut(item))
        elif isinstance(item, _Group):
            writer.group(item.group)


def _cut(item: _Chunks) -> list[memoryview]:
    sizes = array("I", item.sizes)
    if sum(sizes) != len(item.data):
        raise ProtocolViolation("chunks of other sizes than it says")
    view, start, chunks = memoryview(item.data), 0, []
    for size in sizes:
        chunks.append(view[start : start + size])
        start += size
    return chunks
