"""Make the attacks: each in throw-away guests, behind its walls and without them."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.domain.level import Level, Rung
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.verdict import Reason
from kernel_runtime.sandbox import landlock
from kernel_runtime.sandbox.plan import GUEST_TMP
from kernel_runtime.sandbox.rungs import REQUIRED
from kernel_runtime.workers import planted as planting
from kernel_runtime.workers.attack import BEGUN
from kernel_runtime.workers.meter import world
from kernel_runtime.workers.session import Session
from kernel_runtime.workers.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
    from kernel_runtime.workers.attack import Attack, Planted
    from kernel_runtime.workers.zygote import Zygote

#: A guest's plan: image, limits, walls to leave out.
Planner = Callable[["ImagePlan", Limits, frozenset[str]], "GuestPlan"]
#: Called with (attempts made, attempts in all, what is tried now).
Progress = Callable[[int, int, str], None]

TIGHT = Limits(memory=planting.MEMORY, pids=planting.PIDS, disk=planting.DISK)
#: The wall ``limits`` taken away: so much that no attack reaches it, and no host suffers.
ROOMY = Limits(memory=4 * planting.MEMORY, pids=8 * planting.PIDS, disk=8 * planting.DISK)
_SECONDS = 20.0
_AT_ONCE = 4
_MANY_FILES = 4300
_numbers = itertools.count(1)

#: For a plain process of the host: the control of walls that no guest can be without.
_OUTSIDE = "import sys; names = {}; exec(sys.stdin.read(), names); print(repr(names['answer']))"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one attack went. ``blocked``: by all walls, and by its own wall alone. ``control``: it succeeded
    without its wall. None: not tried. ``removed``: the walls that the control was without.
    ``seen``: what stopped it, or why it was not tried. ``failed``: it should have been, and could not.
    """

    name: str
    proves: str
    blocked: bool | None = None
    control: bool | None = None
    removed: list[str] = []
    seen: str = ""
    failed: bool = False


class NotTried(Exception):
    """No answer: the guest did not start, or took too long."""


class Trials:
    """Attacks on guests of one zygote. ``whole``: it has namespaces. Where it has none, their walls
    cannot be taken away, and a plain process of the host is the control.
    """

    def __init__(self, zygote: Zygote, planted: Planted, plan: Planner, *, whole: bool = True) -> None:
        self._zygote = zygote
        self._planted = planted
        self._plan = plan
        self._whole = whole
        self._missing: frozenset[str] = frozenset()
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._features = features(planted) | ({"namespaces"} if whole else set())

    async def start(self, missing: Iterable[str]) -> None:
        """Start a guest without the ``missing`` walls; raises what prevents it."""
        session = self._session(frozenset(missing))
        try:
            await session.ready()
        finally:
            await session.close()

    async def run(
        self, attacks: Iterable[Attack], missing: Iterable[str], progress: Progress
    ) -> list[Outcome]:
        """The outcome of each attack, in order; several are made at once. ``missing``: the walls that
        this host does not have, and no guest enters."""
        self._missing = frozenset(missing)
        listed = list(attacks)
        done = itertools.count(1)

        async def one(attack: Attack) -> Outcome:
            outcome = await self._outcome(attack)
            progress(next(done), len(listed), f"{attack.wall}: {attack.name}")
            return outcome

        return await asyncio.gather(*(one(attack) for attack in listed))

    async def _outcome(self, attack: Attack) -> Outcome:
        result = Outcome(name=attack.name, proves=attack.proves, removed=sorted(_possible(attack.control)))
        lacking = [need for need in attack.needs if need not in self._features]
        if lacking:
            return msgspec.structs.replace(result, seen=f"this host has no {lacking[0]}")
        try:
            seen = await self._attempt(attack, frozenset())
            alone = await self._alone(attack) or seen
            control = await self._control(attack)
        except NotTried as error:
            return msgspec.structs.replace(result, seen=str(error), failed=True)
        mark = self._planted.mark
        through, controlled = mark in (seen, alone), control == mark
        if not controlled and not through and not self._whole:
            return msgspec.structs.replace(result, control=False, seen="it fails here without any wall")
        stopped = "it got through" if through else alone.replace(mark, "the mark")
        if not controlled:
            stopped += f"; without the wall: {control or 'nothing'}"
        return msgspec.structs.replace(result, blocked=not through, control=controlled, seen=stopped)

    async def _alone(self, attack: Attack) -> str:
        """What the wall alone answers, where others would cover it."""
        if not attack.covers or not self._whole:
            return ""
        return await self._attempt(attack, frozenset(attack.covers))

    async def _control(self, attack: Attack) -> str:
        """What it answers without its wall: the mark, if it is an attack at all."""
        inside = not attack.outside and (self._whole or attack.wall in REQUIRED[Rung.LANDLOCK])
        answer = await self._attempt(attack, attack.control) if inside else ""
        if answer != self._planted.mark and (attack.outside or not self._whole):
            answer = await _run_outside(attack.text(self._planted), planting.work_directory(self._planted))
        return answer

    async def _attempt(self, attack: Attack, without: frozenset[str]) -> str:
        """What the attack answers in a guest of its own: the mark if it got through."""
        async with self._at_once:
            for last in (False, True):  # a machine that has no room for a guest now may have it soon
                try:
                    return await self._run_inside(
                        attack.text(self._planted), _possible(without | self._missing)
                    )
                except NotTried:
                    if last:
                        raise
        raise AssertionError

    async def _run_inside(self, code: str, without: frozenset[str]) -> str:
        session = self._session(without)
        try:
            async with asyncio.timeout(_SECONDS):
                return await _run_cell(session, code)
        except TimeoutError:
            raise NotTried(f"no answer within {_SECONDS:.0f} s") from None
        except KernelRuntimeError as error:
            raise NotTried(str(error)) from None
        finally:
            await session.close()

    def _session(self, without: frozenset[str]) -> Session:
        limits = ROOMY if "limits" in without else TIGHT
        terms = Terms(
            level=Level.MODERATE,
            limits=limits,
            workdir=None,
            cwd=GUEST_TMP,
            env={"PATH": os.defpath, "HOME": GUEST_TMP},
        )
        return Session(terms, self._ready_zygote, lambda image: self._plan(image, limits, without))

    async def _ready_zygote(self) -> Zygote:
        return self._zygote


def _possible(without: frozenset[str]) -> frozenset[str]:
    """Without an identity of its own a guest's limit of processes would count those of all others."""
    return without | {"rlimits"} if "user" in without else without


async def _run_cell(session: Session, code: str) -> str:
    """The text of the code's value; or of what ended it."""
    seen: list[str] = []
    printed: list[str] = []

    def take(frame: object) -> None:
        if isinstance(frame, wire.Stream):
            printed.append(frame.text)
        elif isinstance(frame, wire.Publish) and frame.kind in ("execute_result", "error"):
            seen.append(_text(frame))

    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    request = wire.Request(
        id=f"attack-{next(_numbers)}",
        kind="execute_request",
        content=msgspec.json.encode(content),
        count=1,
    )
    await session.ready()
    verdict = await session.submit(request, take)
    ended = verdict.explain() if verdict is not None else ""
    lost = verdict is not None and verdict.reason is Reason.PROTOCOL
    if lost or BEGUN not in "".join(printed):
        raise NotTried(ended or f"the guest did not run it: {''.join(seen)}")
    return ended or "".join(seen[-1:])


def _text(frame: wire.Publish) -> str:
    """A result's text without its quotes, or an error in one line."""
    wire.check_json(frame.content)
    content = msgspec.json.decode(frame.content, type=dict[str, Any])
    if frame.kind == "error":
        return f"{content.get('ename', '')}: {content.get('evalue', '')}"[:200]
    data = content.get("data")
    return str(data.get("text/plain", "")).strip("'")[:200] if isinstance(data, dict) else ""


async def _run_outside(code: str, directory: str) -> str:
    """The same code in a plain process of ours, without any wall; what it writes lands in ``directory``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        _OUTSIDE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=directory,
        close_fds=False,  # what a careless parent would leave open
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            out, err = await process.communicate(code.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise NotTried(f"no answer within {_SECONDS:.0f} s") from None
    lines = [*err.decode(errors="replace").splitlines(), *out.decode(errors="replace").splitlines()]
    if BEGUN not in lines:
        raise NotTried(f"the control did not run: {''.join(lines[-1:])}")
    return lines[-1].strip("'")[:200]


def features(planted: Planted) -> frozenset[str]:
    """What this host has that an attack may need."""
    groups = world()
    found = {
        "control groups": bool(groups.homes),
        "memory group": "memory" in groups.limits,
        "pids group": "pids" in groups.limits,
        "landlock 6": landlock.abi() >= 6,
        "many files": resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= _MANY_FILES,
        "vsock": _has_vsock(),
        "keyrings": os.path.exists("/proc/keys"),
        "shared memory": os.path.exists(planted.shared),
    }
    return frozenset(name for name, there in found.items() if there)


def _has_vsock() -> bool:
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    except (OSError, AttributeError):
        return False
    return True
