"""Copies under attack: what a hostile cell has made of them, while they are asked for a difference or at a gate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.domain.errors import GuestLost, KernelRuntimeError
from kernel_runtime.workers import differing, frozen
from tests.workers.branches import only_live_runs, processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.walls.conftest import Guest

#: Takes the place of what answers, in the copy itself.
ANSWERS = """
import os, signal, time
from kernel_runtime import wire
from kernel_runtime.guest import reading, frozen
real = reading.Reader.answer
def answer(self, order, made):
    WHAT
    return real(self, order, made)
reading.Reader.answer = answer
"""
SILENT = {
    "a loop": "while True: pass",
    "a sleep": "time.sleep(1000)",
    "a child as well": "os.fork(); time.sleep(1000)",
    "it stops itself": "os.kill(os.getpid(), signal.SIGSTOP); time.sleep(1000)",
    "a frame without end": "channel._socket.sendall((2 ** 20).to_bytes(4, 'big')); time.sleep(1000)",
}
#: The channel, for those who write to it themselves.
CHANNEL = """
wait = frozen.FrozenCopy._wait
def _wait(self, given, *rest):
    global channel
    channel = given
    return wait(self, given, *rest)
frozen.FrozenCopy._wait = _wait
"""
FLOODS = {
    "answers": "while True: channel.send(wire.Told())",
    "first words": "while True: channel.send(wire.Frozen(pid=os.getpid()))",
    "weights": "while True: channel.send(wire.Weighed(shared_out=1, private=1))",
    "junk": "while True: channel._socket.sendall(bytes(4096))",
}
STOPS = "def f(x):\n    return x\nget_ipython().run_line_magic('gate', 'f')\nf(1)"


def hostile(guest: Guest, what: str) -> None:
    """A state that answers so, kept as ``hostile``, after an honest one."""
    guest.run("x = 1")
    guest.snapshot("honest")
    guest.run(f"{ANSWERS.replace('WHAT', what)}{CHANNEL}\nx = 2")
    guest.snapshot("hostile")
    guest.restore("honest")


def lives_on(guest: Guest) -> None:
    """The present is as it was, and the honest copy can be asked and gone back to."""
    assert guest.answer("x") == "1"
    assert guest.diff("honest", "honest").changes == []
    guest.run("x = 3")
    guest.restore("honest")
    assert guest.answer("x") == "1"
    assert only_live_runs(guest.inner), processes(guest.inner)


@pytest.mark.parametrize("name", SILENT)
def test_a_copy_that_does_not_answer_is_named_and_lost(
    open_guest: Callable[..., Guest], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    guest = open_guest(automatic=False)
    hostile(guest, SILENT[name])
    with monkeypatch.context() as patched:
        patched.setattr(frozen, "ANSWER_SECONDS", 3.0)
        with pytest.raises(GuestLost, match="the snapshot hostile is lost: it did not answer for 3 s"):
            guest.diff("honest", "hostile")
    assert [one.name for one in guest.inner.snapshots.listing() if one.name] == ["honest"]
    lives_on(guest)


@pytest.mark.parametrize("name", FLOODS)
def test_a_copy_that_answers_without_end_is_named_and_stopped(
    open_guest: Callable[..., Guest], name: str
) -> None:
    guest = open_guest(automatic=False)
    hostile(guest, FLOODS[name])
    for _ in range(3):
        with pytest.raises(KernelRuntimeError, match="hostile"):
            guest.diff("hostile", "honest")
        assert only_live_runs(guest.inner), processes(guest.inner)
    lives_on(guest)


#: Says of a place that there are ever more and other ones in it.
DEEPER = """
from kernel_runtime.domain.variables import Part
count = 0
def deeper(value, span):
    third = max(1, (span.stop - span.start) // 3)
    return [Part(start=span.start, stop=span.start + third, digest=os.urandom(8).hex(), label='a', text='b')]
reading._parts_of = deeper
leaves_of = reading.leaves_of
class Many:
    def __init__(self, leaves): self.count, self.keyed, self.lines = 2 ** 60, leaves.keyed, leaves.lines
reading.leaves_of = lambda value: Many(leaves_of(value))
reading.Folding.fold = lambda self, value: os.urandom(8).hex()
"""


def test_a_copy_that_always_has_more_to_tell_is_not_asked_for_ever(
    open_guest: Callable[..., Guest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each round took ten seconds."""
    guest = open_guest(automatic=False)
    guest.run("from kernel_runtime.guest import reading\nimport os\nx = [1, 2]" + DEEPER)
    guest.snapshot("hostile")
    asked, read, now = [], frozen.Frozen.read, [0.0]

    async def slowly(self: frozen.Frozen, what: str, *rest: Any) -> Any:
        asked.append(what)
        now[0] += 5.0
        return await read(self, what, *rest)

    monkeypatch.setattr(frozen.Frozen, "read", slowly)
    monkeypatch.setattr(differing, "_ROUNDS", 12)
    guest.diff("hostile", "hostile")
    assert asked.count("parts") == 2 * 12, "the control: it can be asked so often"
    asked.clear()
    monkeypatch.setattr(differing, "monotonic", lambda: now[0])
    assert guest.diff("hostile", "hostile").changes
    assert asked.count("parts") == 2 * differing.LOOK_SECONDS / 10
    assert guest.answer("6 * 7") == "42"


def test_a_copy_at_a_gate_that_does_not_answer_is_named_and_lost(
    open_guest: Callable[..., Guest], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = open_guest(automatic=False)
    guest.run("x = 1")
    guest.snapshot("honest")
    guest.run(ANSWERS.replace("WHAT", SILENT["a loop"]) + STOPS)
    (copy,) = guest.inner.stops.listing()
    guest.restore("honest")
    with monkeypatch.context() as patched:
        patched.setattr(frozen, "ANSWER_SECONDS", 3.0)
        with pytest.raises(GuestLost, match=f"the snapshot #{copy.number} is lost: it did not answer"):
            guest.call(guest.client.gate_show(copy.number))
    assert guest.inner.stops.listing() == []
    lives_on(guest)


def test_an_answer_that_nobody_waits_for_any_more_is_none_to_what_is_asked_next(
    open_guest: Callable[..., Guest],
) -> None:
    """Somebody has pressed Ctrl-C while it computed."""
    guest = open_guest(automatic=False)
    guest.run("import time\nslow = lambda value: time.sleep(0.5) or value\n" + STOPS)
    (copy,) = guest.inner.stops.listing()
    stops = guest.inner.stops

    async def asked() -> list[str]:
        first = asyncio.ensure_future(stops.evaluate(copy.number, "slow('first')"))
        source = guest.inner.snapshots.kept.source(copy)
        while source._answers._awaited is None:
            await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.wait([first])
        return [await stops.evaluate(copy.number, f"'{name}'") for name in ("second", "third")]

    assert guest.call(asked()) == ["'second'", "'third'"]
    assert only_live_runs(guest.inner), processes(guest.inner)


def test_a_present_state_that_makes_no_copy_is_waited_for_in_vain(
    open_guest: Callable[..., Guest], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = open_guest(automatic=False)
    guest.run("x = 1")
    guest.snapshot("honest")
    guest.run("from kernel_runtime.guest.branching import Branching\nBranching.freeze = lambda *_: None")
    monkeypatch.setattr("kernel_runtime.workers.snapshots.TAKE_SECONDS", 0.5)
    with pytest.raises(KernelRuntimeError, match=r"did not make one within"):
        guest.diff("honest", None)
    monkeypatch.undo()
    guest.restore("honest")
    lives_on(guest)
