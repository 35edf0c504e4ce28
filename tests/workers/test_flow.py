"""A guest's messages against their rate, whatever a hostile one sends in between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.domain.limits import Limits
from kernel_runtime.workers.account import MESSAGE_SECONDS, Account
from kernel_runtime.workers.flow import KEPT, Flow, haste

if TYPE_CHECKING:
    from kernel_runtime.domain.errors import ProtocolViolation

RATE = 10
BURST = int(RATE * MESSAGE_SECONDS)


class Bench:
    """A flow whose clock stands still, and what came out of it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.passed: list[wire.FromBranch] = []
        self.cut: list[str] = []
        self.trouble: list[ProtocolViolation] = []
        account = Account(Limits(messages=RATE), lambda: self.now)
        self.flow = Flow(account, self.passed.append, self.cut.append, self.trouble.append)

    def display(self, number: int) -> None:
        self.flow.take(wire.Publish(parent="p", kind="display_data", content=b"%d" % number), 1)

    def say(self, text: str) -> None:
        self.flow.take(wire.Stream(parent="p", name="stdout", text=text), len(text))

    @property
    def text(self) -> str:
        frames = [f for f in self.passed if isinstance(f, wire.Stream) and f.name == "stdout"]
        return "".join(frame.text for frame in frames)

    @property
    def displays(self) -> list[int]:
        return [int(f.content) for f in self.passed if isinstance(f, wire.Publish)]


def test_a_burst_passes_the_last_are_kept_and_the_rest_is_counted() -> None:
    async def story() -> Bench:
        bench = Bench()
        for number in range(1000):
            bench.display(number)
        assert len(bench.passed) == BURST
        bench.flow.settle("p")
        bench.flow.close()
        return bench

    bench = asyncio.run(story())
    assert bench.displays == [*range(BURST), *range(1000 - KEPT, 1000)]
    notice = bench.passed[-1]
    assert isinstance(notice, wire.Stream)
    assert f"{1000 - BURST - KEPT} messages were left out" in notice.text
    assert bench.cut == ["p"]


def test_text_between_is_joined_and_stays_whole() -> None:
    async def story() -> Bench:
        bench = Bench()
        for number in range(1000):
            bench.display(number)
            bench.say(f"{number} ")
        bench.flow.settle("p")
        bench.flow.close()
        return bench

    bench = asyncio.run(story())
    assert bench.text.split() == [str(number) for number in range(1000)]
    assert len(bench.passed) < BURST + 2 * KEPT + 2


def test_much_text_does_not_wait() -> None:
    async def story() -> int:
        bench = Bench()
        for _ in range(BURST + 50):
            bench.say("x" * 100_000)
        bench.flow.close()
        return len(bench.text)

    assert asyncio.run(story()) >= (BURST + 50) * 100_000 - 2**20


def test_what_waits_goes_on_at_the_rate() -> None:
    async def story() -> Bench:
        bench = Bench()
        for number in range(BURST + 5):
            bench.display(number)
        assert bench.displays == [*range(BURST)]
        bench.now += 0.3
        bench.flow._go_on()
        assert bench.displays == [*range(BURST + 3)]
        bench.now += 10
        bench.flow._go_on()
        bench.flow.close()
        return bench

    bench = asyncio.run(story())
    assert bench.displays == [*range(BURST + 5)]
    assert bench.cut == []


def test_how_fast_a_guest_is_read() -> None:
    assert haste(None) is None
    assert haste(10) == 2000
    assert haste(1000) == 20_000
