"""A program for a host that refuses user namespaces: ``python rung_world.py WORLD TASK DIRECTORY``.

Makes such a world around itself (``user``: an ordinary user; ``root``: a root with other ids, as in
a container), then does the task there and prints what happened as JSON.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from kernel_runtime.client import AsyncSession
from kernel_runtime.domain.errors import WallUnavailable
from kernel_runtime.domain.level import Level, Rung
from kernel_runtime.domain.limits import Limits
from kernel_runtime.runtime import Runtime, Settings
from kernel_runtime.sandbox import syscalls as sc
from kernel_runtime.workers import probe, tree

#: A session of its own and a double fork: nothing but being ended as a tree ends it.
DAEMONS = """
import os, time
def daemon():
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write, f"{os.getpid()}".encode())
            time.sleep(1000)
        os._exit(0)
    os.wait()
    return int(os.read(read, 20))
print(daemon(), daemon())
"""
ATTACKS = {
    "foreign file": "open({secret!r}).read()",
    "own home": "os.listdir({home!r})",
    "mode of a file": "os.chmod({secret!r}, 0o777)",
    "write beside": "open({directory!r} + '/new', 'w')",
    "network": "socket.create_connection(('127.0.0.1', {port}), 5).recv(5).decode()",
    "socket file": "s = socket.socket(socket.AF_UNIX); s.connect({path!r}); s.recv(5).decode()",
    "abstract socket": "s = socket.socket(socket.AF_UNIX); s.connect({abstract!r}); s.recv(5).decode()",
    "datagram pair": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', {datagrams!r})",
    "signal to the front": "os.kill({front}, 0)",
    "arguments of the front": "open('/proc/{front}/cmdline').read()",
    "shared memory of the host": "c = ctypes.CDLL(None); n = c.shmget(0, 4096, 0o1600); c.shmctl(n, 0, None); n",
    "watch a directory": "ctypes.CDLL(None).inotify_init()",
    "another's priority": "os.sched_setaffinity({front}, {{0}})",
}
IMPORTS = "import ctypes, os, socket, signal\n"


def enter(world: str) -> None:
    """Be in a user namespace in which no other can be made, then start this program over."""
    if world == "root":
        _be_root_with_other_ids()
    else:
        uid, gid = os.getuid(), os.getgid()
        sc.unshare(sc.CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/gid_map", f"1000 {gid} 1")
        _write("/proc/self/uid_map", f"1000 {uid} 1")
    _write("/proc/sys/user/max_user_namespaces", "0")
    os.execv(sys.executable, [sys.executable, __file__, "inside", *sys.argv[2:]])


def _be_root_with_other_ids() -> None:
    ready, go = os.pipe(), os.pipe()
    target = os.getpid()
    if os.fork() == 0:
        os.read(ready[0], 1)
        _write(f"/proc/{target}/gid_map", "0 0 4294967295")
        _write(f"/proc/{target}/uid_map", "0 0 4294967295")
        os.write(go[1], b"g")
        os._exit(0)
    sc.unshare(sc.CLONE_NEWUSER)
    os.write(ready[1], b"r")
    os.read(go[0], 1)
    os.wait()
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _open_the_way_to(sys.base_prefix)


def _open_the_way_to(path: str) -> None:
    """An interpreter below a private home, as on a developer's machine, is no other user's."""
    closed = [str(p) for p in Path(path).parents if not p.stat().st_mode & 0o001]
    if closed:
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE)
        kept = os.open(path, os.O_PATH)
        sc.mount("tmpfs", closed[-1], "tmpfs", 0, "mode=755")
        os.makedirs(path)
        sc.mount(f"/proc/self/fd/{kept}", path, None, sc.MS_BIND)
        os.close(kept)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, text.encode())
    os.close(fd)


class House:
    """Sessions of one runtime, opened and closed."""

    def __init__(
        self, directory: str, *, without: tuple[str, ...] = (), rung: Rung | None = Rung.LANDLOCK
    ) -> None:
        self.runtime = Runtime(Settings(workdir=directory, warm=(), without=frozenset(without), rung=rung))
        self.session = AsyncSession()

    async def open(self, level: Level = Level.MODERATE, **amounts: Any) -> House:
        limits = Limits(**({"memory": 512 * 2**20} | amounts))
        self.session = AsyncSession(limits=limits)
        self.session._runtime, self.session._session = (
            self.runtime,
            self.runtime.open_session(limits=limits, level=level),
        )
        await self.session._session.ready()
        return self

    async def text(self, code: str) -> str:
        result = await self.session.run(code, check=False)
        return str(result.error or result.verdict or result.result or result.stdout)

    async def close(self) -> None:
        await self.session.close()
        await self.runtime.close()


async def refusal(directory: str, level: Level = Level.MODERATE) -> str:
    house = House(directory, rung=None)
    try:
        await house.open(level)
    except WallUnavailable as error:
        return str(error)
    finally:
        await house.runtime.close()
    return "it started"


async def work(directory: str) -> dict[str, Any]:
    """Ordinary use, and what is recorded of it."""
    house = await House(directory).open()
    session = house.session._session
    assert session is not None
    codes = {
        "read": "open('data.txt').read()",
        "pandas": "import pandas; int(pandas.DataFrame({'a': [1, 2]}).a.sum())",
        "program": "import subprocess; subprocess.run(['cat', 'data.txt'], capture_output=True).stdout",
        "shell": "!echo from a shell",
        "scratch": "import os, tempfile; f = tempfile.NamedTemporaryFile('w+'); f.write('x'); f.name.startswith(os.environ['HOME'])",
        "threads": "import concurrent.futures as c; list(c.ThreadPoolExecutor(2).map(abs, [-1]))",
        "loop": "import asyncio; await asyncio.sleep(0, 'slept')",
    }
    found: dict[str, Any] = {name: await house.text(code) for name, code in codes.items()}
    found["info"] = session.info
    found["host"] = json.loads(json.dumps({str(k): v for k, v in probe.host().missing.items()}))
    running = asyncio.ensure_future(house.text("print('on', flush=True); import time; time.sleep(60)"))
    while not session._cells:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    house.session.interrupt()
    found["interrupt"] = await running
    found["exit"] = await house.text("import os; os._exit(3)")
    found["afterwards"] = await house.text("6 * 7")
    small = await House(directory).open(disk=2**20)
    found["disk"] = await small.text(
        "import os, time\nfor n in range(8): open(os.environ['HOME'] + f'/{n}', 'wb').write(b'x' * 2**19)\ntime.sleep(60)"
    )
    found["after disk"] = await small.text(
        "import os; sum(name.isdigit() for name in os.listdir(os.environ['HOME']))"
    )
    await small.close()
    found["memory"] = await house.text("x = bytearray(2**30); len(x)")
    scratches = Path(str(session.init and session.init.scratch)).parent
    await house.close()
    found["left"] = await _emptied(scratches)
    permissive = await House(directory, rung=None).open(Level.PERMISSIVE)
    found["permissive"] = permissive.session.walls
    await permissive.close()
    strict = await House(directory).open(Level.STRICT)
    found["strict read"] = await strict.text(f"open({directory!r} + '/data.txt').read()")
    found["strict program"] = await strict.text("import subprocess; subprocess.run(['true'])")
    await strict.close()
    return found


async def _emptied(directory: Path) -> list[str]:
    deadline = time.monotonic() + 60
    while (left := list(directory.glob(f"*-{os.getpid()}-*"))) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return [path.name for path in left]


async def attacks(directory: str, places: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Each attack behind all walls, and without the two that hold it here."""
    places = {**places, "front": os.getpid(), "directory": directory}
    found: dict[str, dict[str, str]] = {}
    for name, without in (("walled", ()), ("open", ("landlock", "seccomp", "user", "capabilities"))):
        house = await House(directory, without=without).open()
        found[name] = {
            attack: await house.text(IMPORTS + code.format(**places)) for attack, code in ATTACKS.items()
        }
        if name == "walled":
            found["parent"] = {"kill": await house.text("import os; os.kill(os.getppid(), 9)")}
        await house.close()
    return found


async def settings(directory: str, paths: list[str]) -> dict[str, list[str]]:
    """Which of these files of the kernel open for writing: behind all walls, and without any. Nothing is written."""
    code = f"""
import os
def opened(path):
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True
[path for path in {paths!r} if opened(path)]
"""
    found = {}
    for name, without in (("walled", ()), ("open", ("landlock", "seccomp", "user", "capabilities"))):
        house = await House(directory, without=without).open()
        found[name] = ast.literal_eval(await house.text(code))
        await house.close()
    return found


async def ends(directory: str) -> dict[str, list[int]]:
    """What is left of daemons when their branch, their session or their first process ends."""
    left: dict[str, list[int]] = {}
    house = await House(directory).open()
    daemons = await _daemons(house)
    await house.session.restart()
    left["restart"] = await _gone(daemons)
    daemons = await _daemons(house)
    await house.text("import os; os._exit(0)")
    left["exit"] = await _gone(daemons)
    daemons = await _daemons(house)
    session = house.session._session
    assert session is not None
    os.kill(session.pid, 9)
    left["killed"] = await _gone([*daemons, session.pid])
    assert await house.text("1 + 1") == "2"
    daemons = await _daemons(house)
    await house.session.close()
    left["close"] = await _gone(daemons)
    bombs = await house.open(pids=64)
    daemons = await _daemons(bombs)
    session = bombs.session._session
    assert session is not None
    running = asyncio.ensure_future(
        bombs.text("import os, time\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)")
    )
    first = session.pid
    while len(tree.descendants(first)) < 20:
        await asyncio.sleep(0.01)
    left["bomb"] = [len(tree.descendants(first))]
    await bombs.close()
    await running
    left["after the bomb"] = await _gone(daemons)
    left["children"] = await _gone([*tree.descendants(os.getpid())])
    return left


async def _daemons(house: House) -> list[int]:
    pids = [int(word) for word in (await house.text(DAEMONS)).split()]
    assert all(_lives(pid) for pid in pids), pids
    return pids


async def _gone(pids: list[int]) -> list[int]:
    """Those that still live after a while."""
    deadline = time.monotonic() + 60
    while (left := [pid for pid in pids if _lives(pid)]) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return left


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


async def hang(directory: str) -> None:
    """Start daemons, say which, and wait to be killed."""
    house = await House(directory).open()
    pids = await _daemons(house)
    session = house.session._session
    assert session is not None
    print(json.dumps([*pids, session.pid]), flush=True)
    await asyncio.sleep(600)


async def main(task: str, directory: str, more: str = "{}") -> None:
    if task == "refusal":
        print(json.dumps({str(level): await refusal(directory, level) for level in Level}))
    elif task == "work":
        print(json.dumps(await work(directory)))
    elif task == "attacks":
        print(json.dumps(await attacks(directory, json.loads(more))))
    elif task == "settings":
        print(json.dumps(await settings(directory, json.loads(more)["paths"])))
    elif task == "ends":
        print(json.dumps(await ends(directory)))
    else:
        await hang(directory)


if __name__ == "__main__":
    if sys.argv[1] == "inside":
        asyncio.run(main(*sys.argv[2:]))
    else:
        enter(sys.argv[1])
