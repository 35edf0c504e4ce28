"""A guest that is ended, or refused something, at any step into its walls: it never begins.

The zygote is a real one, but for a program around it that lets its guests stumble.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from kernel_runtime.domain.errors import GuestLost, KernelRuntimeError, WallUnavailable
from kernel_runtime.domain.level import Level, Rung
from kernel_runtime.domain.limits import Limits
from kernel_runtime.sandbox import landlock
from kernel_runtime.sandbox.plan import WALLS, Ids, plan_guest
from kernel_runtime.workers import launch, scratch, tree
from kernel_runtime.workers.ground import make_ground
from kernel_runtime.workers.init import Init
from kernel_runtime.workers.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.sandbox.plan import GuestPlan

PROGRAM = Path(__file__).with_name("stumbling_zygote.py")
NEVER = 1_000_000


class Silence:
    """A session to which nothing may be told: no guest ever began."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name}: something ran")


@pytest.fixture(params=list(Rung))
def rung(request: pytest.FixtureRequest) -> Rung:
    if request.param is Rung.LANDLOCK and landlock.abi() < landlock.SCOPES_SINCE:
        pytest.skip("needs Landlock ABI 6")
    return Rung(request.param)


@pytest.fixture(autouse=True)
def ordinary(rung: Rung, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the second rung root's guests are another user, who may not reach root's interpreter."""
    if rung is Rung.LANDLOCK:
        uid, gid = os.getuid(), os.getgid()
        ids = Ids(uid=uid, gid=gid, host_uid=uid, host_gid=gid, remapped=False)
        monkeypatch.setattr(launch.images, "choose_ids", lambda: ids)


@pytest.fixture
def stumbling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zygotes are started from another program; nothing in the package leads there."""
    spawn = os.posix_spawn

    def start(path: str, arguments: list[str], *rest: object, **options: object) -> int:
        assert arguments[2:4] == ["-m", "kernel_runtime.workers.zygote_main"]
        return spawn(path, [*arguments[:2], str(PROGRAM), arguments[4]], *rest, **options)

    monkeypatch.setattr(launch.os, "posix_spawn", start)


@contextlib.contextmanager
def begun(rung: Rung, directory: Path, *preload: str) -> Iterator[Zygote]:
    cache = "" if rung is Rung.NAMESPACES else scratch.make(os.getuid(), os.getgid())
    zygote = Zygote(launch.Launch(list(preload), str(directory), rung, cache))
    try:
        yield zygote
    finally:
        zygote.close()


async def attempt(
    zygote: Zygote, at: int, how: str, pids: set[int] | None = None
) -> Init | KernelRuntimeError:
    """One guest that stumbles; what the front got to know of it. ``pids`` takes its own."""
    init = Init(zygote, Limits(), Silence())
    spawning = asyncio.ensure_future(init.spawn(make_plan(zygote, f"{at}:{how}")))
    if how == "hang":
        await stumbled(init)
        os.kill(init.meter.init_pid, 9)
    try:
        await asyncio.wait_for(spawning, 60)
    except KernelRuntimeError as error:
        assert init.walls == []
        assert init.closed
        return error
    finally:
        if pids is not None:
            pids.add(init.meter.init_pid)
    return init


async def stumbled(init: Init) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{init.meter.init_pid}/comm").read_text() == "stumbled\n":
                return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came to the step")


def make_plan(zygote: Zygote, hostname: str) -> GuestPlan:
    arch, ground = os.uname().machine, make_ground(zygote.image)
    plan = plan_guest(zygote.image, Level.MODERATE, Limits(), arch=arch, ground=ground)
    return msgspec.structs.replace(plan, hostname=hostname)


def left_behind(zygote: Zygote) -> dict[str, object]:
    """What of the guests is still there, beside the zygote itself."""
    own = f"*-{os.getpid()}-*"
    scratches = Path(scratch.tempfile.gettempdir(), f"kernel-runtime-scratch-{os.getuid()}").glob(own)
    return {
        "processes": len(tree.descendants(zygote.pid)) - 1,
        "groups": [
            n
            for _, names, _ in os.walk("/sys/fs/cgroup")
            for n in names
            if fnmatch(n, f"kernel-runtime{own}")
        ],
        "scratch": [path.name for path in scratches if str(path) != zygote.image.cache],
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


async def settled(zygote: Zygote, before: dict[str, object]) -> dict[str, object]:
    deadline = time.monotonic() + 60
    while (left := left_behind(zygote)) != before and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return left


@pytest.mark.slow
@pytest.mark.usefixtures("stumbling")
def test_a_guest_that_ends_at_any_step_never_begins(rung: Rung, directory: Path) -> None:
    async def check() -> None:
        with begun(rung, directory) as zygote:
            await zygote.booted()
            whole = await attempt(zygote, NEVER, "exit")
            assert isinstance(whole, Init), "without a stumble it begins"
            steps = int(whole.missing["steps"])
            assert steps > 3 * len(set(whole.walls) & set(WALLS)), "there are steps between the walls"
            whole.close()
            await asyncio.sleep(0)
            before = await settled(
                zygote, left_behind(zygote) | {"processes": 0, "groups": [], "scratch": []}
            )
            refused = set()
            for step in range(1, steps + 1):
                error = await attempt(zygote, step, "exit")
                assert isinstance(error, GuestLost), step
                assert "ended while starting" in str(error)
                error = await attempt(zygote, step, "raise")
                if isinstance(error, Init):  # a directory that was there already
                    assert error.walls == whole.walls, f"step {step}: it begins with every wall or not at all"
                    error.close()
                    continue
                assert isinstance(error, WallUnavailable), step
                assert f"stumbled at step {step}" in error.reason or "not available" in error.reason
                assert error.fix
                refused.add(error.wall)
            assert set(WALLS) & refused >= set(whole.walls) & set(WALLS), "no wall is entered without a step"
            for step in random.Random(steps).sample(range(1, steps + 1), 12):
                assert isinstance(await attempt(zygote, step, "hang"), GuestLost), step
            assert await settled(zygote, before) == before
            again = await attempt(zygote, NEVER, "exit")
            assert isinstance(again, Init), "the zygote goes on"
            again.close()

    asyncio.run(check())


async def begun_ahead(zygote: Zygote, pids: set[int]) -> int:
    """The process that the zygote has begun for the next spawn, alive or stumbled."""
    [parent] = tree.children(zygote.pid)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for pid in tree.children(parent) - pids:
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                if "State:\tZ" in status or "unix_stream" in Path(f"/proc/{pid}/wchan").read_text():
                    return pid
        await asyncio.sleep(0.002)
    raise AssertionError("none was begun")


@pytest.mark.slow
@pytest.mark.usefixtures("stumbling")
@pytest.mark.parametrize("rung", [Rung.NAMESPACES])
def test_one_begun_ahead_that_ends_at_any_step_never_begins(rung: Rung, directory: Path) -> None:
    """The third spawn of equal plans gets one; where that has stumbled already, it goes without."""

    async def thrice(zygote: Zygote, step: int, how: str) -> tuple[Init | KernelRuntimeError, bool]:
        pids: set[int] = set()
        for _ in range(2):
            first = await attempt(zygote, step, how, pids)
            if isinstance(first, Init):
                first.close()
        ahead, served = await begun_ahead(zygote, pids), set[int]()
        return await attempt(zygote, step, how, served), served == {ahead}

    async def check() -> None:
        with begun(rung, directory, "kernel_runtime.guest.shell", "colorsys") as zygote:
            await zygote.booted()
            whole, ahead = await thrice(zygote, NEVER, "exit")
            assert isinstance(whole, Init)
            assert ahead, "the process begun ahead became the guest"
            steps = int(whole.missing["steps"])
            whole.close()
            stumbled_ahead = 0
            for step in range(1, steps + 1, 4):
                for how, error in (("exit", GuestLost), ("raise", WallUnavailable)):
                    outcome, ahead = await thrice(zygote, step, how)
                    if isinstance(outcome, Init):
                        assert outcome.walls == whole.walls, f"step {step}: with every wall or not at all"
                        outcome.close()
                        continue
                    assert isinstance(outcome, error), (step, how)
                    stumbled_ahead += ahead
            assert stumbled_ahead > 2, "steps after the namespaces were tried"

    asyncio.run(check())
