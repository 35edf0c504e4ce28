"""The host's half: whatever the peer does, it is bounded, and nothing of a broken checkpoint stays."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
import threading

import pytest

from kernel_runtime import wire
from kernel_runtime.domain.checkpoint import Group, Part, Quota
from kernel_runtime.domain.errors import Conflict, ProtocolViolation, StorageFailed
from kernel_runtime.guest.channel import Channel
from kernel_runtime.store.checkpoints import DiskStore
from kernel_runtime.store.keys import NoKey
from kernel_runtime.workers.checkpoints import SaveOrder, receive_checkpoint, send_checkpoint
from tests.store.parcels import ABOUT, add, digest, keep

MIB = 1024 * 1024


@pytest.fixture
def store(tmp_path):
    made = DiskStore(tmp_path / "store", NoKey())
    yield made
    made.close()


def chunks(*data: bytes, **other) -> wire.Chunks:
    sizes = struct.pack(f"<{len(data)}I", *map(len, data))
    return wire.Chunks(
        **{"sizes": sizes, "digests": b"".join(map(digest, data)), "data": b"".join(data), **other}
    )


def part(*data: bytes, **other) -> wire.SavedPart:
    return wire.SavedPart(**{"size": sum(map(len, data)), "digests": b"".join(map(digest, data)), **other})


HONEST = [
    chunks(b"one", b"two"),
    part(b"one", b"two"),
    wire.SavedGroup(number=0, names=["x"]),
    wire.Saved(python="3.11.7"),
]


def receive(store, frames, *, end=True, **order):
    """Let a peer send frames (raw bytes as they are) and, maybe, hang up."""
    host, guest = socket.socketpair()

    def peer():
        try:
            for frame in frames:
                guest.sendall(frame if isinstance(frame, bytes) else wire.pack(frame))
            if end:
                guest.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the host has had enough

    thread = threading.Thread(target=peer)
    thread.start()
    try:
        return asyncio.run(
            receive_checkpoint(host, store, SaveOrder(**{"key": "book", "seconds": 60, **order}))
        )
    finally:
        guest.close()
        thread.join(60)


def test_an_honest_writer_is_kept(store):
    kept = receive(store, HONEST)
    assert kept.names == ["x"] and list(store.read(kept.id, 0, 0)) == [b"one", b"two"]


def _endless():
    yield HONEST[0]
    number = 0
    while True:
        number += 1
        yield chunks(b"%d" % number * 3)


def _endless_parts():
    yield HONEST[0]
    while True:
        yield b"".join([wire.pack(HONEST[1])] * 1000)


HOSTILE = {
    "ends at once": ([], ProtocolViolation),
    "ends before it is done": (HONEST[:-1], ProtocolViolation),
    "ends in a frame": ([wire.pack(HONEST[0])[:-1]], ProtocolViolation),
    "no frame": ([b"\0\0\0\5hello"], ProtocolViolation),
    "a frame beyond the limit": ([b"\xff\xff\xff\xff"], ProtocolViolation),
    "a frame of another room": ([wire.Done(parent="x")], ProtocolViolation),
    "a chunk size that is cut": ([chunks(b"one", sizes=b"\3\0\0")], ProtocolViolation),
    "chunks that do not fill the frame": ([chunks(b"one", data=b"on")], ProtocolViolation),
    "chunks without digests": ([chunks(b"one", digests=b"")], ProtocolViolation),
    "a chunk too large": ([chunks(b"x" * 65_537)], ProtocolViolation),
    "data too large": ([chunks(*[bytes([n]) * 65_536 for n in range(65)])], ProtocolViolation),
    "a digest that never came": ([HONEST[0], part(b"never"), HONEST[2]], ProtocolViolation),
    "another size": ([HONEST[0], part(b"one", size=4), HONEST[2]], ProtocolViolation),
    "a negative size": ([wire.SavedPart(size=-1, digests=b"")], ProtocolViolation),
    "parts without a group": ([*HONEST[:2], HONEST[3]], ProtocolViolation),
    "a name too long": ([wire.SavedGroup(number=0, names=["x" * 257])], ProtocolViolation),
    "a group number out of bounds": ([wire.SavedGroup(number=2**40, names=[])], ProtocolViolation),
    "reasons too long": ([wire.Skipped(name="x", reason="y" * 2001)], ProtocolViolation),
    "a variable skipped twice": ([wire.Skipped(name="x", reason="y")] * 2, ProtocolViolation),
    "endless chunks": (_endless, StorageFailed),
    "endless bytes": (
        lambda: (chunks(os.urandom(8) + bytes(60_000)) for _ in itertools.count()),
        StorageFailed,
    ),
    "endless parts": (_endless_parts, ProtocolViolation),
    "endless skips": (
        lambda: (wire.Skipped(name=f"v{n}", reason="") for n in itertools.count()),
        StorageFailed,
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_writer_ends_with_an_error_and_nothing_is_kept(store, what):
    frames, error = HOSTILE[what]
    quota = Quota(bytes=20 * MIB, chunks=3000, names=1000)
    with pytest.raises(error):
        receive(store, frames() if callable(frames) else frames, quota=quota)
    assert store.checkpoints() == []
    assert list(store.packs.iterdir()) == []
    assert receive(store, HONEST).names == ["x"]


def test_a_writer_that_says_nothing_is_not_waited_for(store):
    with pytest.raises(Conflict, match="longer"):
        receive(store, HONEST[:2], end=False, seconds=0.2)
    assert list(store.packs.iterdir()) == []


def test_giving_up_leaves_nothing(store):
    async def give_up():
        host, guest = socket.socketpair()
        guest.sendall(wire.pack(chunks(os.urandom(60_000), os.urandom(60_000))))
        task = asyncio.create_task(receive_checkpoint(host, store, SaveOrder(key="book")))
        while not list(store.packs.iterdir()):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        guest.close()

    asyncio.run(give_up())
    assert list(store.packs.iterdir()) == [] and store.checkpoints() == []


def test_chunks_of_another_session_cannot_be_named(store):
    """What the host knows of one key is no one else's: a guest would restore what is not its own."""
    secret = b"the other's secret"
    keep(store, {"secret": secret}, key="other")
    with pytest.raises(ProtocolViolation, match="never came"):
        receive(store, [part(secret), *HONEST[2:]])
    keep(store, {"mine": secret})
    assert receive(store, [part(secret), *HONEST[2:]]).names == ["x"]  # the control: its own


def _restore(store, identity, answer, **how):
    """Let a peer read all it is sent, then answer."""
    host, guest = socket.socketpair()
    seen = []

    def peer():
        channel = Channel(guest, wire.decode_to_loader)
        order = channel.receive()
        seen.append(order)
        try:
            answer(channel, order, seen)
            guest.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the host has had enough

    thread = threading.Thread(target=peer)
    thread.start()
    try:
        return asyncio.run(send_checkpoint(host, store, identity, seconds=60, **how)), seen
    finally:
        thread.join(60)
        guest.close()


def _take(channel, order, seen):
    for _ in range(order.groups):
        group = channel.receive()
        seen.append(group)
        left = sum(spot.size for spot in group.parts if spot.offset < 0)
        while left:
            left -= len(channel.receive().data)


def _says(*frames):
    def answer(channel, order, seen):
        _take(channel, order, seen)
        for frame in frames:
            channel.send(frame)

    return answer


def test_a_large_buffer_lies_in_the_arena_sealed(store):
    data = os.urandom(60_000) * 5
    writer = store.begin("book")
    pieces = [data[:60_000]]
    add(writer, *pieces)
    digests = digest(pieces[0])
    parts = [
        Part(size=60_000, digests=digests),
        Part(size=300_000, digests=digests * 5),
        Part(size=60_000, digests=digests),
    ]
    writer.group(Group(number=1, names=["x"], parts=parts))
    kept = writer.commit(ABOUT)

    def answer(channel, order, seen):
        (fd,) = channel.take_fds(1)
        _take(channel, order, seen)
        spot = seen[1].parts[1]
        assert [one.offset < 0 for one in seen[1].parts] == [True, False, True]
        seen.append(os.pread(fd, spot.size, spot.offset))
        for change in (lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 0)):
            with pytest.raises(OSError, match="not permitted"):
                change()
        os.close(fd)
        channel.send(wire.Loaded(names=["x"]))
        channel.send(wire.LoadEnded())

    restored, seen = _restore(store, kept.id, answer)
    assert restored.names == ["x"] and seen[-1] == data


ANSWERS = {
    "nothing": (),
    "a name it was not sent": (wire.Loaded(names=["y"]), wire.LoadEnded()),
    "a name twice": (wire.Loaded(names=["x"]), wire.NotLoaded(name="x", reason=""), wire.LoadEnded()),
    "another frame": (wire.Done(parent="x"),),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_hostile_answer_is_refused(store, what):
    kept = keep(store, {"x": b"1"})
    with pytest.raises(ProtocolViolation):
        _restore(store, kept.id, _says(*ANSWERS[what]))
    restored, _ = _restore(store, kept.id, _says(wire.Loaded(names=["x"]), wire.LoadEnded()))
    assert restored.names == ["x"]


def test_a_branch_that_does_not_fit_says_why(store):
    kept = keep(store, {"x": b"1"})
    with pytest.raises(Conflict, match=r"another Python; force=True \(--force\)"):
        _restore(store, kept.id, lambda channel, *_: channel.send(wire.Unfit(reasons=["another Python"])))
