"""One zygote, many guests: what they share, what they must not, and what they cannot do to it."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.journeys.processes import eventually
from tests.walls.conftest import FILE_WALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.walls.conftest import House

PATIENCE = 60
LEAVE = """
import builtins, ctypes, json, os, sys, types
import kernel_runtime.guest.shell
sys.modules["left_module"] = types.ModuleType("left_module")
builtins.left_name = json.left_name = os.left_name = "left"
left_global = 1
os.environ["LEFT"] = "left"
os.umask(0)
os.chdir("/")
for place in ("/tmp", "/dev/shm"):
    with open(f"{place}/kernel-runtime-left", "w") as file:
        file.write("left")
libc = ctypes.CDLL(None, use_errno=True)
libc.shmget(0x6b72, 4096, 0o1666)
libc.semget(0x6b72, 1, 0o1666)
libc.msgget(0x6b72, 0o1666)
"left"
"""
FIND = """
import builtins, ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
sorted(name for name, found in {
    "module": "left_module" in sys.modules,
    "builtins": hasattr(builtins, "left_name"),
    "library": hasattr(json, "left_name") or hasattr(os, "left_name"),
    "globals": "left_global" in globals(),
    "environment": "LEFT" in os.environ,
    "directory": os.getcwd() == "/",
    "umask": os.umask(0o22) == 0,
    "/tmp": os.path.exists("/tmp/kernel-runtime-left"),
    "/dev/shm": os.path.exists("/dev/shm/kernel-runtime-left"),
    "memory": libc.shmget(0x6b72, 0, 0) >= 0,
    "semaphores": libc.semget(0x6b72, 0, 0) >= 0,
    "queues": libc.msgget(0x6b72, 0) >= 0,
}.items() if found)
"""
ALL = ["/dev/shm", "/tmp", "builtins", "directory", "environment", "globals", "library", "memory", "module",
       "queues", "semaphores", "umask"]  # fmt: skip


def test_nothing_of_a_guest_is_seen_by_the_next(house: House) -> None:
    one, other = house.open(), house.open()
    assert one.answer(LEAVE) == "'left'"
    assert other.answer(FIND) == "[]"
    assert house.run(FIND).result == "[]", "nor by one that is born later"
    assert eval(one.answer(FIND)) == ALL, "the control: within the guest all of it is there"
    one.restart()
    assert one.answer(FIND) in ("['/dev/shm', '/tmp']", "[]"), "a restart keeps files at most"
    one.close()
    other.close()


@pytest.fixture
def no_leftovers() -> Iterator[None]:
    yield
    for place in ("/tmp", "/dev/shm"):
        Path(place, "kernel-runtime-left").unlink(missing_ok=True)


@pytest.mark.usefixtures("no_leftovers")
def test_mount_files_in_shared_places(house: House) -> None:
    """The control of the test above for files: without roots of their own two guests meet in both."""
    one, other = house.open(without=FILE_WALLS), house.open(without=FILE_WALLS)
    one.run(LEAVE)
    assert {"/dev/shm", "/tmp"} <= set(eval(other.answer(FIND)))
    one.close()
    other.close()


def test_ipc_objects_in_shared_places(house: House) -> None:
    without = ("ipc",)
    one, other = house.open(without=without), house.open(without=without)
    one.run(LEAVE)
    clean = """
import ctypes
libc = ctypes.CDLL(None)
libc.shmctl(libc.shmget(0x6b72, 0, 0), 0, None), libc.semctl(libc.semget(0x6b72, 0, 0), 0, 0), libc.msgctl(libc.msgget(0x6b72, 0), 0, None)
"""
    assert {"memory", "semaphores", "queues"} <= set(eval(other.answer(FIND)))
    assert one.answer(clean) == "(0, 0, 0)"
    one.close()
    other.close()


RANDOM = """
import os, random, secrets, ssl, tempfile, uuid
drawn = {
    "random": random.random(), "SystemRandom": random.SystemRandom().random(), "secrets": secrets.token_hex(8),
    "uuid1": str(uuid.uuid1()), "uuid4": str(uuid.uuid4()), "urandom": os.urandom(8).hex(),
    "ssl": ssl.RAND_bytes(8).hex(), "tempfile": tempfile.mktemp(),
}
try:
    import numpy
    drawn |= {"numpy": float(numpy.random.random()), "generator": float(numpy.random.default_rng().random())}
except ImportError:
    pass
drawn
"""


def test_no_two_guests_draw_the_same(house: House) -> None:
    """Neither two guests of one zygote, nor two branches of one guest, nor a branch's children."""
    one, other = house.open(), house.open()
    draws = [eval(guest.answer(RANDOM)) for guest in (one, other)]
    one.restart()
    draws.append(eval(one.answer(RANDOM)))
    for name in draws[0]:
        assert len({draw[name] for draw in draws}) == 3, name
    one.close()
    other.close()


def test_plain_forks_draw_the_same(plain: Callable[..., Any]) -> None:
    """The control of the test above: a fork that nobody reseeds repeats what its sibling draws."""
    pytest.importorskip("numpy")
    code = """
import json, numpy, os
numpy.random.random()  # seeds itself when first used
drawn = []
for _ in range(2):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, str(numpy.random.random()).encode())
        os._exit(0)
    os.wait()
    drawn.append(os.read(reading, 99).decode())
print(json.dumps(drawn))
"""
    one, other = plain(code)
    assert one == other


def test_shared_layout_and_hash_seed_are_as_documented(house: House) -> None:
    """Not a wall but a fact, told in the threat model: guests of one zygote share the address
    layout and the seed of `hash`. Who learns one guest's addresses knows another's."""
    code = "import json; id(json), hash('kernel_runtime')"
    assert house.run(code).result == house.run(code).result
    model = (Path(__file__).parents[2] / "docs/explanation/threat-model.md").read_text()
    assert "address" in model


SOCKETS = """
import asyncio, gc, os, socket, stat
loop = asyncio.get_event_loop()  # wakes itself by a pair of sockets that it has made in this branch
own = {os.fstat(fd).st_ino for fd in (200, loop._ssock.fileno(), loop._csock.fileno())}
def is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode) and os.fstat(fd).st_ino not in own
    except OSError:
        return False
def usable(found):
    try:
        return found.fileno() >= 0 and os.fstat(found.fileno()).st_ino not in own
    except (OSError, ValueError):
        return False
everything = gc.get_objects()
[fd for fd in range(4096) if is_socket(fd)], [o for o in everything if isinstance(o, socket.socket) and usable(o)]
"""


def test_no_socket_of_the_zygote_or_of_pid_1(attack: Callable[..., str]) -> None:
    """By number, and by any object that memory still holds: only the guest's own connection is open."""
    assert attack(SOCKETS) == "([], [])"
    planted = "import socket\nkept = socket.create_server(('127.0.0.1', 0))"
    found = attack(planted + SOCKETS)
    assert re.match(r"\(\[\d+\],\s+\[<socket", found), f"the control: by both ways one that is open: {found}"


def test_no_secret_in_inherited_memory(
    new_house: Callable[[], House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the front knows (its environment, here) never was in the zygote: no search finds it."""
    secret = "planted-" + os.urandom(8).hex()
    monkeypatch.setenv("SECRET_TOKEN", secret)
    code = """
wanted = (WANTED[0] + WANTED[1]).encode()
found = 0
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
    for line in maps:
        span, mode = line.split()[:2]
        if mode.startswith("rw") and "[v" not in line:
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                block = memory.read(min(end - start, 64 << 20))
            except OSError:
                continue
            found += block.count(wanted)
del block
found
"""
    # In two parts, or the search would find itself.
    house = new_house()
    apart = f"WANTED = ({secret[:12]!r}, {secret[12:]!r})\n"
    hidden = house.run(apart + code)
    assert int(str(hidden.result)) <= 1, hidden  # the bytes that are searched for
    planted = house.run(f"kept = {secret!r}\n{apart}{code}")
    assert int(str(planted.result)) > 1, "the control: where it is, it is found"


def test_many_guests_and_none_left(new_house: Callable[[], House]) -> None:
    """Twenty at once, all used, all ended: the zygote holds no descriptor and no child of them."""
    house = new_house()
    house.run("1")
    pid = house.open().inner.zygote.pid
    zygote = psutil.Process(pid).children()[0]
    before, fds = zygote.num_fds(), psutil.Process().num_fds()
    guests = [house.open() for _ in range(20)]
    assert [guest.answer("6 * 7") for guest in guests] == ["42"] * 20
    for guest in guests:
        guest.close()
        house._guests.remove(guest)
    # Fewer there may be: the first guest was on its way out when they were counted.
    assert eventually(lambda: zygote.num_fds() <= before, PATIENCE), (zygote.num_fds(), before)
    assert eventually(lambda: len(zygote.children()) == 1, PATIENCE), zygote.children()
    assert eventually(lambda: psutil.Process().num_fds() <= fds, PATIENCE), (psutil.Process().num_fds(), fds)


def test_a_guest_that_dies_young_harms_nobody(house: House) -> None:
    """Ended by the host in the middle of its start, again and again: the zygote goes on."""

    async def start_and_close() -> None:
        runtime = house.runtime()
        for delay in (0.0, 0.001, 0.003, 0.01, 0.03):
            session = runtime.open_session()
            await asyncio.sleep(delay)
            await runtime.close_session(session)

    kept = house.open()
    kept.run("kept = 42")
    house.portal.call(start_and_close())
    assert kept.answer("kept") == "42"
    assert house.run("6 * 7").result == "42"
    kept.close()


def test_a_busy_guest_does_not_hold_the_zygote(house: House) -> None:
    """One that takes all its processor and all its processes: another is born meanwhile."""
    busy = house.open(pids=64)
    busy.run("""
import os
for _ in range(20):
    if os.fork() == 0:
        while True:
            pass
""")
    before = busy.usage()
    assert house.run("6 * 7").result == "42"
    assert before.pids >= 20, "the control: so many it has"
    assert eventually(lambda: busy.usage().cpu > before.cpu + 1, PATIENCE), "and they take what they get"
    busy.close()
