"""The host's half of saving and restoring: frames of a hostile writer into a store, and back.

The work is done in a thread: hashing, compressing and the disk must not hold up the event loop.
The peer has one deadline for all of it. The host never unpickles; it moves bytes and names.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from kernel_runtime import wire
from kernel_runtime.domain.amounts import KIB, MIB
from kernel_runtime.domain.checkpoint import DIGEST, About, Group, Part, Quota
from kernel_runtime.domain.errors import Conflict, ProtocolViolation, StorageFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import msgspec

    from kernel_runtime.domain.checkpoint import Checkpoint
    from kernel_runtime.ports import CheckpointStore, CheckpointWriter

T = TypeVar("T")
#: Buffers of at least this are mapped by the guest, smaller ones sent.
MAPPED = 256 * KIB
_SECONDS = 600.0
_CHUNK = 1 * MIB
_PIECE = 1 * MIB
_PAGE = 4096
_KNOWN_AT_ONCE = 1024 * 1024  # digests, of 16 bytes


@dataclass(frozen=True, kw_only=True)
class SaveOrder:
    """What to save as: ``key`` is the session or notebook, ``parent`` None the newest of it. ``clean``: what takes
    secrets out of the guest's reasons."""

    key: str
    parent: str | None = None
    label: str = ""
    leave_out: tuple[str, ...] = ()
    quota: Quota = field(default_factory=Quota)
    seconds: float = _SECONDS
    clean: Callable[[str], str] = str


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What is back, and what is not, with the reason. ``id``: of which checkpoint; ``of``: the session or notebook that
    it is of, where that is another one than asked ("" where it is not). ``unkept``: why ``undo`` cannot take the
    loading back ("" where it can).
    """

    names: list[str]
    failed: dict[str, str]
    id: str = ""
    of: str = ""
    unkept: str = ""


async def receive_checkpoint(sock: socket.socket, store: CheckpointStore, order: SaveOrder) -> Checkpoint:
    """Order the writer at ``sock`` to save, and keep what it sends; ``sock`` is closed.

    ``ProtocolViolation``: the writer broke the protocol or ended too early. ``Conflict``: it took
    longer than ``order.seconds``. ``StorageFailed``: the disk, or the quota. Nothing is kept then.
    """
    return await _in_thread(sock, lambda: _receive(sock, store, order))


async def send_checkpoint(
    sock: socket.socket,
    store: CheckpointStore,
    identity: str,
    *,
    names: Iterable[str] | None = None,
    force: bool = False,
    seconds: float = _SECONDS,
) -> Restored:
    """Send a checkpoint to the branch at ``sock``, which loads it; ``sock`` is closed.

    ``names``: only these variables. ``Conflict``: another Python or other packages (``force`` loads
    all the same), or time is up. ``Damaged``: something of it is lost, and nothing was loaded.
    """
    wanted = None if names is None else set(names)
    return await _in_thread(sock, lambda: _send(sock, store, identity, wanted, force, seconds))


async def _in_thread(sock: socket.socket, work: Callable[[], T]) -> T:
    task = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        _hang_up(sock)  # the thread sees the end, and what it had begun is undone
        await asyncio.wait([task])
        task.exception()  # what it met is the hanging up
        raise
    finally:
        sock.close()


def _hang_up(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class _Peer:
    """Frames of one guest, within one deadline. Descriptors that it sends are not taken."""

    def __init__(
        self, sock: socket.socket, decoder: msgspec.msgpack.Decoder[Any], seconds: float, limit: int
    ) -> None:
        self._socket = sock
        self._reader = wire.FrameReader(decoder, limit)
        self._frames = self._reader.frames()
        self._deadline = time.monotonic() + seconds

    def send(self, frame: wire.Frame, fd: int | None = None) -> None:
        data = memoryview(wire.pack(frame))
        while data:
            self._hurry()
            try:
                sent = (
                    socket.send_fds(self._socket, [data], [fd]) if fd is not None else self._socket.send(data)
                )
            except TimeoutError:
                continue
            except OSError as error:
                raise ProtocolViolation(f"the guest ended before it was done ({error.strerror})") from None
            data, fd = data[sent:], None

    def receive(self) -> Any:
        while True:
            frame = next(self._frames, None)
            if frame is not None:
                return frame
            data = self._read()
            if not data:
                raise ProtocolViolation("the guest ended before it was done")
            self._reader.feed(data)
            self._frames = self._reader.frames()

    def _read(self) -> bytes:
        while True:
            self._hurry()
            try:
                return self._socket.recv(_CHUNK)
            except TimeoutError:
                continue
            except OSError:
                return b""

    def _hurry(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Conflict("the checkpoint took longer than it was given")
        self._socket.settimeout(left)


# -- saving -----------------------------------------------------------------------------------


def _receive(sock: socket.socket, store: CheckpointStore, order: SaveOrder) -> Checkpoint:
    peer = _Peer(sock, wire.decode_from_writer, order.seconds, wire.MAX_FRAME)
    writer = store.begin(order.key, parent=order.parent, label=order.label, quota=order.quota)
    try:
        peer.send(wire.Save(seed=writer.seed, leave_out=list(order.leave_out)))
        _send_known(peer, writer.known())
        about = _take_all(peer, writer, order.clean)
        return writer.commit(about)
    except BaseException:
        writer.abort()
        raise


def _send_known(peer: _Peer, known: bytes) -> None:
    step = _KNOWN_AT_ONCE * DIGEST
    for start in range(0, max(len(known), 1), step):
        peer.send(wire.Known(digests=known[start : start + step], last=start + step >= len(known)))


def _take_all(peer: _Peer, writer: CheckpointWriter, clean: Callable[[str], str]) -> About:
    parts: list[Part] = []
    while True:
        frame = peer.receive()
        if isinstance(frame, wire.Chunks):
            writer.add(frame.digests, _cut(frame))
        elif isinstance(frame, wire.SavedPart):
            parts.append(Part(size=frame.size, digests=frame.digests, readonly=frame.readonly))
            _check_parts(parts)
        elif isinstance(frame, wire.SavedGroup):
            group = Group(number=frame.number, names=frame.names, parts=parts, packages=frame.packages)
            writer.group(group)
            parts = []
        elif isinstance(frame, wire.Skipped):
            writer.skip(frame.name, clean(frame.reason))
        elif parts:
            raise ProtocolViolation("parts without a group")
        else:
            return About(python=frame.python, packages=frame.packages)


_MAX_PARTS, _MAX_DIGESTS = 200_000, 512 * MIB


def _check_parts(parts: list[Part]) -> None:
    """What waits for its group is bounded: a frame of it alone would not end a flood."""
    if len(parts) > _MAX_PARTS or (
        len(parts[-1].digests) > MIB and sum(len(p.digests) for p in parts) > _MAX_DIGESTS
    ):
        raise ProtocolViolation("a group of too many parts")


def _cut(frame: wire.Chunks) -> list[memoryview]:
    """A frame's data as its chunks; they must fill it."""
    if len(frame.sizes) % 4:
        raise ProtocolViolation("a chunk's size is cut")
    sizes = struct.unpack(f"<{len(frame.sizes) // 4}I", frame.sizes)
    if sum(sizes) != len(frame.data):
        raise ProtocolViolation(f"chunks of {sum(sizes)} bytes in a frame of {len(frame.data)}")
    view, start, chunks = memoryview(frame.data), 0, []
    for size in sizes:
        chunks.append(view[start : start + size])
        start += size
    return chunks


# -- restoring ---------------------------------------------------------------------------------


def _send(
    sock: socket.socket,
    store: CheckpointStore,
    identity: str,
    wanted: set[str] | None,
    force: bool,
    seconds: float,
) -> Restored:
    about = store.checkpoint(identity).about
    groups = [group for group in store.groups(identity) if group.is_wanted(wanted)]
    arena = _Arena(store, identity, groups)
    try:
        peer = _Peer(sock, wire.decode_from_loader, seconds, wire.MAX_FRAME)
        order = wire.Load(
            groups=len(groups), arena=arena.size, python=about.python, packages=about.packages, force=force
        )
        peer.send(order, arena.fd if arena.size else None)
        try:
            _send_groups(peer, store, identity, groups, wanted, arena)
        except ProtocolViolation:  # it may have said why before it stopped reading
            return _results(peer, groups)
        return _results(peer, groups)
    finally:
        arena.close()


def _send_groups(
    peer: _Peer,
    store: CheckpointStore,
    identity: str,
    groups: list[Group],
    wanted: set[str] | None,
    arena: _Arena,
) -> None:
    for group in groups:
        names = [name for name in group.names if wanted is None or name in wanted]
        peer.send(wire.LoadGroup(number=group.number, names=names, parts=arena.spots[group.number]))
        for place, spot in enumerate(arena.spots[group.number]):
            if spot.offset < 0:
                _send_part(peer, store.read(identity, group.number, place))


def _send_part(peer: _Peer, chunks: Iterable[bytes]) -> None:
    waiting, size = [], 0
    for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= _PIECE:
            peer.send(wire.Piece(data=b"".join(waiting)))
            waiting, size = [], 0
    if waiting:
        peer.send(wire.Piece(data=b"".join(waiting)))


class _Arena:
    """Large buffers in one file in memory, each at a page of its own; sealed when it is full."""

    def __init__(self, store: CheckpointStore, identity: str, groups: list[Group]) -> None:
        self.size = 0
        self.spots: dict[int, list[wire.Spot]] = {}
        self.fd = os.memfd_create("checkpoint", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            for group in groups:
                self.spots[group.number] = [
                    self._place(store, identity, group, place, part) for place, part in enumerate(group.parts)
                ]
            _seal(self.fd)
        except BaseException:
            self.close()
            raise

    def _place(
        self, store: CheckpointStore, identity: str, group: Group, place: int, part: Part
    ) -> wire.Spot:
        if place == 0 or part.size < MAPPED:
            return wire.Spot(part.size, -1, part.readonly)
        offset = self.size
        at = offset
        for chunk in store.read(identity, group.number, place):
            at += self._write(chunk, at)
        self.size = -(-at // _PAGE) * _PAGE
        return wire.Spot(part.size, offset, part.readonly)

    def _write(self, chunk: bytes, at: int) -> int:
        try:
            return os.pwrite(self.fd, chunk, at)
        except OSError as error:
            raise StorageFailed(f"no memory for the checkpoint: {error.strerror}") from None

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _seal(fd: int) -> None:
    """Nobody can change or cut it from now on: a cut would kill whoever has mapped it."""
    import fcntl

    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


def _results(peer: _Peer, groups: list[Group]) -> Restored:
    """What the guest says; about names that it was sent, and no others."""
    expected = {name for group in groups for name in group.names}
    names: list[str] = []
    failed: dict[str, str] = {}
    while not isinstance(frame := peer.receive(), wire.LoadEnded):
        if isinstance(frame, wire.Unfit):
            reasons = "; ".join(frame.reasons)
            raise Conflict(
                f"the checkpoint does not fit here: {reasons}; force=True (--force) loads it all the same"
            )
        said = frame.names if isinstance(frame, wire.Loaded) else [frame.name]
        if not expected.issuperset(said):
            raise ProtocolViolation("the guest restored a variable that it was not sent, or one twice")
        expected.difference_update(said)
        if isinstance(frame, wire.Loaded):
            names += frame.names
        else:
            failed[frame.name] = frame.reason
    return Restored(names=sorted(names), failed=failed)
