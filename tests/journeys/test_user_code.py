"""What user code does to its own process: the cell says what happened, the next cell runs.

All cases share one kernel: surviving one of them must not be luck.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.cases import each
from tests.journeys.kernels import check_alive, explained, front_of, result, started
from tests.journeys.processes import memory_of
from tests.jupyter.kernels import PATIENCE, Kernel, Message, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = ("--memory", "512M", "--disk", "32M", "--pids", "64", "--output", "4M")
#: Writes to every socket the cell finds among its own descriptors: its way to the host.
TO_THE_HOST = """
import os, stat, time
for name in os.listdir("/proc/self/fd"):
    try:
        if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
            os.write(int(name), {data})
    except OSError:
        pass
time.sleep(20)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with started(*LIMITS, cwd=str(tmp_path_factory.mktemp("work"))) as found:
        yield found


#: Behind a length that is right: one of 64 random ones is less than the limit, and the host would wait for the rest.
_GARBAGE = "(65532).to_bytes(4, 'big') + os.urandom(65532)"
ENDS = {
    "os._exit": ("import os; os._exit(3)", "GuestExited: .*exited with status 3"),
    "segfault": ("import ctypes; ctypes.string_at(0)", "GuestCrashed: .*SIGSEGV"),
    "abort": ("import os; os.abort()", "GuestCrashed: .*SIGABRT"),
    "kill -9 itself": ("import os; os.kill(os.getpid(), 9)", "GuestKilled: .*SIGKILL"),
    "kill its own group": ("import os; os.killpg(0, 9)", "GuestKilled: .*SIGKILL"),
    "close every descriptor": (
        "import os; os.closerange(0, 65536)",
        r"(Guest|guest).*(connection|descriptor|exited)",
    ),
    "memory in a shared map": (
        "import mmap\nm = mmap.mmap(-1, 2 << 30)\nfor i in range(0, 2 << 30, 4096): m[i] = 1",
        "MemoryLimitExceeded: .*limit of 512 MB",
    ),
    "recursion without a limit": (
        "import sys\nsys.setrecursionlimit(10**9)\nl = []\nfor i in range(10**6): l = [l]\nrepr(l)",
        "GuestCrashed: .*SIGSEGV",
    ),
    "garbage to the host": (TO_THE_HOST.format(data=_GARBAGE), "ProtocolViolation: "),
    "a frame of 4 GB": (
        TO_THE_HOST.format(data=r"b'\xff\xff\xff\xff' + bytes(1000)"),
        "ProtocolViolation: .*frame",
    ),
    "an empty frame": (TO_THE_HOST.format(data="bytes(4096)"), "ProtocolViolation: "),
    "collected garbage that was in use": (
        "import gc\nfor o in gc.get_objects():\n    if isinstance(o, dict) and o is not globals(): o.clear()",
        "Guest(Crashed|Exited|Killed): |ProtocolViolation: .*no reply",
    ),
}


@pytest.mark.parametrize(("code", "said"), ENDS.values(), ids=ENDS.keys())
def test_the_guest_ends_with_its_reason_and_the_state_before_is_back(kernel, code, said):
    kernel.run("kept_before = 1")
    reply, outputs = kernel.run(f"kept_before = 2\n{code}")
    assert re.search(said, explained(reply, outputs), re.DOTALL), explained(reply, outputs)
    assert "The variables are as they were before this cell." in reply["content"]["evalue"]
    check_alive(kernel)
    assert result(kernel.run("kept_before")[1]) == "1"


ERRORS = {
    "sys.exit": ("import sys; sys.exit(2)", "SystemExit: 2"),
    "SystemExit": ("raise SystemExit('over')", "SystemExit: over"),
    "endless recursion": ("def f(): f()\nf()", "RecursionError: maximum recursion"),
    "layer full in the notebook's directory": (
        "with open('big', 'wb') as f:\n    for i in range(100): f.write(bytes(1 << 20))",
        "OSError: .*(No space left on device|File too large)",
    ),
    "layer full in /tmp": (
        "with open('/tmp/big', 'wb') as f:\n    for i in range(100): f.write(bytes(1 << 20))",
        "OSError: .*(No space left on device|File too large)",
    ),
    "too many threads": (
        (
            "import threading\ngo = threading.Event()\ntry:\n    for i in range(500): threading.Thread(target=go.wait).start()\n"
            "finally: go.set()"
        ),
        "RuntimeError: can't start new thread",
    ),
    "too many processes": (
        (
            "import os, signal\npids = []\ntry:\n    while True:\n        pid = os.fork()\n"
            "        if not pid: signal.pause()\n        pids.append(pid)\n"
            "finally:\n    for pid in pids: os.kill(pid, 9); os.waitpid(pid, 0)"
        ),
        "BlockingIOError: ",
    ),
    "close a running loop": (
        "import asyncio; asyncio.get_running_loop().close()",
        "RuntimeError: Cannot close a running event loop",
    ),
}


@pytest.mark.parametrize(("code", "said"), ERRORS.values(), ids=ERRORS.keys())
def test_an_ordinary_error_and_the_state_is_kept(kernel, code, said):
    kernel.run("kept_before = 1")
    reply, outputs = kernel.run(code)
    assert re.search(said, explained(reply, outputs), re.DOTALL), explained(reply, outputs)
    check_alive(kernel)
    assert result(kernel.run("kept_before")[1]) == "1"
    kernel.run("import pathlib\nfor p in ('big', '/tmp/big'): pathlib.Path(p).unlink(missing_ok=True)")


def test_killing_everyone_reaches_its_own_snapshots_and_nobody_else(kernel):
    kernel.run("kept_before = 1")
    reply, outputs = kernel.run("import os; os.kill(-1, 9)", timeout=60)
    assert reply["content"]["status"] == "ok" or "ProcessLookupError" in explained(reply, outputs)
    check_alive(kernel)
    assert result(kernel.run("kept_before")[1]) == "1"


@pytest.mark.parametrize("place", ["big", "/tmp/big"])
def test_a_full_layer_says_which_limit_it_was(kernel, place):
    reply, _ = kernel.run(f"open({place!r}, 'wb').write(bytes(64 << 20))")
    assert "32 MB" in "".join(reply["content"]["traceback"])
    kernel.run(f"import os; os.remove({place!r})")


HARMLESS = {
    "close 0 to 2": ("import os\nfor fd in 0, 1, 2: os.close(fd)\nprint('said')", "said\n"),
    "stdout is nothing": ("import sys\nsys.stdout = None\nprint('unheard')", ""),
    "stdout is no stream": ("import sys\nsys.stdout = object()", ""),
    "stdout is closed": ("import sys\nsys.stdout.close()", ""),
    "delete builtins": (
        "import builtins\nfor name in ['print', 'len', '__import__', 'open']: builtins.__dict__.pop(name)",
        "",
    ),
    "SystemExit in a task": (
        (
            "import asyncio\nasync def leave(): raise SystemExit(7)\n"
            "task = asyncio.ensure_future(leave())\nawait asyncio.sleep(0.1)\nprint('went on')"
        ),
        "went on\n",
    ),
    "stop the loop": ("import asyncio\nasyncio.get_running_loop().stop()\nprint('said')", "said\n"),
    "a child that goes on": (
        "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0); print('parent')",
        "parent\n",
    ),
    "ignore SIGINT, SIGTERM, SIGHUP": (
        "import signal\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nimport os; os.kill(os.getpid(), 15)",
        "",
    ),
}


@pytest.mark.parametrize(("code", "said"), HARMLESS.values(), ids=HARMLESS.keys())
def test_damage_that_is_mended(kernel, code, said):
    _reply, outputs = kernel.run(code)
    assert text_of(outputs) == said
    check_alive(kernel)
    _, outputs = kernel.run("import os\nprint('one', len([1, 2]), open(os.devnull).read() == '')")
    assert text_of(outputs) == "one 2 True\n"
    kernel.km.restart_kernel()
    kernel.kc.wait_for_ready(timeout=PATIENCE)


def flood_of(how: str) -> str:
    return f"import os, sys\nblock = 'y\\n' * (1 << 19)\nfor i in range(200): {how}\nprint('the end')"


FLOODS = {
    "print": flood_of("sys.stdout.write(block)"),
    "descriptor 1": flood_of("os.write(1, block.encode())"),
    "a subprocess": "import subprocess\nsubprocess.run('yes | head -c 200000000; echo the end', shell=True)",
    "results": "from IPython.display import display, Pretty\nfor i in range(200): display(Pretty('y' * (1 << 20)))",
}


@pytest.mark.parametrize("code", FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_is_cut_with_a_notice(kernel, code):
    before = memory_of(front_of(kernel))
    _reply, outputs = kernel.run(code)
    size = sum(len(str(m["content"])) for m in outputs)
    assert size < 3 * 4 * 1024**2 * 1.5, "the limit is 4 MB; text forms of it may be somewhat larger"
    assert re.search(r"omitted|limit", whole_text(outputs)), "nothing says that output is missing"
    assert memory_of(front_of(kernel)) - before < 150 * 1024**2
    check_alive(kernel)


def whole_text(outputs: list[Message]) -> str:
    return "".join(str(m["content"]) for m in outputs)


def stubborn(kernel: Kernel, code: str) -> str:
    """Run a cell, interrupt it once it says it runs, wait for its end."""
    msg_id = kernel.begin(code)
    time.sleep(0.3)
    kernel.km.interrupt_kernel()
    return explained(*kernel.finish(msg_id))


STUBBORN = {
    "ignores SIGINT": "import signal, time\nsignal.signal(2, signal.SIG_IGN)\nprint('running')\nwhile True: time.sleep(1)",
    "blocks SIGINT": "import signal, time\nsignal.pthread_sigmask(0, [2])\nprint('running')\nwhile True: time.sleep(1)",
    "catches KeyboardInterrupt": (
        "import time\nwhile True:\n    try:\n        print('running')\n        while True: time.sleep(0.1)\n"
        "    except BaseException: pass"
    ),
    "stops itself": "import os, signal, sys\nprint('running'); sys.stdout.flush()\nos.kill(os.getpid(), signal.SIGSTOP)",
    "announces a frame that never comes": (
        "import sys\nprint('running'); sys.stdout.flush()"
        + TO_THE_HOST.format(data=r"b'\x03\xff\xff\xff'").replace("time.sleep(20)", "")
    ),
    "a fork bomb": (
        # Ignored, not caught: an interrupt in the middle of a handler would end the cell.
        "import os, signal, sys\nsignal.signal(2, signal.SIG_IGN)\nprint('running'); sys.stdout.flush()\n"
        "while True:\n    try: os.fork()\n    except OSError: pass"
    ),
}


#: It takes all of the ten seconds of grace, each time.
ONE_STUBBORN = "catches KeyboardInterrupt"


@pytest.mark.parametrize("code", each(STUBBORN, lambda name: name != ONE_STUBBORN))
def test_what_ignores_an_interrupt_is_ended_with_the_reason(kernel, code):
    said = stubborn(kernel, code)
    # So many processes may need more memory than there is before the grace time is over.
    full = "|MemoryLimitExceeded: " if "os.fork" in code else ""
    assert re.search(rf"Guest\w+: .*ignored the interrupt for 10 s{full}", said), said
    check_alive(kernel)


def test_a_kernel_that_lost_its_guest_fifty_times(kernel):
    for _ in range(50):
        kernel.run("import os; os._exit(1)")
    check_alive(kernel)
