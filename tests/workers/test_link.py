"""The host's end of a socket whose other end is hostile."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime import wire
from kernel_runtime.workers import link as links
from kernel_runtime.workers.link import Link, Pipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.errors import ProtocolViolation


class Peer:
    """A link whose frames and end are collected, and the plain socket at its other end."""

    def __init__(self, **options: Any) -> None:
        host, self.socket = socket.socketpair()
        self.frames: list[Any] = []
        self.ended: asyncio.Future[ProtocolViolation | None] = asyncio.get_running_loop().create_future()
        self.link = Link(host, wire.decode_from_branch, self.frames.append, self.ended.set_result, **options)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()
        self.socket.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.001)


def test_a_close_between_frames_is_an_end_without_fault() -> None:
    async def story() -> None:
        with Peer() as peer:
            peer.socket.sendall(wire.pack(wire.Done(parent="1")))
            peer.socket.close()
            assert await peer.ended is None
            assert peer.frames == [wire.Done(parent="1")]
            assert peer.link.closed

    asyncio.run(story())


def test_descriptors_that_nobody_wants_any_more_are_closed() -> None:
    async def story() -> None:
        with Peer(takes_fds=True) as peer:
            data = wire.pack(wire.Done(parent="1"))
            ends = os.pipe(), os.pipe()
            for count, (reading, writing) in enumerate(ends, 1):
                socket.send_fds(peer.socket, [data], [writing])
                os.close(writing)
                await peer.until(lambda count=count: len(peer.frames) == count)
                assert len(peer.link.fds) == (count == 1)
                peer.link.take_no_fds()
                assert os.read(reading, 1) == b"", "ours was the last writing end, and it is closed"
                os.close(reading)

    asyncio.run(story())


def test_a_close_inside_a_frame_is_a_violation() -> None:
    async def story() -> None:
        with Peer() as peer:
            peer.socket.sendall(wire.pack(wire.Done(parent="1"))[:-1])
            peer.socket.close()
            error = await peer.ended
            assert "into a frame" in str(error)

    asyncio.run(story())


@pytest.mark.parametrize("data", [b"\xff" * 8, struct.pack(">I", 3) + b"abc", struct.pack(">I", 0)])
def test_garbage_is_a_violation_and_ends_the_link(data: bytes) -> None:
    async def story() -> None:
        with Peer() as peer:
            peer.socket.sendall(wire.pack(wire.Done(parent="1")) + data + wire.pack(wire.Done(parent="2")))
            assert await peer.ended is not None
            assert peer.frames == [wire.Done(parent="1")], "nothing after the garbage is believed"
            peer.link.send(wire.Answer(id="1", text=""))  # closed: nothing happens

    asyncio.run(story())


def test_frames_faster_than_the_rate_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 frames beyond the burst at 1,000 a second take 0.2 s, and none is lost."""
    monkeypatch.setattr(links, "BURST", 100)
    monkeypatch.setattr(links, "RATE", 1000)

    async def story() -> float:
        with Peer() as peer:
            begun = asyncio.get_running_loop().time()
            for number in range(3):
                peer.socket.sendall(b"".join(wire.pack(wire.Done(parent=str(n))) for n in range(100)))
                await peer.until(lambda expected=100 * (number + 1): len(peer.frames) == expected)
            peer.link.close()
            return asyncio.get_running_loop().time() - begun

    assert asyncio.run(story()) > 0.09


def test_a_peer_that_does_not_read_does_not_block_the_host() -> None:
    async def story() -> None:
        with Peer() as peer:
            text = "x" * 1_000_000
            for _ in range(5):
                peer.link.send(wire.Answer(id="1", text=text))
            received = wire.FrameReader(wire.decode_to_branch)
            peer.socket.setblocking(False)
            answers: list[wire.Answer] = []
            async with asyncio.timeout(60):
                while len(answers) < 5:
                    received.feed(await asyncio.get_running_loop().sock_recv(peer.socket, 1 << 16))
                    answers.extend(received.frames())
            assert all(answer.text == text for answer in answers)
            peer.link.close()

    asyncio.run(story())


def test_descriptors_of_a_peer_are_closed_with_the_link() -> None:
    async def story() -> None:
        with Peer(takes_fds=True) as peer:
            read, write = os.pipe()
            socket.send_fds(peer.socket, [wire.pack(wire.Done(parent="1"))], [write])
            os.close(write)
            await peer.until(lambda: bool(peer.frames))
            assert len(peer.link.fds) == 1
            peer.link.close()
            assert os.read(read, 1) == b"", "the passed end was the last one open"
            os.close(read)

    asyncio.run(story())


def test_a_pipe_hands_over_text_whole_across_split_characters() -> None:
    async def story() -> None:
        read, write = os.pipe()
        texts: list[str] = []
        pipe = Pipe(read, texts.append)
        snowman = "☃".encode()
        os.write(write, b"a" + snowman[:1])
        await asyncio.sleep(0.05)
        os.write(write, snowman[1:] + b"\xff")
        os.close(write)
        async with asyncio.timeout(60):
            while not pipe.closed:
                await asyncio.sleep(0.001)
        assert "".join(texts) == "a☃\ufffd"

    asyncio.run(story())


def test_a_peer_that_does_not_read_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_WAITING", 1_000_000)

    async def story() -> None:
        with Peer() as peer:
            for _ in range(50):
                peer.link.send(wire.Answer(id="1", text="x" * 100_000))
            assert "unread" in str(await asyncio.wait_for(peer.ended, 60))
            assert peer.link.closed

    asyncio.run(story())


def test_what_a_frame_sets_off_ends_the_link_with_a_reason() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        told: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: told.append(context))
        host, guest = socket.socketpair()
        ended: asyncio.Future[ProtocolViolation | None] = loop.create_future()
        Link(host, wire.decode_from_branch, lambda _: {}["text"], ended.set_result)
        with guest:
            guest.sendall(wire.pack(wire.Done(parent="1")))
            assert "KeyError" in str(await asyncio.wait_for(ended, 60))
        assert isinstance(told[0]["exception"], KeyError)

    asyncio.run(story())


def test_draining_does_not_wait_for_a_writer_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_LAST_CHUNKS", 3)

    async def story() -> None:
        with Peer() as peer:
            monkeypatch.setattr(peer.link, "_receive", lambda: wire.pack(wire.Done(parent="1")))
            peer.link.drain()
            assert len(peer.frames) == 3
            peer.link.close()
            peer.link.drain()  # nothing more happens
            assert len(peer.frames) == 3

    asyncio.run(story())


def test_frames_that_take_the_host_long_are_read_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a frame costs the host is charged to its guest: for as long again nothing of it is read."""

    async def story() -> list[float]:
        loop = asyncio.get_running_loop()
        clock = [100.0]
        waits: list[float] = []
        with Peer() as peer:
            monkeypatch.setattr(loop, "time", lambda: clock[0])
            monkeypatch.setattr(loop, "call_later", lambda wait, _: waits.append(wait))
            for cost in (0.01, 3.0):
                monkeypatch.setattr(
                    peer.link, "_on_frame", lambda _, cost=cost: clock.__setitem__(0, clock[0] + cost)
                )
                peer.link._deliver(wire.pack(wire.Done(parent="1")))
            monkeypatch.undo()
        return waits

    assert asyncio.run(story()) == [pytest.approx(3.0)]


@pytest.mark.parametrize("holds", [1, 2])
def test_who_works_on_a_frame_holds_the_others_back_in_their_order(holds: int) -> None:
    """Those that were read along with it, and those that were not read yet."""

    async def story() -> None:
        with Peer() as peer:
            peer.link._on_frame = lambda frame: _take(frame, peer, holds)
            frames = [wire.Done(parent=str(number)) for number in range(4)]
            peer.socket.sendall(b"".join(map(wire.pack, frames[:3])))
            await peer.until(lambda: bool(peer.frames))
            peer.socket.sendall(wire.pack(frames[3]))
            for _ in range(20):
                await asyncio.sleep(0)
            assert peer.frames == frames[:1]
            for left in range(holds, 0, -1):
                assert peer.frames == frames[:1], left
                peer.link.go_on()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await peer.until(lambda: len(peer.frames) == 4)
            assert peer.frames == frames

    asyncio.run(story())


def _take(frame: wire.Done, peer: Peer, holds: int) -> None:
    peer.frames.append(frame)
    for _ in range(holds if frame.parent == "0" else 0):
        peer.link.hold()


def test_last_words_are_not_held_back() -> None:
    async def story() -> None:
        with Peer() as peer:
            peer.link._on_frame = lambda frame: _take(frame, peer, 1)
            peer.socket.sendall(b"".join(wire.pack(wire.Done(parent=str(number))) for number in range(3)))
            await peer.until(lambda: bool(peer.frames))
            assert len(peer.frames) == 1
            peer.link.drain()
            assert len(peer.frames) == 3
            peer.link.close()
            peer.link.go_on()  # nothing more happens
            await asyncio.sleep(0)
            assert len(peer.frames) == 3

    asyncio.run(story())


def test_a_link_reads_no_longer_than_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others come between the chunks of a guest whose frames take long."""
    monkeypatch.setattr(links, "_CHUNK", 16)
    monkeypatch.setattr(links, "_TURN_SECONDS", -1.0)

    async def story() -> None:
        with Peer() as peer:
            peer.socket.sendall(b"".join(wire.pack(wire.Done(parent=str(number))) for number in range(30)))
            turns = []
            while len(peer.frames) < 30:
                await asyncio.sleep(0)
                turns.append(len(peer.frames))
            assert max(b - a for a, b in itertools.pairwise(turns)) <= 2

    asyncio.run(story())


class Asking(Peer):
    """It asks again as soon as it is answered; ``answers``: whether it is."""

    def __init__(self, *, answers: bool) -> None:
        super().__init__()
        self._answers = answers
        self.link._on_frame = self._on_frame
        self.ask()

    def ask(self) -> None:
        self.socket.sendall(wire.pack(wire.Done(parent=str(len(self.frames)))))

    def _on_frame(self, frame: wire.Done) -> None:
        self.frames.append(frame)
        if self._answers:
            self.link.send(wire.Go())
        if len(self.frames) < 10:
            self.ask()


@pytest.mark.parametrize(
    ("answers", "seconds", "most"), [(True, 60.0, 10), (True, -1.0, 1), (False, 60.0, 1)]
)
def test_who_asks_again_when_it_is_answered_is_read_on_for_a_while(
    answers: bool, seconds: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then others have a turn; and between what needs no answer they have one each time."""
    monkeypatch.setattr(links, "_ROW_SECONDS", seconds)

    async def story() -> list[int]:
        with Asking(answers=answers) as peer:
            turns = [0]
            while len(peer.frames) < 10:
                await asyncio.sleep(0)
                turns.append(len(peer.frames))
            return turns

    assert max(b - a for a, b in itertools.pairwise(asyncio.run(story()))) == most
