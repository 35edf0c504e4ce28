"""Gates in a real guest: a copy is made inside a call, looked at, edited, and goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from kernel_runtime import AsyncSession, Budget, Conflict, Invalid, wire
from kernel_runtime.workers.branch import Pending
from kernel_runtime.workers.stops import MOST_OF_A_CELL, Stops

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kernel_runtime.workers.session import Session
    from kernel_runtime.workers.snapshots import Snapshots

SUM = """
def total(n):
    numbers = iter(range(n))
    found = next(numbers, 0)
    for number in numbers:
        found += number
    return found
"""


class Guest:
    """An open session, and what the front does with its gates."""

    def __init__(self, session: AsyncSession) -> None:
        self.api = session
        self.session: Session = session._open

    async def run(self, code: str) -> str:
        return (await self.api.run(code)).stdout

    async def resumed(self, number: int) -> tuple[str, str]:
        """What the cell prints when it goes on, and the name of its error."""
        frames: list[Any] = []
        await self.session.resume_gate(number, frames.append)
        text = "".join(f.text for f in frames if isinstance(f, wire.Stream) and f.name == "stdout")
        errors = [f.content.decode() for f in frames if isinstance(f, wire.Publish) and f.kind == "error"]
        return text, "".join(errors)

    @property
    def copies(self) -> list[int]:
        return [snapshot.number for snapshot in self.session.stops.listing()]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gates")


def with_guest(directory: Path, work: Callable[[Guest], Any], **options: Any) -> None:
    async def run() -> None:
        async with AsyncSession(memory="512M", workdir=directory, **options) as session:
            await work(Guest(session))

    asyncio.run(run())


def test_a_copy_is_looked_at_edited_and_resumed_while_the_live_one_went_on(directory: Path) -> None:
    async def work(guest: Guest) -> None:
        await guest.run(SUM)
        assert "next call of total" in await guest.run("%gate total if n > 3")
        assert await guest.run("print(total(3)); print(total(5)); done = True") == "3\n10\n"
        (number,) = guest.copies
        stops = guest.session.stops
        levels = await stops.stack(number)
        assert levels[0].place.startswith("total, line")
        assert levels[0].names == {"n": "5"}
        assert [level.place.partition(",")[0] for level in levels] == ["total", "<module>"]
        assert await stops.evaluate(number, "n * 2") == "10"
        with pytest.raises(Invalid, match="ZeroDivisionError"):
            await stops.evaluate(number, "1 / 0")
        assert await stops.evaluate(number, "globals().update(done=3) or 1") == "1"
        assert await stops.evaluate(number, "'done' in globals()") == "False"
        assert await stops.set(number, "n", "n - 1") == "4"
        assert (await stops.stack(number))[0].names == {"n": "4"}
        with pytest.raises(Invalid, match="nothing"):
            await stops.set(number, "n", "nothing")
        assert await guest.resumed(number) == ("6\n", "")
        assert await guest.api.value("done") is True
        assert await guest.run("print(total(9))") == "36\n"  # the gate is not in the copy any more
        assert await guest.resumed(number) == ("6\n", "")  # and again, as often as one likes

    with_guest(directory, work)


def test_what_is_left_for_a_copy_and_cannot_be_had_back_is_told(directory: Path) -> None:
    async def work(guest: Guest) -> None:
        await guest.run(SUM)
        await guest.run("%gate total")
        await guest.run("total(3)")
        thread = (
            "stop = threading.Event(); threading.Thread(target=stop.wait, name='mine', daemon=True).start()"
        )
        for code, told in (("x = 1", False), (f"import threading; {thread}", True)):
            await guest.run(code)
            frames: list[Any] = []
            await guest.session.resume_gate(guest.copies[0], frames.append)
            said = "".join(f.text for f in frames if isinstance(f, wire.Stream) and f.name == "stderr")
            assert (
                "redo cannot bring it back: other threads were running: Python thread 'mine'" in said
            ) is told

    with_guest(directory, work)


def test_a_condition_that_raises_does_not_end_the_cell(directory: Path) -> None:
    async def work(guest: Guest) -> None:
        await guest.run(SUM)
        await guest.run("%gate total if n > limit")
        result = await guest.api.run("print(total(3), total(4)); limit = 4; print(total(5))")
        assert result.stdout == "3 6\n10\n"
        assert result.stderr.count("condition n > limit raised NameError: name 'limit' is not defined") == 1
        (number,) = guest.copies
        assert (await guest.session.stops.stack(number))[0].names == {"n": "5"}
        assert await guest.resumed(number) == ("10\n", "")

    with_guest(directory, work)


def test_waiting_ends_the_cell_at_the_gate(directory: Path) -> None:
    async def work(guest: Guest) -> None:
        await guest.run(SUM)
        await guest.run("%gate --wait total")
        result = await guest.api.run("print('a')\nx = total(3)\nprint('b', x)", check=False)
        assert result.stdout == "a\n"
        assert result.error is not None
        assert result.error.ename == "StoppedAtGate"
        assert await guest.resumed(guest.copies[0]) == ("b 3\n", "")
        assert await guest.api.value("x") == 3

    with_guest(directory, work)


def test_generators_on_the_stack_and_awaiting_cells_go_on(directory: Path) -> None:
    async def work(guest: Guest) -> None:
        await guest.run(SUM + "import asyncio\nlog = []\n%gate total")
        code = (
            "async def beside():\n    for i in range(3):\n        await asyncio.sleep(0.01)\n"
            "        log.append(i)\n"
            "task = asyncio.create_task(beside())\nawait asyncio.sleep(0.015)\n"
            "squares = (total(i) for i in (2, 3, 4))\nfound = list(squares)\nawait task\n"
            "print(found, log, asyncio.get_running_loop() is task.get_loop())"
        )
        assert await guest.run(code) == "[1, 3, 6] [0, 1, 2] True\n"
        await guest.session.stops.set(guest.copies[0], "n", "5")
        assert await guest.resumed(guest.copies[0]) == ("[10, 3, 6] [0, 1, 2] True\n", "")
        assert await guest.run("await asyncio.sleep(0.01); print('on')") == "on\n"

    with_guest(directory, work)


def test_an_error_after_the_gate_is_the_resuming_cells(directory: Path) -> None:
    async def work(guest: Guest) -> None:
        await guest.run("def inverse(x):\n    return 1 / x\n%gate inverse")
        await guest.run("print(inverse(2))")
        await guest.session.stops.set(guest.copies[0], "x", "0")
        text, error = await guest.resumed(guest.copies[0])
        assert text == ""
        assert "ZeroDivisionError" in error
        assert await guest.run("print('on')") == "on\n"

    with_guest(directory, work)


def test_a_resumed_cell_is_held_to_its_limits(directory: Path) -> None:
    async def work(guest: Guest) -> None:
        await guest.run("import time\ndef nap(s):\n    time.sleep(s)\n    return s\nkept = 1\n%gate nap")
        await guest.run("nap(0)")
        await guest.session.stops.set(guest.copies[0], "s", "60")
        verdict = await guest.session.resume_gate(guest.copies[0], lambda _: None)
        assert verdict is not None
        assert str(verdict.reason) == "wall"
        assert await guest.api.value("kept") == 1

    with_guest(directory, work, wall="4s")


def test_without_a_budget_the_cell_goes_on_and_says_why(directory: Path) -> None:
    async def work(guest: Guest) -> None:
        await guest.run(SUM + "%gate total")
        result = await guest.api.run("print(total(3))")
        assert result.stdout == "3\n"
        assert "budget allows no snapshots (count is 0)" in result.stderr
        assert guest.copies == []

    with_guest(directory, work, snapshots=Budget(count=0))


def test_threads_and_children_do_not_stop_at_gates(directory: Path) -> None:
    async def work(guest: Guest) -> None:
        await guest.run(SUM + "import os, threading, time\n%gate total")
        code = "t = threading.Thread(target=total, args=(3,)); t.start(); t.join(); print('joined')"
        assert await guest.run(code) == "joined\n"
        code = (
            "pid = os.fork()\nif pid == 0:\n    total(3); os._exit(7)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
        )
        assert await guest.run(code) == "7\n"
        assert guest.copies == []
        assert await guest.run("print(total(3))") == "3\n"
        assert len(guest.copies) == 1

    with_guest(directory, work)


def test_a_thread_that_runs_beside_prevents_the_copy_and_is_named(directory: Path) -> None:
    async def work(guest: Guest) -> None:
        await guest.run(SUM + "import threading\nover = threading.Event()\n%gate --wait total")
        result = await guest.api.run(
            "t = threading.Thread(target=over.wait, name='busy'); t.start()\nprint(total(3))\nover.set(); t.join()"
        )
        assert result.stdout == "3\n"  # it does not end there, as there is nothing to go on with
        assert "busy" in result.stderr
        assert guest.copies == []

    with_guest(directory, work)


def test_what_is_no_copy_of_a_gate_is_refused(directory: Path) -> None:
    async def work(guest: Guest) -> None:
        await guest.api.snapshot("plain")
        with pytest.raises(Conflict, match="not made at a gate"):
            await guest.session.stops.stack("plain")
        await guest.run(SUM + "%gate total")
        await guest.run("total(1)")
        with pytest.raises(Conflict, match="%gate resume"):
            await guest.api.restore(guest.copies[0])
        begun = asyncio.Event()
        code = "print('on')\nwhile True: pass"
        running = asyncio.create_task(guest.api.run(code, check=False, on_output=lambda _: begun.set()))
        await begun.wait()
        with pytest.raises(Conflict, match="a cell is running"):
            await guest.resumed(guest.copies[0])
        guest.api.interrupt()
        assert "KeyboardInterrupt" in str((await running).error)
        await guest.api.drop(guest.copies[0])
        assert guest.copies == []

    with_guest(directory, work)


def test_a_guest_that_pretends_to_be_at_gates_gets_a_bounded_number_of_copies(directory: Path) -> None:
    async def work(guest: Guest) -> None:
        await guest.run(SUM)
        code = (
            "from kernel_runtime import wire\nip = get_ipython()\nmade = 0\n"
            "for i in range(40):\n    ip.run_line_magic('gate', 'total')\n    total(2)\n"
        )
        result = await guest.api.run(code, check=False)
        assert "no more copies of it" in result.stderr
        assert len(guest.copies) <= 32
        assert await guest.run("print('on')") == "on\n"

    with_guest(directory, work)


class Refusing:
    """As the snapshots of a session whose budget is 0."""

    at_gate: asyncio.Task[None] | None = None

    def __init__(self) -> None:
        self.asked = 0

    async def take_at_gate(self, *_: object) -> None:
        self.asked += 1
        raise Conflict("no copy")


def test_cells_that_run_beside_each_other_get_no_more_copies_than_each_alone() -> None:
    async def work() -> int:
        session = AsyncSession()
        async with session:
            branch, board = await session._open.ready(), Refusing()
            for cell in ("one", "two"):
                branch.take_over(Pending(wire.Request(id=cell, kind="execute_request", content=b"{}"), print))
            stops = Stops(cast("Snapshots", board))
            for number in range(4 * MOST_OF_A_CELL):
                cell = ("one", "two")[number % 2]
                stops.reached(branch, wire.Gated(parent=cell, id=str(number), function="f", line=1))
            assert board.at_gate is not None
            await board.at_gate
            branch.pending.clear()
            return board.asked

    assert asyncio.run(work()) == 2 * MOST_OF_A_CELL


def test_level_strict_has_no_gates(directory: Path) -> None:
    """Their conditions would be a way around its language."""

    async def work(guest: Guest) -> None:
        await guest.run("def f(x):\n    return x")
        result = await guest.api.run("%gate f if x.__class__", check=False)
        assert "level strict has no gates" in result.stderr + str(result.error)
        assert await guest.run("print(f(1))") == "1\n"

    with_guest(directory, work, level="strict")
