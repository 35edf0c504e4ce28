"""First processes begun ahead of their spawn: used once, by their own plan only, never relied on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits
from kernel_runtime.sandbox.plan import EGRESS, plan_guest
from kernel_runtime.workers import ahead, tree
from kernel_runtime.workers.init import Init
from kernel_runtime.workers.launch import BARE, Launch
from kernel_runtime.workers.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


class Silence:
    """A session to which nothing is told."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def is_waiting(pid: int) -> bool:
    """It sleeps at its socket: all that can be done ahead is done."""
    return "unix_stream" in Path(f"/proc/{pid}/wchan").read_text()


class House:
    """A warm zygote and the first processes forked from it, in the order of their births."""

    def __init__(self, directory: Path) -> None:
        self.zygote = Zygote(Launch([*BARE, "colorsys"], str(directory)))
        self.born: list[Init] = []

    async def spawn(self, limits: Limits | None = None, *, egress: bool = False) -> Init:
        limits = limits or Limits()
        init = Init(self.zygote, limits, Silence())
        image, arch = self.zygote.image, os.uname().machine
        await init.spawn(plan_guest(image, Level.MODERATE, limits, arch=arch, egress=egress))
        self.born.append(init)
        return init

    def waiting(self) -> set[int]:
        [zygote] = tree.children(self.zygote.pid)
        return tree.children(zygote) - {init.meter.init_pid for init in self.born}

    async def begun_ahead(self) -> int:
        deadline = time.monotonic() + 60
        while not any(map(is_waiting, self.waiting())):
            assert time.monotonic() < deadline, "none was begun"
            await asyncio.sleep(0.005)
        [pid] = self.waiting()
        return pid


def tell(directory: Path, story: Callable[[House], Awaitable[None]]) -> None:
    async def whole() -> None:
        house = House(directory)
        try:
            await house.zygote.booted()
            await story(house)
        finally:
            for init in house.born:
                init.close()
            house.zygote.close()

    asyncio.run(whole())


def namespaces(pid: int) -> dict[str, str]:
    return {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMESPACES}


def test_it_becomes_one_guest_with_every_wall_and_namespaces_of_its_own(directory: Path) -> None:
    async def story(house: House) -> None:
        await house.spawn()
        await house.spawn()
        begun = [await house.begun_ahead()]
        assert (await house.spawn()).meter.init_pid == begun[0]
        begun.append(await house.begun_ahead())
        assert (await house.spawn()).meter.init_pid == begun[1]
        assert len({tuple(init.walls) for init in house.born}) == 1
        assert [init.missing for init in house.born] == [{}] * 4
        [zygote] = tree.children(house.zygote.pid)
        found = [namespaces(pid) for pid in (zygote, *(init.meter.init_pid for init in house.born))]
        shared = {name for name in NAMESPACES if len({one[name] for one in found}) < len(found)}
        assert shared <= ({"cgroup"} if "cgroup" not in house.born[0].walls else set())

    tell(directory, story)


def test_each_has_a_listening_socket_of_its_own(directory: Path) -> None:
    async def story(house: House) -> None:
        await house.spawn(egress=True)
        await house.spawn(egress=True)
        begun = await house.begun_ahead()
        assert (await house.spawn(egress=True)).meter.init_pid == begun
        listeners = [init.listener for init in house.born if init.listener is not None]
        assert [listener.getsockname() for listener in listeners] == [EGRESS] * 3
        assert len({os.fstat(listener.fileno()).st_ino for listener in listeners}) == 3
        assert all(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for listener in listeners)
        assert (await house.spawn()).listener is None

    tell(directory, story)


def test_another_plan_does_not_get_it_and_it_waits_for_its_own(directory: Path) -> None:
    async def story(house: House) -> None:
        await house.spawn()
        await house.spawn()
        begun = await house.begun_ahead()
        other = await house.spawn(Limits(disk=2**20))
        assert other.meter.init_pid != begun
        assert (await house.spawn()).meter.init_pid == begun

    tell(directory, story)


def test_when_its_plan_is_asked_for_no_more_it_ends(directory: Path) -> None:
    async def story(house: House) -> None:
        await house.spawn()
        await house.spawn()
        begun = await house.begun_ahead()
        for number in range(4):
            other = await house.spawn(Limits(disk=(number + 1) * 2**20))
            assert other.meter.init_pid != begun
        assert begun not in house.waiting()
        assert not os.path.exists(f"/proc/{begun}")

    tell(directory, story)


def test_killed_while_it_waits_it_is_made_up_for(directory: Path) -> None:
    async def story(house: House) -> None:
        await house.spawn()
        await house.spawn()
        begun = await house.begun_ahead()
        os.kill(begun, signal.SIGKILL)
        while Path(f"/proc/{begun}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
            await asyncio.sleep(0.002)
        third = await house.spawn()
        assert third.meter.init_pid != begun
        assert third.walls == house.born[0].walls

    tell(directory, story)


# -- the zygote's side alone ----------------------------------------------------------------------------


def fork_one() -> int:
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


def never(*_: object) -> None:
    raise AssertionError("this is no child")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "QUIET", 0.0)
    monkeypatch.setattr(ahead, "KEEP", 0.0)


@pytest.mark.usefixtures("at_once")
def test_nobody_asks_for_long_and_it_is_ended() -> None:
    kept = ahead.Ahead(fork_one, never)
    assert kept.take(b"plan", []) is None
    assert kept.seconds() is None, "the first who asks for a plan may be the only one"
    assert kept.take(b"plan", []) is None
    assert kept.seconds() == 0
    kept.tend()
    assert kept._waiting is not None
    pid = kept._waiting.pid
    kept.tend()
    assert kept.seconds() is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.usefixtures("at_once")
def test_plans_in_turns_have_one_of_the_first_that_came_back() -> None:
    kept = ahead.Ahead(fork_one, never)
    kept.take(b"plan", [])
    kept.take(b"other", [])
    assert kept.seconds() is None, "each was asked for once"
    kept.take(b"plan", [])
    kept.tend()
    assert kept._waiting is not None
    assert kept._waiting.plan == b"plan"
    waiting = kept._waiting
    kept.take(b"other", [])
    assert kept._waiting is waiting, "it is for a plan that was asked for lately"
    kept.tend()


@pytest.mark.usefixtures("at_once")
def test_a_fork_that_fails_is_not_tried_over_and_over() -> None:
    tries = []

    def refuse() -> int:
        tries.append(1)
        raise BlockingIOError

    before = os.listdir("/proc/self/fd")
    kept = ahead.Ahead(refuse, never)
    kept.take(b"plan", [])
    kept.take(b"plan", [])
    kept.tend()
    kept.tend()
    assert kept.seconds() is None
    assert tries == [1]
    assert os.listdir("/proc/self/fd") == before


def test_what_gets_nothing_ends() -> None:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            ours.close()
            ahead.receive(theirs.detach())
        os._exit(9)
    theirs.close()
    assert ours.recv(1)
    ours.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
