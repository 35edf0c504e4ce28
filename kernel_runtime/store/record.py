"""A checkpoint's record in the manifest: everything but its chunks, packed, sealed and checked."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.checkpoint import About, Checkpoint, Group, Part
from kernel_runtime.domain.errors import Damaged
from kernel_runtime.store import compression

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.store.keys import Key, NoKey

_MAX_RECORD = 1 << 30


class StoredPart(msgspec.Struct, frozen=True):
    """A part with its chunks' numbers in the manifest, 8 bytes each."""

    part: Part
    chunks: bytes

    def numbers(self) -> tuple[int, ...]:
        return struct.unpack(f"<{len(self.chunks) // 8}q", self.chunks)


class StoredGroup(msgspec.Struct, frozen=True):
    number: int
    names: list[str]
    packages: dict[str, str]
    parts: list[StoredPart]

    def group(self) -> Group:
        parts = [stored.part for stored in self.parts]
        return Group(number=self.number, names=self.names, parts=parts, packages=self.packages)


class Record(msgspec.Struct, frozen=True):
    """``seed`` is what the digests were made with."""

    seed: int
    checkpoint: Checkpoint
    groups: list[StoredGroup]

    def parts(self) -> Iterator[StoredPart]:
        for group in self.groups:
            yield from group.parts


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


def pack(record: Record, key: Key | NoKey) -> tuple[bytes, bytes]:
    """The record as stored, and its digest."""
    identity = record.checkpoint.id
    data = key.seal(f"checkpoint {identity}", 0, compression.pack(_encode(record)))
    return data, hashlib.blake2b(data, digest_size=32).digest()


def unpack(identity: str, data: bytes, digest: bytes, key: Key | NoKey) -> Record:
    """What was stored; ``Damaged`` if it is not."""
    if hashlib.blake2b(data, digest_size=32).digest() != digest:
        raise Damaged(f"the record of checkpoint {identity} was altered")
    try:
        plain = key.open(f"checkpoint {identity}", 0, data)
        return _decode(compression.unpack(plain, _MAX_RECORD))
    except (msgspec.DecodeError, ValueError) as error:
        raise Damaged(f"the record of checkpoint {identity} cannot be read: {error}") from None


def nameless(
    identity: str, key: str, parent: str | None, made: float, size: int, added: int, sealed: str
) -> Checkpoint:
    """What can be said of a checkpoint without its key."""
    return Checkpoint(
        id=identity, key=key, parent=parent, label="", made=made, size=size, added=added,
        about=About(python=""), names=[], skipped={}, sealed=sealed, readable=False,
    )  # fmt: skip
