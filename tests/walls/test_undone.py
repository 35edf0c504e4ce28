"""What an undone cell has left running, and what it made of its copies, does not reach the state that came back."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.errors import KernelRuntimeError, NotFound
from kernel_runtime.workers.init import Init
from tests.walls.test_branches import FIND, GRASP, GRASPED
from tests.workers.branches import only_live_runs, processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.walls.conftest import Guest

#: A child whose first thread ends before the other one: the kernel calls it a zombie.
HEADLESS = """
import ctypes, threading
reading, writing = os.pipe()
pid = os.fork()
if pid == 0:
    os.setsid()
    threading.Thread(target=lambda: (os.write(writing, b'x'), signal.pause())).start()
    ctypes.CDLL(None).syscall(EXIT, 0)
os.read(reading, 1)
state = lambda pid: open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0]
while state(pid) != 'Z': pass
""".replace("EXIT", "60 if os.uname().machine == 'x86_64' else 93")


def test_a_process_without_its_first_thread_ends_too(open_guest: Callable[..., Guest]) -> None:
    guest = open_guest(automatic=False)
    guest.run(FIND)
    guest.snapshot("point")
    guest.run(HEADLESS)
    pid = guest.answer("pid")
    assert guest.answer(f"tried(lambda: os.kill({pid}, 0))") == "'done'", "the control"
    guest.restore("point")
    assert guest.answer(f"tried(lambda: os.kill({pid}, 0))") == "'ProcessLookupError'"
    assert only_live_runs(guest.inner), processes(guest.inner)


#: A copy that runs when the kernel hangs up on its group of processes.
HANGS_ON = """
from kernel_runtime.guest import forking, frozen as copies
def runs(*_):
    while True:
        with open('/tmp/alive', 'ab') as file: file.write(b'x')
rest = copies._rest
def _rest(*arguments):
    signal.signal(signal.SIGHUP, runs)
    MORE
    return rest(*arguments)
copies._rest = _rest
"""
#: A child in another group of its session, whose own child is in the copy's group: the kernel hangs up when the first one ends.
FAMILY = """own = os.getpid()
    if os.fork() == 0:
        os.setpgid(0, 0)
        if os.fork() == 0: os.setpgid(0, own)
        while True: signal.pause()"""
ALIVE = "os.path.getsize('/tmp/alive') if os.path.exists('/tmp/alive') else 0"
#: So that ends are waited for, and so that they are not.
MADE = {"waited for": "held = os.pipe()", "not": "pass"}


@pytest.mark.parametrize("held", MADE.values(), ids=MADE.keys())
def test_a_copy_that_the_kernel_lets_go_on_when_another_process_ends_is_stopped_again(
    open_guest: Callable[..., Guest], held: str
) -> None:
    guest = open_guest(automatic=False)
    guest.run(FIND)
    guest.snapshot("point")
    guest.run(f"{HANGS_ON.replace('MORE', FAMILY)}\n{held}")
    guest.snapshot("hostile")
    guest.restore("point")
    written = guest.answer(ALIVE)
    time.sleep(0.3)
    assert guest.answer(ALIVE) == written
    assert only_live_runs(guest.inner), processes(guest.inner)
    (copy,) = guest.inner.snapshots.kept.source(guest.inner.snapshots.find("hostile")).pids
    guest.run(f"for number in (signal.SIGHUP, signal.SIGCONT): os.kill({copy}, number)")
    assert guest.answer(f"while ({ALIVE}) == {written}: pass\n6 * 7") == "42", (
        "the control: it runs when it can"
    )


def test_a_copy_in_the_session_of_another_process_is_none(open_guest: Callable[..., Guest]) -> None:
    """It could be let go on by the end of any copy there, for which nobody looks."""
    guest = open_guest(automatic=False)
    guest.run(FIND)
    guest.snapshot("point")
    guest.run(HANGS_ON.replace("MORE", "pass") + "forking._lead_a_session = lambda group: None")
    with contextlib.suppress(KernelRuntimeError):
        guest.snapshot("hostile")
    guest.restore("point")
    assert only_live_runs(guest.inner), processes(guest.inner)
    assert guest.answer(ALIVE) == "0"
    with pytest.raises(NotFound):
        guest.restore("hostile")
    assert only_live_runs(guest.inner), processes(guest.inner)


#: Whoever is asked for its weight leaves a child behind.
ASKED = """
from kernel_runtime.guest import frozen as copies
weigh = copies._weigh
def _weigh():
    open('/tmp/asked', 'w').close()
    if os.fork() == 0:
        while True: signal.pause()
    return weigh()
copies._weigh = _weigh
"""


@pytest.mark.parametrize("may_look", [True, False], ids=["from outside", "by asking"])
def test_a_copy_of_what_was_undone_is_not_asked_for_its_weight(
    open_guest: Callable[..., Guest], request: pytest.FixtureRequest, may_look: bool
) -> None:
    guest = open_guest(automatic=False)
    if not may_look:
        request.getfixturevalue("host_may_not_look")
    guest.run(FIND)
    guest.snapshot("point")
    guest.run(ASKED)
    guest.snapshot("hostile")
    if not may_look:
        guest.weigh()
        asked = "os.path.exists('/tmp/asked') and os.remove('/tmp/asked')"
        assert guest.answer(asked) == "None", "the control: the present state comes from it"
    guest.restore("point")
    guest.weigh()
    assert guest.answer("os.path.exists('/tmp/asked')") == "False"
    assert only_live_runs(guest.inner), processes(guest.inner)
    sizes = {one.name: one.size for one in guest.inner.snapshots.listing()}
    assert sizes["point"], sizes


#: A copy has a parent that is a copy, too: pid 1 is not told of its end.
BETWEEN = """
import socket, time
from kernel_runtime import wire
from kernel_runtime.guest import branching, forking, frozen
from kernel_runtime.guest.channel import Channel
here, there = socket.socketpair()
live, plainly = os.getpid(), forking.Forking.fork
def fork(self, at_once):
    if os.getpid() != live: return plainly(self, at_once)
    self.active = True
    if os.fork():
        self.active = False
        return None
    os.setsid()
    if os.fork() == 0:
        os.setsid(); self.active = False
        return at_once()
    channel = Channel(socket.socket(fileno=socket.recv_fds(there, 1, 1)[1][0]), wire.decode_to_frozen)
    channel.send(wire.Frozen(pid=os.getpid()))
    while True: time.sleep(1)
def freeze(self, order, fd):
    global here
    if here is None: return self.refuse(order, 'once')
    socket.send_fds(here, [b'x'], [fd]); os.close(fd); here = None
    self._connection.send(wire.Froze(parent=order.id))
forking.Forking.fork = fork
"""


def test_a_branch_whose_parent_is_a_frozen_one_can_end(open_guest: Callable[..., Guest]) -> None:
    guest = open_guest(automatic=False)
    guest.run(FIND)
    guest.snapshot("point")
    guest.run(BETWEEN)
    guest.snapshot("hostile")
    guest.run("branching.Branching.freeze = freeze")
    guest.snapshot("parent")
    guest.restore("hostile")
    assert guest.answer("open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[0]") == "'T'"
    ended = guest.run("os._exit(3)")
    assert ended.verdict is not None
    assert guest.answer("6 * 7") == "42"
    guest.restart()
    assert guest.answer("6 * 7") == "42"
    assert only_live_runs(guest.inner), processes(guest.inner)


def test_the_first_state_hides_until_what_came_after_it_has_ended(
    open_guest: Callable[..., Guest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if somebody had let go on what was stopped: processes can do that for each other, with luck."""
    guest = open_guest()
    guest.run(FIND + GRASP)
    left = int(guest.answer("os.getpid()"))
    monkeypatch.setattr(Init, "pause", _stopping_nothing)
    guest.restore(1)
    monkeypatch.undo()
    assert guest.answer("'tried' in globals()") == "False"
    guest.run("import os")
    found = ast.literal_eval(guest.answer(GRASPED))
    assert left in found, "the control"
    assert int(guest.answer("os.getpid()")) not in found
    assert guest.answer("tried = lambda: os.close(os.open('/proc/self/mem', os.O_RDWR)); tried()") == "None"


def _stopping_nothing(_: Init) -> asyncio.Future[None]:
    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


#: Each lets all others go on, and forks, for as long as it runs.
STORM = """
for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(8):
    if os.fork() == 0:
        os.setsid()
        while True:
            tried(lambda: os.kill(-1, signal.SIGCONT))
            try:
                if os.fork(): os._exit(0)
            except OSError: pass
"""


def test_processes_that_let_each_other_go_on_all_end(open_guest: Callable[..., Guest]) -> None:
    guest = open_guest(automatic=False, pids=40)
    guest.run(FIND)
    guest.snapshot("point")
    for _ in range(3):
        guest.run(STORM)
        assert len([p for p in processes(guest.inner) if p.state in "RS"]) > 2, "the control"
        guest.restore("point")
        assert only_live_runs(guest.inner), processes(guest.inner)


#: What a copy is said to have cost: the moment before each cell is kept as far as that pays.
COSTS = """
from kernel_runtime.guest import branching
def answer(self, order, begun, **more):
    self._connection.send(branching.wire.Froze(parent=order.id, pause=COST, spent=COST, **more))
branching.Branching._answer = answer
"""


def _copied(guest: Guest) -> int:
    """How many of three cells have one."""
    made = 0
    for _ in range(3):
        guest.run("1 + 1")
        made += guest.inner.snapshots.before is not None
    return made


def test_what_an_undone_cell_says_of_the_cost_of_copies_holds_for_its_own_state(
    open_guest: Callable[..., Guest],
) -> None:
    guest = open_guest()
    guest.run("x = 1")
    guest.snapshot("point")
    assert _copied(guest) == 3
    guest.run(COSTS.replace("COST", "3600.0"))
    _copied(guest)
    assert _copied(guest) == 0, "the control"
    guest.restore("point")
    assert _copied(guest) == 3


#: Comes back, says so, and ends: at once, or a moment later.
ENDS = """
import time
from kernel_runtime.guest import connection
wait = connection.Connection.wait_to_go
def wait_to_go(self):
    WHEN
    os._exit(7)
connection.Connection.wait_to_go = wait_to_go
"""
WHEN = {"at once": "pass", "when it is alone": "wait(self)", "later": "wait(self); time.sleep(0.2)"}


@pytest.mark.parametrize("name", WHEN)
def test_a_state_that_ends_when_it_has_come_back_is_not_gone_back_to_for_ever(
    open_guest: Callable[..., Guest], name: str
) -> None:
    guest = open_guest(automatic=False)
    guest.run(FIND + "x = 1")
    guest.snapshot("honest")
    guest.run(ENDS.replace("WHEN", WHEN[name]) + "x = 2")
    guest.snapshot("hostile")
    told = ""
    try:
        guest.restore("hostile")
    except KernelRuntimeError as error:
        told = str(error)
    if "when it came back" in told:
        assert guest.answer("x") == "2", "the present goes on"
        return
    deadline = time.monotonic() + 60
    while not (guest.inner.is_ready and "'honest'" in guest.inner.state) and time.monotonic() < deadline:
        time.sleep(0.05)
    count = guest.inner._count
    assert count <= 12
    first = guest.run("x")
    assert first.result == "1"
    assert "with status 7, while no cell ran. The variables are as they were after cell 1" in first.stderr
    assert guest.inner._count == count
    assert {one.name for one in guest.inner.snapshots.listing()} >= {"honest", "hostile"}
    assert only_live_runs(guest.inner), processes(guest.inner)


def test_a_state_that_has_ended_before_the_present_is_left_replaces_nothing(
    open_guest: Callable[..., Guest],
) -> None:
    """The present, whose child it is, may have buried it: nobody else hears of its end."""
    guest = open_guest(automatic=False)
    guest.run(FIND + ENDS.replace("WHEN", WHEN["at once"]))
    guest.snapshot("hostile")
    guest.run("from kernel_runtime.sdk.branches import before_snapshot\nx = 2")
    guest.run("before_snapshot(lambda: time.sleep(0.5))")
    with pytest.raises(KernelRuntimeError, match="it ended when it came back"):
        guest.restore("hostile")
    assert guest.answer("x") == "2"
    assert only_live_runs(guest.inner), processes(guest.inner)
