"""Frozen branches under attack: by the cells beside them, and by what a hostile cell has made of them."""

from __future__ import annotations

import ast
import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.workers import frozen, kept, meter, spares, thawing
from tests.cases import each
from tests.workers.branches import only_live_runs, processes, strays

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.walls.conftest import Guest

FIND = """
import os, signal
def frozen():
    found = []
    for name in os.listdir('/proc'):
        if name.isdigit() and name != '1' and int(name) != os.getpid():
            try: state = open(f'/proc/{name}/stat').read().rpartition(')')[2].split()[0]
            except OSError: continue  # it has just ended
            if state == 'T': found.append(int(name))
    return sorted(found)
def tried(what):
    try:
        what()
    except OSError as error:
        return type(error).__name__
    return 'done'
"""
#: Into the memory and the descriptors of another process of the same user.
REACH = """
def reach(pid):
    return [tried(lambda: os.close(os.open(f'/proc/{pid}/mem', os.O_RDWR))),
            tried(lambda: open(f'/proc/{pid}/environ').read()),
            tried(lambda: os.listdir(f'/proc/{pid}/fd')),
            tried(lambda: open(f'/proc/{pid}/maps').read())]
"""


def test_a_cell_cannot_look_into_a_frozen_branch(open_guest: Callable[..., Guest]) -> None:
    guest = open_guest()
    guest.run(FIND + REACH)
    guest.snapshot("point")
    child = "pid = os.fork()\nif pid == 0:\n    import time; time.sleep(60)\nfound = reach(pid); os.kill(pid, 9); os.waitpid(pid, 0); found"
    assert guest.answer(child) == "['done', 'done', 'done', 'done']", "the control: its own child"
    outcomes = ast.literal_eval(guest.answer("[reach(pid) for pid in frozen()]"))
    assert outcomes
    assert all(outcome == ["PermissionError"] * 4 for outcome in outcomes), outcomes


#: Left running by a cell: writes down whose memory it can have, of all processes that come and go.
GRASP = """
import time
if os.fork() == 0:
    log, known = open('/tmp/grasped', 'a', buffering=1), {'1', str(os.getpid())}
    while True:
        for name in os.listdir('/proc'):
            if name.isdigit() and name not in known:
                if tried(lambda: os.close(os.open(f'/proc/{name}/mem', os.O_RDWR))) == 'done':
                    known.add(name)
                    print(name, file=log)
def seen():
    with open('/tmp/grasped', 'a+') as file:
        file.seek(0)
        return str(os.getpid()) in file.read().split()
while not seen(): time.sleep(0.01)
"""
GRASPED = "set(map(int, open('/tmp/grasped').read().split()))"


def test_what_a_cell_left_running_cannot_look_into_copies_that_begin(
    open_guest: Callable[..., Guest],
) -> None:
    """They have much to do until they wait: they let go of all those descriptors."""
    guest = open_guest()
    guest.run("held = [open('/dev/null') for _ in range(900)]")
    guest.run(FIND + GRASP)
    copies = set()
    for _ in range(10):
        guest.snapshot()
        copies |= guest.inner.snapshots.pids
    found = ast.literal_eval(guest.answer(GRASPED))
    assert int(guest.answer("os.getpid()")) in found, "the control"
    assert len(copies) >= 10
    assert not copies & found


def test_what_a_cell_left_running_cannot_look_into_the_branch_that_comes_back(
    open_guest: Callable[..., Guest],
) -> None:
    guest = open_guest()
    guest.run(FIND)
    guest.snapshot("point")
    for _ in range(10):
        guest.run("os.path.exists('/tmp/grasped') and os.remove('/tmp/grasped')")
        guest.run(GRASP)
        left = int(guest.answer("os.getpid()"))
        guest.restore("point")
        found = ast.literal_eval(guest.answer(GRASPED))
        assert left in found, "the control"
        assert int(guest.answer("os.getpid()")) not in found


def test_a_branch_that_is_woken_by_a_cell_does_nothing_and_comes_back(
    open_guest: Callable[..., Guest],
) -> None:
    guest = open_guest()
    guest.run(FIND + "x = [1]")
    guest.snapshot("point")
    woken = guest.answer("x[0] = 2\n[tried(lambda: os.kill(pid, signal.SIGCONT)) for pid in frozen()]")
    assert "done" in woken
    guest.restore("point")
    assert guest.answer("x") == "[1]"
    assert only_live_runs(guest.inner, 5) or strays(guest.inner)[0].state == "S"


#: Pid 1 stops a frozen branch: a change of a child, which is nobody's to hear of.
CHANGES = {
    "waitpid": "os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)[0]",
    "wait3": "os.wait3(options=os.WNOHANG | os.WUNTRACED | os.WCONTINUED)[0]",
    "wait4": "os.wait4(-1, options=os.WNOHANG | os.WUNTRACED | os.WCONTINUED)[0]",
    "waitid": "getattr(os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG), 'si_pid', 0)",
}


@pytest.mark.parametrize("call", CHANGES.values(), ids=CHANGES.keys())
def test_a_cell_hears_of_its_children_that_stop_and_not_of_frozen_branches(
    open_guest: Callable[..., Guest], call: str
) -> None:
    guest = open_guest()
    guest.run(FIND)
    guest.snapshot("point")
    guest.run("child = os.fork()\nif child == 0:\n    while True: signal.pause()")
    assert guest.answer(f"while len(frozen()) < 3: pass\n{call}") == "0"
    stop = "os.kill(child, signal.SIGSTOP)\nwhile child not in frozen(): pass\n"
    assert guest.answer(f"{stop}{call} == child") == "True", "the control: its own child"


def test_what_waits_is_kept_by_name_in_a_pickle(open_guest: Callable[..., Guest]) -> None:
    kept = "import os, pickle; all(pickle.loads(pickle.dumps(w)) is w for w in (os.wait, os.waitpid, os.wait3, os.wait4, os.waitid))"
    assert open_guest().answer(kept) == "True"


#: Runs in a frozen branch that is woken: user code in it, for as long as it likes.
BUSY = """
import time
def handler(*_):
    while True:
        open('/tmp/alive', 'w').write(str(time.monotonic()))
signal.signal(signal.SIGUSR1, handler)
"""


@pytest.mark.parametrize("end", ["os._exit(1)", "os.kill(os.getpid(), 9)"])
def test_what_runs_in_a_woken_branch_stands_still_after_the_kill(
    open_guest: Callable[..., Guest], end: str
) -> None:
    guest = open_guest()
    guest.run(FIND + BUSY)
    guest.snapshot("point")
    code = f"""
while len(frozen()) < 2: pass
pid = frozen()[0]
os.kill(pid, signal.SIGUSR1); os.kill(pid, signal.SIGCONT)
while not os.path.exists('/tmp/alive'): time.sleep(0.01)
{end}
"""
    assert "before this cell" in guest.run(code).verdict.state
    assert only_live_runs(guest.inner), processes(guest.inner)
    written = guest.answer("open('/tmp/alive').read()")
    assert written, "the control: it did run"
    time.sleep(0.3)
    assert guest.answer("open('/tmp/alive').read()") == written


LIAR = """
import os, time
import kernel_runtime.guest.frozen as frozen
from kernel_runtime import wire
real = frozen.FrozenCopy._wait
def say(channel, pid, external=()):
    frame = wire.Frozen(pid=pid, external=list(external))
    channel.send(frame)
def waits_for_ever(channel):
    while True:
        time.sleep(1)
def _wait(self, channel, moment, external):
    own, live = os.getpid(), LIVE
    WHAT
    return real(self, channel, moment, external)
LIVE = os.getpid()
frozen.FrozenCopy._wait = _wait
"""
#: The same of its first word.
FIRST_LIE = (
    LIAR.replace("WHAT", "")
    + """
first = frozen._rest
def _rest(channel, external):
    own, live = os.getpid(), LIVE
    WHAT
    return first(channel, external)
frozen._rest = _rest
"""
)
FREEZING = {
    "pid 0": "say(channel, 0); waits_for_ever(channel)",
    "pid 1": "say(channel, 1); waits_for_ever(channel)",
    "pid -1": "say(channel, -1); waits_for_ever(channel)",
    "a pid beyond all": "say(channel, 2**40); waits_for_ever(channel)",
    "a pid of nobody": "say(channel, 4_000_000); waits_for_ever(channel)",
    "the live branch's pid": "say(channel, live); waits_for_ever(channel)",
    "a child's pid": "pid = os.fork() or waits_for_ever(channel); say(channel, pid); waits_for_ever(channel)",
    "said twice": "say(channel, own)",
    "thousands of names": "say(channel, own, ['x' * 100] * 5000); waits_for_ever(channel)",
    "a name without end": "say(channel, own, ['x' * 2**20]); waits_for_ever(channel)",
    "no frame": "channel._socket.sendall(bytes([0, 0, 0, 4]) + b'junk'); waits_for_ever(channel)",
    "another frame": "channel.send(wire.Done(parent='x')); waits_for_ever(channel)",
    "a weight unasked": "channel.send(wire.Weighed(shared_out=1, private=1)); waits_for_ever(channel)",
    "the end": "os._exit(0)",
    "never": "waits_for_ever(channel)",
}


@pytest.mark.usefixtures("host_may_not_look")
@pytest.mark.parametrize("name", FREEZING)
def test_a_copy_that_lies_is_none(
    open_guest: Callable[..., Guest], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(frozen, "ANSWER_SECONDS", 4.0)
    guest = open_guest(automatic=False)
    guest.run("x = 1")
    guest.snapshot("honest")
    guest.run(FIRST_LIE.replace("WHAT", FREEZING[name]))
    said = False
    with monkeypatch.context() as patched, contextlib.suppress(KernelRuntimeError, TimeoutError):
        patched.setattr(frozen, "ANSWER_SECONDS", 1.0)  # for the liar alone: others may take their time
        guest.snapshot("lie")
        said = True
    if said:
        guest.weigh()  # it is stopped after its first word: the second comes when it is woken
    assert [s.name for s in guest.inner.snapshots.listing()] == ["honest"]
    assert guest.answer("x") == "1", "the live one goes on"
    guest.restore("honest")
    assert guest.answer("x") == "1"
    assert only_live_runs(guest.inner), processes(guest.inner)


def test_a_copy_that_begins_a_long_frame_takes_none_of_the_hosts_memory(
    open_guest: Callable[..., Guest],
) -> None:
    """Each snapshot may have begun one, and the host would keep what has come."""
    guest = open_guest(automatic=False)
    begin = "channel._socket.sendall((2 ** 25).to_bytes(4, 'big')); waits_for_ever(channel)"
    guest.run(FIRST_LIE.replace("WHAT", begin))
    with pytest.raises(KernelRuntimeError, match="exceeds the limit"):
        guest.snapshot("lie")


THAWING = {
    "a wrong token": "order, fds = real(self, channel, moment, external); return wire.Thaw(branch=order.branch, token='0' * 32), fds",
    "another pid": "order, fds = real(self, channel, moment, external); frozen.os.getpid = loop.os.getpid = lambda: 7; return order, fds",
    "a pid beyond all": "order, fds = real(self, channel, moment, external); frozen.os.getpid = loop.os.getpid = lambda: 2**31; return order, fds",
    "no copy left behind": "frame = channel.receive(); fds = channel.take_fds(3); channel.close(); return frame, fds",
    "nothing": "order, fds = real(self, channel, moment, external); waits_for_ever(channel)",
    "the end": "order, fds = real(self, channel, moment, external); os._exit(0)",
}


@pytest.mark.parametrize("name", THAWING)
def test_a_branch_that_lies_when_it_is_thawed_replaces_nothing(
    open_guest: Callable[..., Guest], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(thawing, "THAW_SECONDS", 2.0)
    guest = open_guest(automatic=False)
    guest.run("import kernel_runtime.guest.loop as loop\nx = 1\n" + LIAR.replace("WHAT", THAWING[name]))
    guest.snapshot("lie")
    guest.run("x = 2")
    with pytest.raises((KernelRuntimeError, TimeoutError)):
        guest.restore("lie")
    assert guest.answer("x") == "2", "the live one goes on"
    assert only_live_runs(guest.inner), processes(guest.inner)
    guest.restart()
    assert guest.answer("'x' in globals()") == "False"
    assert only_live_runs(guest.inner), processes(guest.inner)


FALSE_SPARES = {
    "itself": "beside.send(wire.Frozen(pid=os.getpid())); waits_for_ever(channel)",
    "the live branch": "beside.send(wire.Frozen(pid=LIVE)); waits_for_ever(channel)",
    "nobody": "beside.send(wire.Frozen(pid=4_000_000)); waits_for_ever(channel)",
    "twice": "if os.fork() == 0:\n        [beside.send(wire.Frozen(pid=os.getpid())) for _ in range(2)]; waits_for_ever(channel)",
    "no frame": "beside._socket.sendall(bytes([0, 0, 0, 4]) + b'junk')",
    "an answer": "beside.send(wire.Told())",
    "an answer elsewhere": "channel.send(wire.Told())",
    "the end": "os._exit(0)",
    "never": "waits_for_ever(channel)",
}
#: They are waited for, twice; one of them is enough to see that they are.
UNANSWERED = ("the live branch", "nobody")
FALSE_SPARE = """
import socket
from kernel_runtime.guest.channel import Channel
def lie(self, channel, moment, external):
    beside = Channel(socket.socket(fileno=channel.fds.popleft()), wire.decode_to_frozen)
    WHAT
    return channel
frozen.FrozenCopy._leave_spare = lie
"""


@pytest.mark.usefixtures("host_may_not_look")
@pytest.mark.parametrize("name", each({name: name for name in FALSE_SPARES}, UNANSWERED.__contains__))
def test_a_spare_that_lies_is_none(
    open_guest: Callable[..., Guest], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(frozen, "SPARE_SECONDS", 60.0)
    monkeypatch.setattr(frozen, "ANSWER_SECONDS", 4.0)
    monkeypatch.setattr(spares, "REST_SECONDS", 1000.0)
    monkeypatch.setattr(spares, "WORTH", 0)
    guest = open_guest(automatic=False)
    guest.run("x = 1")
    guest.snapshot("honest")
    guest.rest()
    assert guest.inner.snapshots.kept.source(guest.inner.snapshots.find("honest")).has_spare, "the control"
    guest.run(f"{LIAR.replace('WHAT', '')}{FALSE_SPARE.replace('WHAT', FALSE_SPARES[name])}\nx = 2")
    guest.snapshot("lie")
    monkeypatch.setattr(frozen, "SPARE_SECONDS", 1.0)
    guest.rest()
    guest.weigh()
    assert guest.answer("x") == "2", "the live one goes on"
    guest.restore("honest")
    assert guest.answer("x") == "1"
    assert only_live_runs(guest.inner), processes(guest.inner)
    guest.restart()
    assert guest.answer("'x' in globals()") == "False"
    assert only_live_runs(guest.inner), processes(guest.inner)


WEIGHING = {
    "too much": "shared_out=2**62, private=0",
    "less than nothing": "shared_out=-5, private=0",
}


@pytest.mark.usefixtures("host_may_not_look")
@pytest.mark.parametrize("name", WEIGHING)
def test_a_branch_that_lies_about_its_weight_loses_nothing_but_itself(
    open_guest: Callable[..., Guest], name: str
) -> None:
    guest = open_guest(automatic=False)
    guest.run("x = 1")
    guest.snapshot("honest")
    guest.run(
        f"import kernel_runtime.guest.frozen as b\nfrom kernel_runtime import wire\nb._weigh = lambda: wire.Weighed({WEIGHING[name]})"
    )
    guest.snapshot("lie")
    guest.weigh()
    names = [s.name for s in guest.inner.snapshots.listing()]
    assert names in (["lie"], ["honest", "lie"], ["honest"], [])
    assert guest.answer("x") == "1"
    assert all((s.size or 0) >= 0 for s in guest.inner.snapshots.listing())
    assert only_live_runs(guest.inner), processes(guest.inner)


POSER = """
import os, time
from kernel_runtime import wire
from kernel_runtime.sdk.branches import before_snapshot
import socket, struct
@before_snapshot
def pose():
    # The socket of the copy-to-be is open here: a child takes it, and says that it is the copy.
    if os.fork() == 0:
        os.setsid()
        open('/tmp/poser', 'a').write('x')
        for fd in map(int, os.listdir('/proc/self/fd')):
            try:
                os.write(fd, wire.pack(wire.Frozen(pid=os.getpid())))
            except OSError:
                pass
        while True:
            open('/tmp/poser', 'a').write('x')
    time.sleep(0.2)
"""


def test_a_child_that_poses_as_the_copy_does_not_outlive_the_kill(open_guest: Callable[..., Guest]) -> None:
    guest = open_guest()
    guest.run("x = 1")
    guest.run(POSER)
    guest.run("y = 1")
    guest.run("import os; os._exit(1)")
    assert guest.answer("6 * 7") == "42"
    assert only_live_runs(guest.inner), processes(guest.inner)
    written = guest.answer("__import__('os').path.getsize('/tmp/poser')")
    assert int(written) > 0, "the control: it did run"
    time.sleep(0.3)
    assert guest.answer("__import__('os').path.getsize('/tmp/poser')") == written


#: As many children as there may be.
FULL = """
import os, time, signal
children = []
try:
    while True:
        pid = os.fork()
        if pid == 0: time.sleep(600)
        children.append(pid)
except OSError: pass
x = 2
"""


@pytest.mark.skipif("pids" not in meter.world().limits, reason="needs cgroup v1 or v2 that counts processes")
def test_a_guest_that_has_all_its_processes_is_copied_and_brought_back(
    open_guest: Callable[..., Guest],
) -> None:
    guest = open_guest(pids=24)
    guest.run("x = 1")
    guest.snapshot("point")
    guest.run(FULL)
    assert "no snapshot" not in guest.run("y = 1").stderr
    guest.snapshot("full")
    guest.restore("point")
    assert guest.answer("x") == "1"
    guest.restore("full")
    assert guest.answer("x, y") == "(2, 1)"


def test_without_processes_to_be_had_there_is_no_copy_and_nothing_is_lost(
    open_guest: Callable[..., Guest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a host that has no more processes to give: copies get no room of their own."""
    monkeypatch.setattr(meter.Meter, "leave_room", lambda *_: None)
    guest = open_guest(pids=24)
    guest.run("x = 1")
    guest.snapshot("point")
    guest.run(FULL)
    told = guest.run("y = 1").stderr + guest.run("z = 1").stderr
    assert "no snapshot" in told
    with pytest.raises(KernelRuntimeError, match=r"BlockingIOError|room for two processes"):
        guest.snapshot("none")
    with pytest.raises(KernelRuntimeError, match="could not become live"):
        guest.restore("point")
    assert guest.answer("x") == "2"
    guest.run("for pid in children: os.kill(pid, 9)\nfor pid in children: os.waitpid(pid, 0)")
    guest.restore("point")
    assert guest.answer("x") == "1"
    assert only_live_runs(guest.inner), processes(guest.inner)


def test_frozen_branches_use_no_processor(
    open_guest: Callable[..., Guest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ran in the background of a branch runs in no copy of it."""
    monkeypatch.setattr(kept, "WEIGH_SECONDS", 1000.0)  # they wake up for that
    guest = open_guest()
    guest.run(
        "import asyncio\nasync def spin():\n    while True: await asyncio.sleep(0)\nt = asyncio.ensure_future(spin())"
    )
    for n in range(3):
        guest.snapshot(f"s{n}")
    frozen_pids = guest.inner.snapshots.pids
    used = {p.pid: p.cpu for p in processes(guest.inner)}
    time.sleep(0.5)
    after = {p.pid: p.cpu for p in processes(guest.inner)}
    assert all(after[pid] - used[pid] < 0.02 for pid in frozen_pids if pid in used)
    live = strays(guest.inner)[0].pid
    assert after[live] > used[live], "the control: the live branch does compute"
