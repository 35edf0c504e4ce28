"""Which walls this host can build: found out by building them in a throw-away guest."""

from __future__ import annotations

import asyncio
import os
import socket

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import KernelRuntimeError, WallUnavailable
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits
from kernel_runtime.sandbox.enter import FIXES
from kernel_runtime.sandbox.plan import WALLS, plan_guest
from kernel_runtime.workers.launch import Launch
from kernel_runtime.workers.link import Link
from kernel_runtime.workers.meter import Meter, world
from kernel_runtime.workers.zygote import Zygote

_SECONDS = 20.0
#: What each wall is for, in words for people.
PURPOSES = {
    "zygote": "namespaces of its own for the parent of all guests (user, mount, pid)",
    "pid": "the guest sees and signals no process but its own",
    "cgroup": "its own view of control groups",
    "net": "no route to any network",
    "ipc": "no shared memory or queues with others",
    "uts": "a host name of its own",
    "mount": "sees only the interpreter and its directory; writes go to memory",
    "rlimits": "a second line of limits",
    "user": "an identity that owns nothing, in a user namespace without power",
    "landlock": "a second wall around files, signals and abstract sockets",
    "capabilities": "no privilege, and none to be gained",
    "seccomp": "only listed system calls",
    "limits": "memory and process limits held by the kernel",
}


class WallReport(msgspec.Struct, frozen=True, kw_only=True):
    """One wall: ``status`` is enforced, partial or missing; ``fix`` says what to change."""

    name: str
    status: str
    purpose: str
    detail: str = ""
    fix: str = ""


def report(workdir: str | None = None) -> list[WallReport]:
    """Build every wall once, in a guest that does nothing else, and say what stands."""
    return asyncio.run(_report(workdir))


async def _report(workdir: str | None) -> list[WallReport]:
    zygote = Zygote(Launch([], workdir))
    try:
        await zygote.booted()
        born = await _try_guest(zygote)
    except KernelRuntimeError as error:
        return [_missing("zygote", error), _limits()]
    finally:
        zygote.close()
    walls = [_enforced("zygote"), _enforced("pid")]
    for name in WALLS:
        if name in born.missing:
            walls.append(_missing(name, WallUnavailable(name, born.missing[name], FIXES.get(name, ""))))
        else:
            walls.append(_enforced(name))
    return [*walls, _limits()]


async def _try_guest(zygote: Zygote) -> wire.Born:
    """A guest that goes on without the walls it cannot enter, so that all of them are tried."""
    plan = plan_guest(zygote.image, Level.PERMISSIVE, Limits(), arch=os.uname().machine)
    meter = Meter(Limits())
    host, guest = socket.socketpair()
    answer: asyncio.Future[wire.FromInit] = asyncio.get_running_loop().create_future()

    def take(frame: wire.FromInit) -> None:
        if not answer.done():
            answer.set_result(frame)

    link = Link(host, wire.decode_from_init, take, lambda _: None)
    try:
        with guest:
            os.close(await zygote.spawn(plan, [guest.fileno(), *meter.join_fds()]))
        frame = await asyncio.wait_for(answer, _SECONDS)
    finally:
        link.close()
        meter.close()
    if isinstance(frame, wire.Born):
        return frame
    raise WallUnavailable("mount", getattr(frame, "error", "the guest did not start"))


def _enforced(name: str) -> WallReport:
    return WallReport(name=name, status="enforced", purpose=PURPOSES[name])


def _missing(name: str, error: KernelRuntimeError) -> WallReport:
    return WallReport(
        name=name,
        status="missing",
        purpose=PURPOSES[name],
        detail=str(getattr(error, "reason", error)),
        fix=str(getattr(error, "fix", "")),
    )


def _limits() -> WallReport:
    """Memory and processes: held by the kernel, or only watched."""
    found = world()
    if {"memory", "pids"} <= found.limits:
        return WallReport(
            name="limits", status="enforced", purpose=PURPOSES["limits"], detail=f"cgroup {found.kind}"
        )
    return WallReport(
        name="limits",
        status="partial",
        purpose=PURPOSES["limits"],
        detail="no writable control groups: RLIMIT_DATA, RLIMIT_NPROC and a watchdog instead",
        fix="Delegate a control group to this user (systemd: Delegate=yes), or run in a container that may write to one",
    )
