"""SIGINT: ends the cell wherever it is, keeps state, tears no frame."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from kernel_runtime import wire

if TYPE_CHECKING:
    from tests.guest.conftest import Host

LONG = {
    "busy loop": "while True: pass",
    "sleep": "import time; time.sleep(100_000)",
    "blocking read": "import os; r, w = os.pipe(); os.read(r, 1)",
    "lock": "import threading; l = threading.Lock(); l.acquire(); l.acquire()",
    "join": "import threading, time; threading.Thread(target=time.sleep, args=(1,), daemon=True).start(); "
    "threading.Event().wait()",
    "await": "import asyncio; await asyncio.sleep(100_000)",
    "await of a task": "import asyncio; await asyncio.create_task(asyncio.sleep(100_000))",
    "await of a group": "import asyncio; await asyncio.gather(asyncio.sleep(100_000), asyncio.sleep(100_000))",
    "busy after await": "import asyncio; await asyncio.sleep(0.01)\nwhile True: pass",
    "subprocess": "import subprocess; subprocess.run(['sleep', '100000'])",
    "output": "while True: print('x' * 100)",
    "displays": "while True: display(1)",
}


@pytest.mark.parametrize("what", LONG)
def test_interrupt_ends_the_cell(shared: Host, what: str) -> None:
    shared.run("kept = 'state'")
    for _ in range(3):
        interrupted(shared, LONG[what])
    assert shared.run("kept").result == "'state'"


def interrupted(host: Host, code: str) -> None:
    """Begin the cell and interrupt it: by itself it would never end."""
    name = host.start(f"print('begun')\n{code}")
    host.until(lambda f: isinstance(f, wire.Stream))
    time.sleep(0.1)
    host.interrupt()
    outcome = host.finish(name)
    assert outcome.error == "KeyboardInterrupt", outcome.frames[-3:]
    assert outcome.reply["ename"] == "KeyboardInterrupt"


@pytest.mark.parametrize("code", ["!echo begun; sleep 100000", "%%bash\necho begun; sleep 100000"])
def test_interrupt_of_a_shell_command(shared: Host, code: str) -> None:
    name = shared.start(code)
    shared.until(lambda f: isinstance(f, wire.Stream) and "begun" in f.text)
    shared.interrupt()
    shared.finish(name)
    assert shared.run("1 + 1").result == "2"


def _next(host: Host) -> str:
    """What the next request is called."""
    return f"r{host.number + 1}"


def test_one_that_came_before_its_cell_began_is_met_there(shared: Host) -> None:
    shared.send(wire.Interrupt(id=_next(shared)))
    outcome = shared.run("while True: pass")
    assert outcome.error == outcome.reply["ename"] == "KeyboardInterrupt"
    assert shared.run("1 + 1").result == "2"


def test_one_for_a_cell_that_is_over_does_not_meet_the_next(shared: Host) -> None:
    over = _next(shared)
    shared.run("1")
    shared.send(wire.Interrupt(id=over))
    assert shared.run("1 + 1").result == "2"


def test_what_waits_behind_a_cell_that_never_began_is_not_run(shared: Host) -> None:
    asking = shared.start("ran = input()")
    (ask,) = [f for f in shared.until(lambda f: isinstance(f, wire.Ask)) if isinstance(f, wire.Ask)]
    shared.send(wire.Interrupt(id=_next(shared)))
    first, second = shared.start("pass"), shared.start("ran = True")
    shared.send(wire.Answer(id=ask.id, text="before"))
    shared.finish(asking)
    assert shared.finish(first).error == "KeyboardInterrupt"
    assert shared.finish(second).reply["status"] == "aborted"
    assert shared.run("ran").result == "'before'"


def test_interrupt_between_cells_is_harmless(shared: Host) -> None:
    for _ in range(20):
        shared.interrupt()
        time.sleep(0.005)
        assert shared.run("1 + 1").result == "2"


def test_interrupt_spares_background_tasks(shared: Host) -> None:
    shared.run("import asyncio\nt = asyncio.create_task(asyncio.sleep(0.5, 'done'))")
    name = shared.start("print('begun')\nawait asyncio.sleep(100_000)")
    shared.until(lambda f: isinstance(f, wire.Stream))
    shared.interrupt()
    assert shared.finish(name).error == "KeyboardInterrupt"
    assert shared.run("await t").result == "'done'"


def test_no_frame_is_torn(shared: Host) -> None:
    """Interrupts at random moments of heavy sending: the stream of frames stays readable."""
    for attempt in range(15):
        name = shared.start("while True:\n    print('x' * 50_000)\n    display('y' * 100_000)")
        shared.until(lambda f: isinstance(f, wire.Publish))
        time.sleep(0.003 * attempt)
        shared.interrupt()
        assert shared.finish(name).reply["ename"] == "KeyboardInterrupt"


def test_code_may_catch_it(shared: Host) -> None:
    name = shared.start(
        "import time\ntry:\n    print('begun')\n    time.sleep(100_000)\nexcept KeyboardInterrupt:\n    print('caught')"
    )
    shared.until(lambda f: isinstance(f, wire.Stream))
    shared.interrupt()
    outcome = shared.finish(name)
    assert outcome.text() == "caught\n"
    assert outcome.reply["status"] == "ok"


def test_own_handler_of_a_cell_is_replaced_in_the_next(shared: Host) -> None:
    shared.run("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)")
    name = shared.start("import time; print('begun'); time.sleep(100_000)")
    shared.until(lambda f: isinstance(f, wire.Stream))
    shared.interrupt()
    assert shared.finish(name).error == "KeyboardInterrupt"
