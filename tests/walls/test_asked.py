"""Copies under attack: what a hostile cell has made of them, while they are asked for a difference or at a gate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.domain.errors import Conflict, GuestLost, KernelRuntimeError
from kernel_runtime.workers import differing, frozen
from tests.walls.test_branches import FIND, REACH
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


#: What an answer does first, and writes down: to the memory of the state that asks, whose pid is in a file; and what it leaves.
REACHES = "open('/tmp/reached', 'a').write(f'{reach(int(open(\"/tmp/live\").read()))}\\n')"
LEAVES = """if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True: time.sleep(1)
        os._exit(0)"""
LIVE = "open('/tmp/live', 'w').write(str(os.getpid())); os.path.exists('/tmp/reached') and os.remove('/tmp/reached')"
WAYS: dict[str, Callable[[Guest], Any]] = {
    "a difference": lambda guest: guest.diff("hostile", "honest"),
    "with the present": lambda guest: guest.diff("hostile"),
    "the files since": lambda guest: guest.call(guest.client.written_since("hostile")),
}


def reached(guest: Guest) -> set[str]:
    return set(guest.run("print(open('/tmp/reached').read(), end='')").stdout.splitlines())


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_of_what_was_undone_does_not_reach_the_present_while_it_is_asked(
    open_guest: Callable[..., Guest], way: str
) -> None:
    guest = open_guest(automatic=False)
    guest.run(FIND + REACH)
    hostile(guest, REACHES)
    guest.restore("hostile")
    guest.run(LIVE)
    WAYS[way](guest)
    assert reached(guest) == {"['done', 'done', 'done', 'done']"}, "the control: the present comes from it"
    guest.restore("honest")
    guest.run(LIVE)
    WAYS[way](guest)
    closed = "['PermissionError', 'PermissionError', 'PermissionError', 'PermissionError']"
    assert reached(guest) == {closed}
    assert guest.answer("reach(os.getpid())") == "['done', 'done', 'done', 'done']", "it hides no longer"
    lives_on(guest)


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_of_what_was_undone_leaves_nothing_running_when_it_was_asked(
    open_guest: Callable[..., Guest], way: str
) -> None:
    guest = open_guest(automatic=False)
    hostile(guest, LEAVES)
    guest.restore("hostile")
    WAYS[way](guest)
    assert [p for p in processes(guest.inner) if p.state in "RS"][1:], (
        "the control: the present comes from it"
    )
    guest.restore("honest")
    assert only_live_runs(guest.inner), processes(guest.inner)
    WAYS[way](guest)
    assert only_live_runs(guest.inner), processes(guest.inner)
    lives_on(guest)


TICKS = """
import os, subprocess, sys
code = 'while True: print(len(input()), flush=True)'
child = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
def ask():
    child.stdin.write('abc\\n'); child.stdin.flush()
    return child.stdout.readline()
ask()
open('/tmp/child', 'w').write(str(child.pid))
"""
STATES = "open('/tmp/states', 'w').write(open(f'/proc/{open(\"/tmp/child\").read()}/stat').read())"


def test_what_the_present_has_started_stands_still_and_goes_on(open_guest: Callable[..., Guest]) -> None:
    guest = open_guest(automatic=False)
    hostile(guest, STATES)
    assert guest.run(TICKS).ok
    guest.diff("hostile", "honest")
    assert guest.answer("open('/tmp/states').read().rpartition(')')[2].split()[0]") == "'T'"
    assert guest.answer("ask(), child.poll()") == "('3\\n', None)"
    guest.run("child.kill(); child.wait()")
    lives_on(guest)


def test_a_copy_that_kills_the_present_state_while_it_is_asked_costs_that_alone(
    open_guest: Callable[..., Guest],
) -> None:
    """Signals are within the power of whatever runs; the newest snapshot takes its place."""
    guest = open_guest(automatic=False)
    hostile(guest, "os.kill(int(open('/tmp/live').read()), signal.SIGKILL)")
    guest.run("import os\n" + LIVE)
    try:
        guest.diff("hostile", "honest")
    except KernelRuntimeError:
        pass
    lives_on(guest)


def test_after_an_interrupt_the_present_goes_on_and_hides_no_longer(open_guest: Callable[..., Guest]) -> None:
    guest = open_guest(automatic=False)
    guest.run(FIND + REACH)
    hostile(guest, f"{LEAVES}\n    {SILENT['a loop']}")

    async def interrupted() -> None:
        source = guest.inner.snapshots.kept.source(guest.inner.snapshots.find("hostile"))
        asking = asyncio.ensure_future(guest.client.diff("honest", "hostile"))
        while source._answers._awaited is None:
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait([asking])

    guest.call(interrupted())
    assert only_live_runs(guest.inner), processes(guest.inner)
    assert guest.answer("reach(os.getpid())") == "['done', 'done', 'done', 'done']"
    lives_on(guest)


def test_while_a_cell_runs_only_its_past_is_asked(open_guest: Callable[..., Guest]) -> None:
    guest = open_guest(automatic=False)
    hostile(guest, "pass")

    async def asked() -> str:
        begun = asyncio.Event()
        code = "try:\n    print('on')\n    while True: pass\nexcept KeyboardInterrupt: pass"
        running = asyncio.ensure_future(guest.client.run(code, on_output=lambda _: begun.set()))
        await begun.wait()
        assert (await guest.client.diff("honest", "honest")).changes == [], "the control"
        with pytest.raises(Conflict) as refused:
            await guest.client.diff("honest", "hostile")
        guest.client.interrupt()
        await running
        return str(refused.value)

    assert guest.call(asked()) == "a cell is running: a snapshot of what was undone is read between cells"
    assert guest.diff("honest", "hostile").changes
    lives_on(guest)


def test_where_the_present_does_not_hide_nothing_of_what_was_undone_is_asked(
    open_guest: Callable[..., Guest], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = open_guest(automatic=False)
    hostile(guest, "open('/tmp/asked', 'w').close()")
    guest.run("import os, time, asyncio")
    guest.run("asyncio.get_event_loop().call_later(0.2, time.sleep, 1000)")
    guest.call(asyncio.sleep(0.5))
    with monkeypatch.context() as patched:
        patched.setattr("kernel_runtime.workers.seclusion.HIDE_SECONDS", 0.3)
        with pytest.raises(Conflict, match="the present state does not answer"):
            guest.diff("hostile", "honest")
    guest.call(guest.client.kill())
    guest.run("1 + 1")  # what was on its way when it was killed
    assert guest.answer("__import__('os').path.exists('/tmp/asked')") == "False"
    lives_on(guest)
