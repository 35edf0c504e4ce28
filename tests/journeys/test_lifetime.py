"""A long life without growth, and ends without orphans."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import IO, TYPE_CHECKING

import psutil
import pytest

from kernel_runtime.domain.limits import MIB
from kernel_runtime.domain.snapshot import Budget
from tests.journeys.kernels import check_alive, explained, front_of, result, started
from tests.journeys.processes import below, eventually, groups_of, living, maps_of, memory_of, open_fds
from tests.jupyter.kernels import PATIENCE, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.jupyter.kernels import Kernel

WARM_UP = 100
CELLS = 1000
#: Frozen copies that stay: the automatic snapshots.
COPIES = Budget().automatic
#: What a cell of the thousand does; each leaves its result in Out and its text in In, as always.
CELL = """
print('cell', {n})
import subprocess, asyncio
from IPython.display import display, HTML
display(HTML('<b>{n}</b>'))
await asyncio.sleep(0)
[{n}] * 10
"""


def preloaded(kernel: Kernel) -> list[psutil.Process]:
    """The processes that have pandas: the warm zygote, then also a first process and a live branch."""
    return [p for p in below(front_of(kernel)) if "/pandas/" in maps_of(p.pid)]


@contextlib.contextmanager
def settled(place: Path, *arguments: str) -> Iterator[Kernel]:
    """A kernel whose start is over: the warm zygote stands, and the guest has moved to it."""
    with started(*arguments, cwd=str(place), warm=True) as kernel:
        assert eventually(lambda: len(preloaded(kernel)) == 3, PATIENCE), below(front_of(kernel))
        # The bare zygote, which the guest has left, goes.
        assert eventually(lambda: len(launchers(kernel)) == 1, PATIENCE), below(front_of(kernel))
        yield kernel


def counts(kernel: Kernel) -> dict[str, int]:
    """Descriptors, processes and threads of the front and all below it. A copy that was given up is a
    zombie until the next one is made."""
    front = front_of(kernel)
    found = below(front)
    everyone = living(found)
    return {
        "zombies": len(found) - len(everyone),
        **descriptors([front, *(p.pid for p in everyone)]),
        "processes": len(everyone),
        "threads": sum(p.num_threads() for p in [psutil.Process(front), *everyone]),
    }


def descriptors(pids: Iterable[int]) -> dict[str, int]:
    """How many there are, of each kind: a difference is to say what it is."""
    found: Counter[str] = Counter()
    for pid in pids:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # the one that was just listed with
                found["fd " + re.sub(r"\d+", "N", os.readlink(f"/proc/{pid}/fd/{fd}"))] += 1
    return dict(found)


def kinds(counted: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counted.items() if name.startswith("fd ")}


def at_rest(kernel: Kernel) -> dict[str, int]:
    """The counts once they have stayed the same for a second: threads that gather output and
    write the history end by themselves."""
    kernel.ask("control", "usage_request")  # what the front looks at usage with, it keeps open
    last: list[dict[str, int]] = []

    def same() -> bool:
        try:
            last.append(counts(kernel))
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            last.clear()  # one was just ending
        return len(last) > 5 and all(each == last[-1] for each in last[-6:])

    assert eventually(same, PATIENCE, step=0.2), last[-6:]
    return last[-1]


def memory(kernel: Kernel) -> dict[str, int]:
    front = front_of(kernel)
    return {"front": memory_of(front), "guests": sum(memory_of(p.pid) for p in living(below(front)))}


def after_collection(kernel: Kernel) -> dict[str, int]:
    """What is in use at rest. A collection writes to pages that the guest shares with its copies:
    measured once every copy that is kept was made after it."""
    kernel.run("import gc; gc.collect()")
    for n in range(COPIES + 4):
        kernel.run(CELL.format(n=n))
    return at_rest(kernel) | memory(kernel)


@pytest.mark.slow
def test_a_thousand_cells_leave_no_trace(tmp_path, record_property):
    """Without copies: what a cell leaves is seen to the last page."""
    with settled(tmp_path, "--undo=0") as kernel:
        for n in range(WARM_UP):
            kernel.run(CELL.format(n=n))
        before = after_collection(kernel)
        thousand(kernel, CELLS)
        after = after_collection(kernel)
        record_property("before_after", [before, after])
        unchanged(before, after)
        assert after["zombies"] == 0
        # In, Out and the guest's history keep each cell: about 4 KB of it.
        assert after["guests"] - before["guests"] < 12 * MIB, (before, after)


@pytest.mark.slow
def test_many_cells_with_a_copy_before_each_leave_what_the_kept_copies_hold(tmp_path, record_property):
    """The kept copies were made at different moments: each holds pages that the others do not."""
    with settled(tmp_path) as kernel:
        for n in range(WARM_UP):
            kernel.run(CELL.format(n=n))
        before = after_collection(kernel)
        thousand(kernel, CELLS // 2)
        after = after_collection(kernel)
        record_property("before_after", [before, after])
        unchanged(before, after)
        assert after["zombies"] <= COPIES + 1
        assert after["guests"] - before["guests"] < (COPIES + 1) * 6 * MIB, (before, after)


def thousand(kernel: Kernel, cells: int) -> None:
    for n in range(cells):
        reply, outputs = kernel.run(CELL.format(n=n))
        assert reply["content"]["status"] == "ok"
        kinds = [m["msg_type"] for m in outputs if m["msg_type"] != "stream"]
        assert kinds == ["execute_input", "display_data", "execute_result"]
        assert text_of(outputs) == f"cell {n}\n"


def unchanged(before: dict[str, int], after: dict[str, int]) -> None:
    assert after["processes"] == before["processes"]
    assert kinds(after) == kinds(before)
    # The front's pool of threads fills as it is used, and grows no further.
    assert after["threads"] - before["threads"] <= (os.cpu_count() or 1) + 4
    assert after["front"] - before["front"] < 8 * MIB, (before, after)


@pytest.mark.slow
def test_twenty_restarts_by_the_guests_death_leave_nothing(tmp_path):
    with settled(tmp_path) as kernel:
        # Then as many automatic snapshots are there as are kept, and what the last cell that came
        # through went on from.
        _after_deaths(kernel, 12)
        before = _after_deaths(kernel, 12)
        after = _after_deaths(kernel, 20)
        assert after["processes"] == before["processes"]
        assert kinds(after) == kinds(before)
        assert after["front"] - before["front"] < 8 * MIB, (before, after)


def _after_deaths(kernel: Kernel, count: int) -> dict[str, int]:
    for _ in range(count):
        kernel.run("import os, subprocess; subprocess.Popen(['sleep', '60']); os._exit(1)")
    check_alive(kernel)
    return at_rest(kernel) | memory(kernel)


@pytest.mark.slow
def test_twenty_kernel_restarts_leave_nothing_behind(tmp_path):
    gc.collect()
    with started(cwd=str(tmp_path)) as kernel:
        ports = kernel.km.get_connection_info()["shell_port"]
        own = open_fds(os.getpid())
        seen = []
        for _ in range(20):
            kernel.run("x = 1; import subprocess; child = subprocess.Popen(['sleep', '600'])")
            seen += [psutil.Process(front_of(kernel)), *below(front_of(kernel))]
            kernel.km.restart_kernel()
            kernel.kc.wait_for_ready(timeout=PATIENCE)
            assert result(kernel.run("'x' in globals()")[1]) == "False"
        assert kernel.km.get_connection_info()["shell_port"] == ports
        assert eventually(lambda: not living(seen), PATIENCE), living(seen)
        assert open_fds(os.getpid()) <= own + 3
        groups = [group for process in seen for group in groups_of(process.pid)]
        assert groups == []


def busy(kernel: Kernel) -> list[psutil.Process]:
    """Have the guest start children of every kind, then every process below the front."""
    kernel.run(
        "import subprocess, os, time\n"
        "subprocess.Popen(['sleep', '600'])\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True: time.sleep(1)\n    os._exit(0)\n"
    )
    found = below(front_of(kernel))
    assert len(found) >= 6, found
    return found


@pytest.mark.parametrize(
    "running", [pytest.param(False, id="idle", marks=pytest.mark.slow), pytest.param(True, id="busy")]
)
def test_no_orphan_after_kill_9_of_the_front(tmp_path, running):
    with settled(tmp_path) as kernel:
        processes = busy(kernel)
        if running:
            kernel.begin("print('running')\nwhile True: pass")
        front = front_of(kernel)
        had_groups = bool(groups_of(front))
        os.kill(front, signal.SIGKILL)
        assert eventually(lambda: not living(processes), PATIENCE), living(processes)
        kernel.km.provisioner.process.wait(PATIENCE)
    with started(cwd=str(tmp_path)) as following:
        check_alive(following)
        assert groups_of(front) == []
        if had_groups:
            assert groups_of(front_of(following)), "the next front should have made its own"


@pytest.mark.slow
def test_no_orphan_after_kill_9_at_any_moment_of_the_start(tmp_path):
    """The zygote forks helpers while it starts; none may outlive a front that is killed then."""
    dice = random.Random(5)
    command = [sys.executable, "-c", ADOPTER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    ) as adopter:
        assert adopter.stdin is not None
        own = psutil.Process(adopter.pid)
        for _ in range(40):
            _start_and_kill(adopter.stdin, own, tmp_path, dice.uniform(0.05, 0.7))
        assert eventually(lambda: not living(own.children(recursive=True)), PATIENCE), own.children()
        adopter.stdin.close()


#: Starts what it is told to; what that leaves behind becomes its child, and nobody else's.
ADOPTER = """
import os, sys
from kernel_runtime.sandbox import syscalls
syscalls.set_child_subreaper()
for line in sys.stdin:
    place, *argv = line.rstrip().split("\\t")
    if os.fork() == 0:
        os.chdir(place)
        os.execv(argv[0], argv)
"""


def _start_and_kill(orders: IO[str], adopter: psutil.Process, place: Path, after: float) -> None:
    """``after`` seconds from the start; the directory makes this front known."""
    argv = [sys.executable, "-m", "kernel_runtime.jupyter.kernel", "-f", str(place / "connection.json")]
    print(place, *argv, sep="\t", file=orders, flush=True)
    assert eventually(lambda: _fronts(adopter, argv), PATIENCE, step=0.001)
    time.sleep(after)
    for front in _fronts(adopter, argv):
        front.kill()
    assert eventually(lambda: not _fronts(adopter, argv), PATIENCE)


def _fronts(adopter: psutil.Process, argv: list[str]) -> list[psutil.Process]:
    found = []
    for process in adopter.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [process] if process.cmdline() == argv else []
    return found


def launchers(kernel: Kernel) -> list[psutil.Process]:
    return psutil.Process(front_of(kernel)).children()


def live_branch(kernel: Kernel) -> psutil.Process:
    """The process that burns CPU while a cell does."""
    before = {p.pid: p.cpu_times().user for p in below(front_of(kernel))}
    kernel.run("import time\nend = time.monotonic() + 0.5\nwhile time.monotonic() < end: pass")
    return max(below(front_of(kernel)), key=lambda p: p.cpu_times().user - before.get(p.pid, 0))


def _not_frozen(kernel: Kernel) -> list[psutil.Process]:
    """Frozen branches stand still, and stay."""
    return [p for p in living(below(front_of(kernel))) if p.status() != psutil.STATUS_STOPPED]


def killed_while_it_runs(kernel: Kernel, victims: list[psutil.Process]) -> str:
    msg_id = kernel.begin("print('running')\nwhile True: pass")
    for victim in victims:
        victim.kill()
    return explained(*kernel.finish(msg_id))


@pytest.mark.slow
def test_the_front_lives_on_without_its_zygotes(tmp_path):
    with settled(tmp_path) as kernel:
        check_alive(kernel)
        processes = below(front_of(kernel))
        said = killed_while_it_runs(kernel, launchers(kernel))
        assert "zygote ended" in said or "first process was killed" in said, said
        check_alive(kernel)
        assert eventually(lambda: not living(processes), PATIENCE), living(processes)
        # And once more while nothing runs.
        processes = below(front_of(kernel))
        for launcher in launchers(kernel):
            launcher.kill()
        assert eventually(lambda: not living(processes), PATIENCE), living(processes)
        kernel.ask("control", "usage_request")  # a turn of the front's loop: it has heard of it
        check_alive(kernel)


def test_the_front_lives_on_without_its_live_branch(tmp_path):
    with settled(tmp_path) as kernel:
        busy(kernel)
        processes = _not_frozen(kernel)
        said = killed_while_it_runs(kernel, [live_branch(kernel)])
        assert "SIGKILL" in said, said
        check_alive(kernel)

        def fewer():
            return len(_not_frozen(kernel)) <= len(processes) - 3

        assert eventually(fewer, PATIENCE), "children of the dead branch live on"


@pytest.mark.slow
def test_the_front_lives_on_without_its_sessions_first_process(tmp_path):
    with settled(tmp_path) as kernel:
        first = live_branch(kernel).parent()
        assert first is not None
        said = killed_while_it_runs(kernel, [first])
        assert "first process was killed" in said or "SIGKILL" in said, said
        check_alive(kernel)


def test_shutdown_leaves_nothing(tmp_path):
    said = tmp_path / "stderr"
    with said.open("wb") as stderr, started(cwd=str(tmp_path), stderr=stderr) as kernel:
        processes = busy(kernel)
        front = front_of(kernel)
    assert "Traceback" not in said.read_text()
    assert eventually(lambda: not living(processes), PATIENCE), living(processes)
    assert not psutil.pid_exists(front)
    assert groups_of(front) == []


def test_the_kernel_ends_with_the_process_that_started_it(tmp_path):
    """Clients and servers that are killed send no shutdown request."""
    code = (
        "import sys, time\nfrom tests.journeys.kernels import started\n"
        f"with started(cwd={str(tmp_path)!r}) as k:\n print(k.km.provisioner.pid, flush=True)\n time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        front = psutil.Process(int(parent.stdout.readline()))
        processes = [front, *below(front.pid)]
        parent.kill()
        assert eventually(lambda: not living(processes), PATIENCE), living(processes)
