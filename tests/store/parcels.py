"""What a writer would send, made by hand: chunks by digest, groups of parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.domain.checkpoint import About, Checkpoint, Group, Part

if TYPE_CHECKING:
    from kernel_runtime.ports import CheckpointStore, CheckpointWriter

ABOUT = About(python="3.11.7", packages={"numpy": "2.4.6"})


def digest(data: bytes) -> bytes:
    """Any 16 bytes do: the store does not know how a guest makes them."""
    return (b"%d:" % len(data) + data).ljust(16, b".")[:16] if len(data) < 13 else data[:8] + data[-8:]


def part(*chunks: bytes) -> Part:
    return Part(size=sum(map(len, chunks)), digests=b"".join(map(digest, chunks)))


def add(writer: CheckpointWriter, *chunks: bytes) -> None:
    writer.add(b"".join(map(digest, chunks)), [memoryview(chunk) for chunk in chunks])


def group(number: int, names: list[str], *parts: Part) -> Group:
    return Group(number=number, names=names, parts=list(parts), packages={"numpy": "2.4.6"})


def keep(
    store: CheckpointStore, values: dict[str, bytes], key: str = "book", **how: str | None
) -> Checkpoint:
    """A checkpoint of one group a variable; what the parent has does not come again."""
    writer = store.begin(key, **how)
    known = writer.known()
    have = {known[start : start + 16] for start in range(0, len(known), 16)}
    for value in values.values():
        if digest(value) not in have:
            have.add(digest(value))
            add(writer, value)
    for number, (name, value) in enumerate(values.items(), 1):
        writer.group(group(number, [name], part(value)))
    return writer.commit(ABOUT)


def content(store: CheckpointStore, identity: str) -> dict[str, bytes]:
    """What ``keep`` was given."""
    return {
        name: b"".join(store.read(identity, one.number, 0))
        for one in store.groups(identity)
        for name in one.names
    }
