"""What a guest takes from the host or from other guests: numbers and memory that the kernel counts
over all of them, or not at all unless told."""

from __future__ import annotations

import ast
import contextlib
from typing import TYPE_CHECKING

import psutil
import pytest

from kernel_runtime.client import Session
from kernel_runtime.domain.verdict import Reason
from kernel_runtime.workers.meter import world
from tests.journeys.processes import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kernel_runtime.client import Result
    from tests.walls.conftest import Guest, House

MEMORY_GROUP = pytest.mark.skipif("memory" not in world().limits, reason="needs a memory control group")

INOTIFY = """
import ctypes
libc = ctypes.CDLL(None)
[libc.inotify_init1(0) >= 0 for _ in range(20)].count(True)
"""
TERMINALS = """
import os
def open_all():
    for count in range(80):
        try:
            os.open("/dev/ptmx", os.O_RDWR)
        except OSError:
            return count
    return 80
open_all()
"""
BUFFERS = """
import socket
def fill(kept=[]):
    server = socket.create_server(("127.0.0.1", 0), backlog=200)
    total = 0
    for _ in range(150):
        out = socket.create_connection(server.getsockname())
        kept += [out, server.accept()[0]]
        out.setblocking(False)
        try:
            while total < 300_000_000:
                total += out.send(bytes(1_000_000))
        except BlockingIOError:
            pass
    return total // 1_000_000
fill()
"""
PROCESSES = """
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(600)
        count += 1
except OSError:
    print(count)
"""
#: Descriptors that were sent and never taken.
ON_THEIR_WAY = """
import array, os, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
kept, sent = [], 0
fds = array.array("i", [os.open("/dev/null", os.O_RDONLY)] * 253)
try:
    while True:
        kept += socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for _ in range(10):
            kept[-1].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            sent += 253
except OSError:
    print(sent)
"""
SHARED_MEMORY = """
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
while True:
    at = libc.shmat(libc.shmget(0, 16 << 20, 0o1600), None, 0)
    ctypes.memset(at, 1, 16 << 20)
"""
FULL_LAYER = """
import os
file = os.open("/tmp/full", os.O_CREAT | os.O_WRONLY)
try:
    while True:
        os.write(file, bytes(4096))
except OSError as error:
    print(error.errno, os.fstat(file).st_size >> 20)
"""


@pytest.fixture
def neighbours(directory: Path) -> Iterator[tuple[Session, Session]]:
    """Two guests of one zygote."""
    with contextlib.ExitStack() as stack:
        one, two = (
            stack.enter_context(Session(workdir=directory, memory="256M", pids=64, wall="60s"))
            for _ in range(2)
        )
        yield one, two


def test_user_the_hosts_file_watchers_are_left_to_others(attack: Callable[..., str]) -> None:
    assert attack(INOTIFY) == "8"
    assert int(attack(INOTIFY, without=("user",))) > 8


def test_mount_the_hosts_terminals_are_left_to_others(attack: Callable[..., str]) -> None:
    assert attack(TERMINALS) == "64"
    assert attack(TERMINALS, without=("mount", "landlock", "user")) == "80"


@MEMORY_GROUP
def test_cgroup_buffers_of_sockets_are_limited(attack: Callable[..., str]) -> None:
    """The kernel's pages for TCP are one number for the host: a guest that took them stopped others."""
    assert attack(BUFFERS, without=("cgroup",)) == "300"
    answer = attack(BUFFERS)
    assert "memory" in answer or int(answer) < 200


def test_processes_of_one_guest_are_not_missing_in_another(neighbours: tuple[Session, Session]) -> None:
    one, two = neighbours
    assert int(one.run(PROCESSES).stdout) > 50
    assert int(two.run(PROCESSES).stdout) > 50
    assert int(one.run(PROCESSES).stdout) < 10, "the control: in the guest that has them they are missing"


def test_descriptors_on_their_way_do_not_stop_another(neighbours: tuple[Session, Session]) -> None:
    one, two = neighbours
    assert int(one.run(ON_THEIR_WAY).stdout) > 4000
    two.restart()
    assert two.run("6 * 7").result == "42"
    again = one.run("kept[-2].sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])", check=False)
    assert "Too many references" in str(again.error), "the control: the guest that sent them is stopped"


@MEMORY_GROUP
def test_shared_memory_goes_with_its_branch(directory: Path) -> None:
    with Session(workdir=directory, memory="128M") as session:
        for _ in range(3):
            result = session.run(SHARED_MEMORY, check=False)
            assert result.verdict is not None
        assert session.run("6 * 7").result == "42"
        assert session.usage().memory < 64 * 2**20


def test_a_full_layer_leaves_room_for_the_next_branch(directory: Path) -> None:
    with Session(workdir=directory, memory="128M", disk="512M") as session:
        assert session.run(FULL_LAYER).stdout.split() == ["28", "64"]
        session.restart()
        assert session.run("6 * 7").result == "42"


def test_seccomp_no_lease_on_a_file_of_the_image(attack: Callable[..., str]) -> None:
    code = "import fcntl; file = open('/tmp/own', 'w'); fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)"
    assert "Operation not permitted" in attack(code)
    assert attack(code, without=("seccomp",)) == "0"


ALLOCATE = "kept = [bytearray(8 << 20) for _ in range(32)]; len(kept)"
SHARED = """
import mmap
kept = [mmap.mmap(-1, 8 << 20) for _ in range(32)]
for block in kept:
    block.write(b"x" * len(block))
len(kept)
"""
CHILDREN = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        kept = bytearray(b"x") * (32 << 20)
        time.sleep(600)
        os._exit(0)
time.sleep(2)
len("done")
"""


@pytest.mark.parametrize("code", [ALLOCATE, pytest.param(SHARED, marks=MEMORY_GROUP)], ids=["loop", "shared"])
def test_cgroup_memory_is_held(house: House, code: str) -> None:
    """256 MB in a guest of 128: an error in Python first where it can be, else the end of the branch."""
    guest = house.open(memory="128M")
    result = guest.run(code)
    if result.verdict is None:
        assert result.error is not None
        assert result.error.ename == "MemoryError"
    else:
        assert result.verdict.reason is Reason.MEMORY
    assert guest.answer("6 * 7") == "42"
    guest.close()
    assert house.run(code, memory="512M").result == "32", "the control: with enough, it goes through"


@MEMORY_GROUP
def test_cgroup_memory_of_children_is_held(house: House) -> None:
    """Each stays below the limit of one process; together they do not."""
    guest = house.open(memory="128M")
    guest.run(CHILDREN)
    assert guest.usage().memory <= 130 * 2**20
    guest.restart()
    assert guest.answer("6 * 7") == "42"
    guest.close()
    roomy = house.open(memory="1G")
    assert roomy.answer(CHILDREN) == "4"
    assert eventually(lambda: roomy.usage().memory > 8 * 32 * 2**20, 60), "the control: so much they are"
    roomy.close()


INODES = """
count = 0
try:
    for count in range(4000):
        open(f"/tmp/{count}", "w").close()
except OSError as error:
    print(error.errno)
count
"""


def test_mount_files_are_counted(house: House) -> None:
    """Empty files take no bytes; their number has a limit of its own, beside which others live."""
    guest, other = house.open(inodes=1000), house.open(inodes=1000)
    result = guest.run(INODES)
    assert result.stdout == "28\n"
    assert int(str(result.result)) <= 1000
    assert other.answer("open('/tmp/mine', 'w').write('x')") == "1"
    guest.restart()
    assert guest.answer("6 * 7") == "42"
    guest.close()
    other.close()
    assert house.run(INODES).result == "3999"


DESCRIPTORS = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
kept = []
try:
    while len(kept) < 5000:
        kept.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
len(kept)
"""
PIPES = DESCRIPTORS.replace(
    'kept.append(os.open("/dev/null", os.O_RDONLY))',
    """kept += os.pipe()
        try:
            import fcntl; fcntl.fcntl(kept[-1], 1031, 1 << 20)
        except OSError:
            pass""",
)


@pytest.mark.parametrize("code", [DESCRIPTORS, PIPES], ids=["files", "pipes"])
def test_rlimits_descriptors_end(house: House, code: str) -> None:
    """The guest runs out of them, its connection and its neighbours do not."""
    guest, other = house.open(automatic=False), house.open(automatic=False)
    before = psutil.Process().num_fds()
    assert 4000 < int(guest.answer(code)) < 4096
    assert guest.answer("[os.close(fd) for fd in kept] and 6 * 7") == "42"
    assert (
        other.answer("import os, subprocess; subprocess.run(['echo', 'x'], capture_output=True).stdout")
        == "b'x\\n'"
    )
    # Fewer there may be: guests of earlier tests were on their way out when they were counted.
    assert eventually(lambda: psutil.Process().num_fds() <= before, 60), (psutil.Process().num_fds(), before)
    guest.close()
    other.close()
    if psutil.Process().rlimit(psutil.RLIMIT_NOFILE)[1] > 5000:
        assert int(str(house.run(code, without=("rlimits",)).result)) >= 5000


TIMERS = """
import ctypes, os
libc = ctypes.CDLL(None)
slot = ctypes.c_void_p()
count = 0
while count < 6000 and libc.timer_create(0, None, ctypes.byref(slot)) == 0:
    count += 1
count
"""


def test_user_timers_are_counted_for_each_guest(house: House) -> None:
    """Timers and queued signals are counted over a user: one guest's end is not another's."""
    one, other = house.open(), house.open()
    assert 3000 < int(one.answer(TIMERS)) < 4200
    assert 3000 < int(other.answer(TIMERS)) < 4200
    one.close()
    other.close()
    assert int(str(house.run(TIMERS, without=("rlimits",)).result)) > 4200


def test_rlimits_cannot_be_raised(attack: Callable[..., str]) -> None:
    """Each by one; the control asks for the same amounts where this wall has not lowered them before."""
    hard = "import resource\n{n: resource.getrlimit(getattr(resource, n))[1] for n in dir(resource) if n[:7] == 'RLIMIT_'}"
    amounts = {name: amount for name, amount in ast.literal_eval(attack(hard)).items() if amount >= 0}
    code = f"""
import resource
raised = []
for name, amount in {amounts}.items():
    try:
        resource.setrlimit(getattr(resource, name), (amount, amount + 1))
        raised.append(name)
    except (ValueError, OSError):
        pass
raised
"""
    assert attack(code) == "[]"
    assert "RLIMIT_FSIZE" in attack(code, without=("rlimits",))


CLOCK = """
import time
time.time = time.monotonic = time.perf_counter = lambda: 0.0
try:
    time.clock_settime(time.CLOCK_REALTIME, 0)
except PermissionError:
    print("refused")
begun = time.process_time()
while time.process_time() < begun + {seconds}:
    pass
time.time()
"""


def test_the_clock_of_a_limit_is_the_hosts(open_guest: Callable[..., Guest]) -> None:
    result = open_guest(wall="3s").run(CLOCK.format(seconds=600))
    assert result.verdict is not None
    assert result.verdict.reason is Reason.WALL
    assert result.stdout == "refused\n"
    other = open_guest(wall="10m").run(CLOCK.format(seconds=0.1))
    assert other.result == "0.0", "the control: by the guest's own clock no time has passed at all"


def test_what_is_used_is_not_forgotten_by_a_restart(open_guest: Callable[..., Guest]) -> None:
    """The layer and the processor time belong to the session; a limit for a cell begins anew with each."""
    guest = open_guest(disk="8M", cpu="0.4s")
    guest.run("open('/tmp/kept', 'wb').write(bytes(5 << 20))")
    busy = "import time\nend = time.process_time() + 9\nwhile time.process_time() < end: pass"
    assert guest.run(busy).verdict is not None
    spent = guest.usage().cpu
    guest.restart()
    assert (guest.usage().disk or 0) >= 5 << 20
    assert guest.usage().cpu >= spent > 0.3
    assert "No space left" in guest.answer(
        "open('/tmp/more', 'wb', buffering=0).write(bytes(5 << 20)); open('/tmp/most', 'wb', buffering=0).write(bytes(1 << 20))"
    )
    assert guest.run(busy).verdict is not None


FLOODS = {
    "stdout": "print('x' * 100_000)",
    "stderr": "print('x' * 100_000, file=sys.stderr)",
    "descriptor": "os.write(1, b'x' * 60_000)",
    "display": "display({'text/plain': 'x' * 100_000}, raw=True)",
    "update": "display({'text/plain': 'x' * 100_000}, raw=True, display_id='one', update=True)",
    "clear": "clear_output(); print('x' * 50_000)",
    "comm": "comm.send('x' * 100_000)",
}


FLOOD = """
import os, sys
from IPython.display import display, clear_output
from comm import create_comm
comm = create_comm(target_name="nobody")
for _ in range({times}):
    {once}
"""


def _kept(result: Result) -> int:
    return sum(len(str(output)) for output in result.outputs)


@pytest.mark.parametrize("channel", FLOODS)
def test_floods_are_cut(open_guest: Callable[..., Guest], channel: str) -> None:
    """50 to 100 MB on each channel against a limit of 1 MB: the front keeps about that, and goes on."""
    guest = open_guest(output="1M")
    before = psutil.Process().memory_info().rss
    result = guest.run(FLOOD.format(times=1000, once=FLOODS[channel]))
    assert _kept(result) < 1.5 * 2**20
    assert psutil.Process().memory_info().rss - before < 150 * 2**20
    assert (guest.usage().output or 0) > 40 * 2**20, "so much came"
    assert guest.answer("6 * 7") == "42"
    if channel != "comm":  # of which a program is shown nothing
        less = open_guest(output="512M").run(FLOOD.format(times=100, once=FLOODS[channel]))
        assert _kept(less) > 4 * 2**20, "the control: with enough, a tenth of it is kept whole"


AWHILE = "import time\ntime.sleep(0.5)\n6 * 7"


def test_a_flood_after_the_cell(open_guest: Callable[..., Guest]) -> None:
    """By a thread that goes on: the next cells are answered, and it ends with a restart."""
    guest = open_guest(output="1M")
    guest.run(
        "import threading, time\ndef flood():\n    while True: print('x' * 10_000)\n"
        "threading.Thread(target=flood, daemon=True).start()"
    )
    for _ in range(3):
        guest.run("kept = 42")
    assert eventually(lambda: (guest.usage().output or 0) > 2**20, 60), "it goes on after its cell"
    guest.restart()
    assert guest.answer(AWHILE) == "42"
    assert (guest.usage().output or 0) < 10_000
