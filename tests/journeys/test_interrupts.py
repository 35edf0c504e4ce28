"""Interrupts: KeyboardInterrupt whatever the cell waits in, and the state is kept.

No cell here would end by itself. How soon it ends is measured in the benchmarks (``ending``).
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.journeys.kernels import check_alive, result, started
from tests.jupyter.kernels import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.jupyter.kernels import Kernel

ROUNDS = 3
WAITS = {
    "busy loop": "while True: pass",
    "sleep": "import time; time.sleep(100_000)",
    "read of a pipe": "import os; os.read(os.pipe()[0], 1)",
    "a line from a pipe": "import os; r, w = os.pipe(); open(r).readline()",
    "top-level await": "import asyncio; await asyncio.sleep(100_000)",
    "await of a future": "import asyncio; await asyncio.get_running_loop().create_future()",
    "shell escape": "!sleep 100000",
    "subprocess": "import subprocess; subprocess.run(['sleep', '100000'])",
    "lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "join of a thread": "import threading, time; t = threading.Thread(target=time.sleep, args=(100_000,), daemon=True); t.start(); t.join()",
    "long print loop": "while True: print('x' * 1000)",
    "numpy in a loop": "import numpy\nwhile True: numpy.linalg.inv(numpy.eye(50))",
}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with started(cwd=str(tmp_path_factory.mktemp("work"))) as found:
        yield found


def interrupt(kernel: Kernel, code: str, send: Callable[[], None]) -> None:
    """Interrupt a cell that runs; it ends with KeyboardInterrupt.

    IPython's own shell escape swallows it, in every kernel: the command ends, the cell is ok.
    """
    msg_id = kernel.begin(f"print('running')\n{code}")
    time.sleep(0.1)  # most likely it waits by now; right before that it must end as well
    send()
    reply = kernel.reply(msg_id)
    outputs = kernel.outputs(msg_id)
    expected = [] if code.startswith("!") else ["KeyboardInterrupt"]
    assert [m["content"]["ename"] for m in outputs if m["msg_type"] == "error"] == expected
    assert reply["content"]["status"] == ("error" if expected else "ok")


def by_message(kernel: Kernel) -> Callable[[], None]:
    return lambda: kernel.kc.control_channel.send(kernel.kc.session.msg("interrupt_request", {}))


@pytest.mark.parametrize("code", WAITS.values(), ids=WAITS.keys())
def test_an_interrupt_comes_through(kernel, code):
    kernel.run("kept = 42; import numpy, threading, subprocess, asyncio, os, time")
    for _ in range(ROUNDS):
        interrupt(kernel, code, by_message(kernel))
    assert result(kernel.run("kept")[1]) == "42"


#: What has been printed may be read before the print is over: only another thread can say that the next line runs.
SAYS_WHERE = """
import sys, threading, time
def say_when_at(line):
    cell = threading.get_ident()
    def watch():
        while ((frame := sys._current_frames()[cell]).f_code.co_name, frame.f_lineno) != ("<module>", line):
            time.sleep(0.001)
        print("running")
    threading.Thread(target=watch).start()
"""


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(100_000)"])
def test_the_traceback_ends_in_the_users_code(kernel, code):
    kernel.run(SAYS_WHERE)
    msg_id = kernel.begin(f"say_when_at(2)\n{code}")
    kernel.km.interrupt_kernel()
    lines = re.sub(
        r"\x1b\[[0-9;]*m", "", "\n".join(kernel.reply(msg_id)["content"]["traceback"])
    ).splitlines()
    assert lines[-3:] == [f"----> 2 {code}", "", "KeyboardInterrupt: "]


def test_sigint_to_the_front_counts_as_well(kernel):
    """A terminal sends it to the whole foreground group."""
    interrupt(kernel, "while True: pass", lambda: kernel.km.signal_kernel(2))
    check_alive(kernel)


def test_an_interrupt_of_nothing_is_harmless(kernel):
    for _ in range(20):
        kernel.ask("control", "interrupt_request")
        kernel.km.signal_kernel(2)
    kernel.ask("control", "kernel_info_request")
    check_alive(kernel)


@pytest.mark.slow
def test_interrupts_at_every_moment_of_a_short_cell(kernel):
    """A cell that prints, displays and ends: each interrupt hits another moment of it."""
    code = "from IPython.display import display\nfor i in range(200): print(i); display(i)"
    kernel.run("kept = 42")
    for step in range(40):
        msg_id = kernel.kc.execute(code)
        time.sleep(step * 0.002)
        by_message(kernel)()
        reply, _ = kernel.finish(msg_id)
        assert reply["content"]["status"] == "ok" or reply["content"]["ename"] == "KeyboardInterrupt"
        check_alive(kernel)
    assert result(kernel.run("kept")[1]) == "42"


def test_waiting_cells_are_aborted_by_an_interrupt(kernel):
    first = kernel.begin("import time; print('running'); time.sleep(100_000)")
    others = [kernel.kc.execute("ran = True") for _ in range(3)]
    kernel.ask("shell", "kernel_info_request")  # behind them on the same socket: they have arrived
    kernel.km.interrupt_kernel()
    assert kernel.reply(first)["content"]["ename"] == "KeyboardInterrupt"
    assert [kernel.reply(other)["content"]["status"] for other in others] == ["aborted"] * 3
    check_alive(kernel)


def test_a_prompt_is_left_by_an_interrupt(kernel):
    msg_id = kernel.kc.execute("input('name? ')", allow_stdin=True)
    assert kernel.kc.get_stdin_msg(timeout=PATIENCE)["content"]["prompt"] == "name? "
    kernel.km.interrupt_kernel()
    reply, _ = kernel.finish(msg_id)
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    check_alive(kernel)
