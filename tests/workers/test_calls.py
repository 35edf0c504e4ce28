"""Calls of a branch on the host's side: answered, bounded, stopped; whatever a hostile branch sends."""

from __future__ import annotations

import asyncio
import itertools
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime import wire
from kernel_runtime.domain import packed
from kernel_runtime.domain.errors import CapabilityDenied, NotFound, ProtocolViolation
from kernel_runtime.workers import calls as module
from kernel_runtime.workers.calls import Calls
from tests.workers.holding import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Link(Held):
    """Keeps what is sent; ``full``: how often descriptors find no room. Each call comes in a chunk of its own, but
    where ``chunk`` is given."""

    def __init__(self, full: int = 0, chunk: int | None = None) -> None:
        super().__init__()
        self._chunks = itertools.count(1)
        self.chunk = chunk
        self.sent: list[wire.Called] = []
        self.beside: list[bytes] = []
        self._full = full

    @property
    def chunks(self) -> int:
        return next(self._chunks) if self.chunk is None else self.chunk

    def send(self, frame: wire.Called, fds: list[int] | None = None) -> None:
        if fds and self._full:
            self._full -= 1
            raise BlockingIOError
        self.sent.append(frame)
        self.beside += [os.read(fd, 100) for fd in fds or ()]


class Broker:
    """``echo`` gives its arguments back, ``wait`` waits, ``open`` opens, others fail in their way."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.go = asyncio.Event()

    async def call(self, capability: str, action: str, arguments: dict[str, Any], parent: str) -> Any:
        if action == "wait":
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if action == "open":
            read, write = os.pipe()
            os.write(write, b"inside")
            os.close(write)
            return SimpleNamespace(value=None, descriptors=(read,))
        if action == "stop":
            raise asyncio.CancelledError
        if action in _ERRORS:
            raise _ERRORS[action]
        value = object() if action == "odd" else arguments
        return SimpleNamespace(value=value, descriptors=())

    async def close(self) -> None: ...


_ERRORS: dict[str, Exception] = {
    "deny": CapabilityDenied("ask for cache"),
    "lose": NotFound("nothing"),
    "crash": ZeroDivisionError("a secret"),
}


def call(number: int, action: str = "echo", data: bytes | None = None, **arguments: Any) -> wire.Call:
    body = packed.pack(arguments) if data is None else data
    return wire.Call(id=number, capability="test", action=action, arguments=body)


def run(test: Callable[[Calls, Link, Broker], Any], link: Link | None = None) -> None:
    async def within() -> None:
        mine, broker = link or Link(), Broker()
        await test(Calls(mine, lambda: broker), mine, broker)

    asyncio.run(within())


def test_of_what_comes_together_only_the_first_is_begun_before_all_else() -> None:
    async def test(calls: Calls, link: Link, _: Broker) -> None:
        calls.begin(call(1))
        await settled(calls)
        link.chunk = 8
        for number in (2, 3, 4):
            calls.begin(call(number))
        assert [frame.id for frame in link.sent] == [1, 2]
        await settled(calls)
        assert [frame.id for frame in link.sent] == [1, 2, 3, 4]

    run(test, Link(chunk=7))


async def settled(calls: Calls) -> None:
    while len(calls):
        await asyncio.sleep(0)


async def weighed(link: Link) -> None:
    while link.holds:
        await asyncio.sleep(0)


def test_answers_come_as_they_are_made() -> None:
    async def test(calls: Calls, link: Link, broker: Broker) -> None:
        calls.begin(call(1, "wait"))
        calls.begin(call(2, x=[1, b"\x00"]))
        while not link.sent:
            await asyncio.sleep(0)
        broker.go.set()
        await settled(calls)
        assert [frame.id for frame in link.sent] == [2, 1]
        assert packed.unpack_answer(link.sent[0].value) == {"x": [1, b"\x00"]}

    run(test)


def test_errors_are_told_by_kind_and_faults_only_as_such(caplog: pytest.LogCaptureFixture) -> None:
    async def test(calls: Calls, link: Link, broker: Broker) -> None:
        for number, action in enumerate(("deny", "lose", "crash", "stop", "odd"), 1):
            calls.begin(call(number, action))
        await settled(calls)
        told = {frame.id: (frame.error, frame.text) for frame in link.sent}
        assert told[1] == ("CapabilityDenied", "ask for cache")
        assert told[2] == ("NotFound", "nothing")
        assert (
            told[3] == told[5] == ("KernelRuntimeError", "the host could not answer, by a fault of its own")
        )
        assert told[4] == ("KernelRuntimeError", "the host stopped it")
        assert "a secret" not in str(link.sent)

    run(test)


@pytest.mark.parametrize(
    ("numbers", "why"), [([1, 1], "numbers only rise"), ([5, 3], "numbers only rise")], ids=str
)
def test_replays_and_what_is_out_of_order_are_violations(numbers: list[int], why: str) -> None:
    async def test(calls: Calls, link: Link, broker: Broker) -> None:
        calls.begin(call(numbers[0]))
        with pytest.raises(ProtocolViolation, match=why):
            calls.begin(call(numbers[1]))
        calls.begin(call(6))  # the control: one that is higher
        await settled(calls)
        assert [frame.id for frame in link.sent] == [numbers[0], 6]

    run(test)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xc1", "data"),
        (b"\x91" * 100, "nested deeper"),
        (packed.pack([1]), "no names"),
        (b"\x81\x01\x01", "no names"),
        (b"\x80\x80", "data"),
    ],
    ids=repr,
)
def test_nonsense_is_a_violation(data: bytes, why: str) -> None:
    async def test(calls: Calls, link: Link, broker: Broker) -> None:
        with pytest.raises(ProtocolViolation, match=why):
            calls.begin(call(1, data=data))
        assert len(calls) == 0

    run(test)


@pytest.mark.parametrize("made", [0, 1])
def test_what_was_never_asked_cannot_be_withdrawn(made: int) -> None:
    async def test(calls: Calls, link: Link, broker: Broker) -> None:
        if made:
            calls.begin(call(made))
        with pytest.raises(ProtocolViolation, match="before it was made"):
            calls.withdraw(made + 1)
        await settled(calls)

    run(test)


def test_an_answered_call_cannot_be_made_again_and_a_late_withdrawal_is_harmless() -> None:
    async def test(calls: Calls, link: Link, broker: Broker) -> None:
        calls.begin(call(1))
        await settled(calls)
        calls.withdraw(1)
        calls.withdraw(1)
        with pytest.raises(ProtocolViolation):
            calls.begin(call(1))
        assert len(link.sent) == 1

    run(test)


def test_a_flood_is_answered_and_waits_nowhere() -> None:
    async def test(calls: Calls, link: Link, broker: Broker) -> None:
        for number in range(1, 3 * module.MAX_IN_FLIGHT):
            calls.begin(call(number, "wait"))
        assert len(calls) == module.MAX_IN_FLIGHT
        assert {frame.error for frame in link.sent} == {"Conflict"}
        assert len(link.sent) == 2 * module.MAX_IN_FLIGHT - 1
        broker.go.set()
        await settled(calls)
        calls.begin(call(3 * module.MAX_IN_FLIGHT))
        await settled(calls)
        assert link.sent[-1].error == ""  # afterwards there is room again

    run(test)


def test_bytes_in_flight_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10_000)

    async def test(calls: Calls, link: Link, broker: Broker) -> None:
        for number in range(1, 6):
            calls.begin(call(number, "wait", x=bytes(3000)))
        assert (len(calls), [frame.id for frame in link.sent]) == (3, [4, 5])
        broker.go.set()
        await settled(calls)

    run(test)


def test_what_arguments_take_in_memory_counts_not_what_they_take_on_the_way() -> None:
    async def test(calls: Calls, link: Link, broker: Broker) -> None:
        for number in range(1, 8):
            calls.begin(call(number, "wait", x=[[]] * 190_000))  # 190 kB, 15 MB when they are made
            await weighed(link)
        assert (len(calls), [frame.id for frame in link.sent]) == (4, [5, 6, 7])
        broker.go.set()
        await settled(calls)
        calls.begin(call(8, x=[[]] * 190_000))
        await weighed(link)
        await settled(calls)
        assert link.sent[-1].error == ""

    run(test)


def test_what_is_withdrawn_or_left_behind_is_stopped() -> None:
    async def test(calls: Calls, link: Link, broker: Broker) -> None:
        for number in range(1, 6):
            calls.begin(call(number, "wait"))
        await asyncio.sleep(0)
        calls.withdraw(3)
        await asyncio.sleep(0.0)
        calls.close()
        await settled(calls)
        assert (broker.cancelled, link.sent) == (5, [])

    run(test)


def test_descriptors_wait_for_room_and_ours_are_closed() -> None:
    before = set(os.listdir("/proc/self/fd"))

    async def test(calls: Calls, link: Link, broker: Broker) -> None:
        calls.begin(call(1, "open"))
        await settled(calls)
        assert (link.sent[0].descriptor, link.beside) == (True, [b"inside"])

    run(test, Link(full=2))
    assert set(os.listdir("/proc/self/fd")) == before


MUCH = {"x": [[1]] * 90_000}


def test_arguments_of_many_values_are_weighed_in_steps_between_which_others_have_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No more than ``STEP`` values at a time, and a turn of everybody else's between."""
    walks: list[int] = []
    walked = packed.walked

    def counted(data: bytes) -> Generator[None, None, int]:
        walk = walked(data)
        while True:
            walks.append(1)
            try:
                next(walk)
            except StopIteration as end:
                return int(end.value)
            yield

    frame = call(1, **MUCH)
    monkeypatch.setattr(packed, "walked", counted)

    async def test(calls: Calls, link: Link, _: Broker) -> None:
        calls.begin(frame)
        assert (len(walks), link.holds, len(calls)) == (1, 1, 0)
        seen = [len(walks)]
        while link.holds:
            await asyncio.sleep(0)
            seen.append(len(walks))
        assert max(b - a for a, b in itertools.pairwise(seen)) == 1
        assert len(walks) >= 180_000 // packed.STEP
        await settled(calls)
        assert packed.unpack_answer(link.sent[0].value) == MUCH

    run(test)


def test_what_one_step_is_enough_for_is_begun_at_once() -> None:
    """Also a large one, where it is one value."""

    async def test(calls: Calls, link: Link, broker: Broker) -> None:
        calls.begin(call(1, "wait", x=bytes(10_000_000)))
        calls.begin(call(2, "wait", x=list(range(2000))))
        assert (len(calls), link.holds) == (2, 0)
        calls.close()
        await settled(calls)

    run(test)


@pytest.mark.parametrize(
    ("tail", "why"), [(b"\xc1", "not known"), (b"\xc0\xc0", "does not end"), (b"", "in the middle")]
)
def test_nonsense_that_is_found_late_ends_the_branch(tail: bytes, why: str) -> None:
    async def test(calls: Calls, link: Link, _: Broker) -> None:
        whole = packed.pack([0] * 50_000)
        calls.begin(call(1, data=b"\x81\xa1x" + whole[:-1] + tail))
        while not link.troubles:
            await asyncio.sleep(0)
        assert isinstance(link.troubles[0], ProtocolViolation)
        assert why in str(link.troubles[0])
        assert (len(calls), link.sent) == (0, [])

    run(test)


def test_a_branch_that_ends_meanwhile_is_not_weighed_any_further() -> None:
    async def test(calls: Calls, link: Link, _: Broker) -> None:
        calls.begin(call(1, **MUCH))
        calls.begin(call(2, **MUCH))  # its last words, which nobody holds up
        calls.begin(call(3))
        await settled(calls)
        calls.close()
        for _turn in range(200):
            await asyncio.sleep(0)
        assert [frame.id for frame in link.sent] == [3]

    run(test)
