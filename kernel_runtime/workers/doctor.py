"""Which walls hold on this host: each is built in throw-away guests, and attacked.

What a wall is worth is found out by doing. ``probe`` builds the walls; ``Trials`` attack each behind
all walls, by itself, and without it; ``remedies`` says what to change, for this very host.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.errors import KernelRuntimeError, WallUnavailable
from kernel_runtime.domain.level import Level, Rung
from kernel_runtime.sandbox.image import choose_ids, is_roots_own
from kernel_runtime.sandbox.plan import plan_guest
from kernel_runtime.sandbox.rungs import ABSENT, REQUIRED, WALLS, Host, choose_rung
from kernel_runtime.sandbox.stage import CACHE
from kernel_runtime.workers import attacks, hosts, planted, probe, scratch
from kernel_runtime.workers.ground import make_ground
from kernel_runtime.workers.launch import BARE, Launch
from kernel_runtime.workers.meter import PIDS_NOT_HELD
from kernel_runtime.workers.remedies import remedy
from kernel_runtime.workers.trials import Outcome, Trials
from kernel_runtime.workers.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
    from kernel_runtime.workers.attack import Planted
    from kernel_runtime.workers.trials import Progress

#: What each wall is for, in words for people.
PURPOSES = {
    "zygote": "the parent of all guests: clean, in namespaces of its own",
    "pid": "sees and signals no process but its own",
    "cgroup": "its own view of control groups",
    "net": "no route to any network",
    "ipc": "no shared memory or queues with others",
    "uts": "a host name of its own",
    "mount": "only the interpreter and its directory; writes go to memory",
    "user": "an identity that owns nothing and has no power",
    "rlimits": "a second line of limits",
    "landlock": "a second wall around files, signals and sockets",
    "capabilities": "no privilege, and none to be gained",
    "seccomp": "only listed system calls",
    "limits": "memory and processes, held by the kernel",
}
ENFORCED, PARTIAL, MISSING = "enforced", "partial", "missing"
_AMOUNTS = ("memory", "pids")


class WallReport(msgspec.Struct, frozen=True, kw_only=True):
    """One wall. ``status``: ``enforced`` (every attack failed, every control succeeded), ``partial`` (it stands, but
    an attack got through, could not be proven, or the limit is only watched), ``missing``. ``detail``
    says why it is not enforced, ``fix`` what to change on this host.
    """

    name: str
    status: str
    purpose: str
    detail: str = ""
    attacks: list[Outcome] = []
    fix: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``level``: the strongest level that starts here (``strict``: moderate, too), or ``none``.
    ``rung``: what its walls stand on. ``level_on_rung``: the strongest once somebody has accepted
    that rung. ``attacked``: False if the attacks were left out. ``breached``: walls
    that an attack got through although they were built (a limit that is only watched is none of them).
    """

    level: str
    rung: str
    level_on_rung: str
    attacked: bool
    breached: list[str] = []
    walls: list[WallReport]
    host: hosts.Facts


def report(*, quick: bool = False, progress: Progress = lambda *_: None) -> Report:
    """Build every wall, attack it unless ``quick``, and say what stands. ``progress`` is told of each attack."""
    return asyncio.run(_report(quick, progress))


async def _report(quick: bool, progress: Progress) -> Report:
    facts = hosts.read_facts()
    if facts.system != "Linux":
        walls = [_missing(name, "no such thing on this system", facts) for name in PURPOSES]
        return Report(
            level="none", rung="none", level_on_rung="none", attacked=False, walls=walls, host=facts
        )
    host = await asyncio.to_thread(probe.refresh)
    facts = msgspec.structs.replace(facts, landlock=host.abi, cgroups=host.cgroups)
    rung = _rung(host, Level.PERMISSIVE)
    missing = dict(host.missing[rung or Rung.NAMESPACES])
    outcomes: dict[str, list[Outcome]] = {}
    if rung is not None and not quick:
        with planted.plant() as planting:
            outcomes = await _attack(rung, missing, planting, progress)
    walls = [_judge(name, rung, host, missing, outcomes.get(name, []), facts) for name in PURPOSES]
    return Report(
        level="none" if rung is None else _level(_rung(host, Level.STRICT), missing),
        rung="none" if rung is None else str(rung),
        level_on_rung="none" if rung is None else _level(rung, missing),
        attacked=bool(outcomes),
        breached=[] if rung is None else _breached(walls, _watched(host, rung)),
        walls=walls,
        host=facts,
    )


def _rung(host: Host, level: Level) -> Rung | None:
    """What this level would stand on here, without anybody's leave; None: it does not start."""
    try:
        return choose_rung(level, host)
    except WallUnavailable:
        return None


def _level(rung: Rung | None, missing: dict[str, str]) -> str:
    """The strongest level that starts on ``rung`` without these walls."""
    whole = rung is not None and not missing.keys() & set(REQUIRED[rung])
    return str(Level.STRICT if whole else Level.PERMISSIVE)


def _breached(walls: list[WallReport], watched: list[str]) -> list[str]:
    """Walls of the rung that were said to stand, and did not."""
    return [
        wall.name
        for wall in walls
        if wall.status == PARTIAL
        and not (watched and wall.name == "limits")
        and any(outcome.blocked is False for outcome in wall.attacks)
    ]


def _watched(host: Host, rung: Rung) -> list[str]:
    """The amounts that are only looked at from time to time."""
    amounts = [name for name in _AMOUNTS if name not in host.held]
    return [*amounts, "disk"] if rung is Rung.LANDLOCK else amounts


# -- the attacks --------------------------------------------------------------------------------


async def _attack(
    rung: Rung, missing: dict[str, str], planting: Planted, progress: Progress
) -> dict[str, list[Outcome]]:
    """The outcomes by wall. A wall that no guest can enter after all is added to ``missing``."""
    with _cache(rung) as cache:
        zygote = Zygote(Launch(list(BARE), planted.work_directory(planting), rung, cache))
        try:
            await zygote.booted()
            trials = Trials(zygote, planting, _plan, whole=rung is Rung.NAMESPACES)
            await _find_missing(trials, missing)
            chosen = [attack for attack in attacks.ATTACKS if attack.wall not in missing]
            found = await trials.run(chosen, missing, progress)
        except WallUnavailable as error:
            missing[_named(error.wall)] = error.reason
            return {}
        except KernelRuntimeError as error:
            missing["zygote"] = str(error)
            return {}
        finally:
            zygote.close()
    outcomes: dict[str, list[Outcome]] = {}
    for attack, outcome in zip(chosen, found, strict=True):
        outcomes.setdefault(attack.wall, []).append(outcome)
    return outcomes


async def _find_missing(trials: Trials, missing: dict[str, str]) -> None:
    """Start a guest until it starts: each time without the wall that it could not enter."""
    while True:
        try:
            return await trials.start(missing)
        except WallUnavailable as error:
            if error.wall not in WALLS or error.wall in missing:
                raise
            missing[error.wall] = error.reason


def _named(wall: str) -> str:
    return wall if wall in WALLS else "zygote"


@contextlib.contextmanager
def _cache(rung: Rung) -> Iterator[str]:
    """Where libraries write when imported: on its stage, or where there is none in a directory of ours."""
    if rung is Rung.NAMESPACES:
        yield CACHE
        return
    path = scratch.make(os.getuid(), os.getgid())
    try:
        yield path
    finally:
        scratch.remove(path)


def _plan(image: ImagePlan, limits: Limits, without: frozenset[str]) -> GuestPlan:
    """As at ``moderate``; without namespaces, a guest gets a directory of its own on the host."""
    arch, ground = os.uname().machine, make_ground(image)
    return plan_guest(image, Level.MODERATE, limits, arch=arch, without=without, ground=ground)


# -- the judgement ------------------------------------------------------------------------------


def _judge(
    name: str,
    rung: Rung | None,
    host: Host,
    missing: dict[str, str],
    outcomes: list[Outcome],
    facts: hosts.Facts,
) -> WallReport:
    if rung is None:
        return _unused(name, host, facts)
    if name == "limits":
        return _limits(host, rung, outcomes, facts)
    if name in missing:
        return _missing(name, missing[name], facts)
    if rung is Rung.LANDLOCK and name not in (*REQUIRED[rung], "cgroup"):
        return _stand_in(name, host, outcomes, facts)
    status, detail = _verdict(outcomes)
    return WallReport(name=name, status=status, purpose=PURPOSES[name], detail=detail, attacks=outcomes)


def _verdict(outcomes: list[Outcome]) -> tuple[str, str]:
    """Status and detail of a wall that could be built."""
    through = [outcome.name for outcome in outcomes if outcome.blocked is False]
    if through:
        return PARTIAL, f"got through: {', '.join(through)}"
    unproven = [outcome.name for outcome in outcomes if outcome.blocked and not outcome.control]
    if unproven:
        return PARTIAL, f"no control could be made: {', '.join(unproven)}"
    failed = [outcome for outcome in outcomes if outcome.failed]
    if failed:
        names = ", ".join(outcome.name for outcome in failed)
        return PARTIAL, f"not tried: {names} ({failed[0].seen})"
    return ENFORCED, ""


def _stand_in(name: str, host: Host, outcomes: list[Outcome], facts: hosts.Facts) -> WallReport:
    """A wall that the second rung does not have: what stands in for it, if that holds."""
    spaces = host.missing[Rung.NAMESPACES]
    reasons = [text for text in (spaces.get(name), ABSENT.get(name)) if text]
    reason = "; ".join(reasons) or f"not used, because of: {', '.join(spaces)}"
    through = [outcome.name for outcome in outcomes if outcome.blocked is False]
    held = bool(outcomes) and not through
    detail = reason if not through else f"{reason}; got through: {', '.join(through)}"
    return WallReport(
        name=name,
        status=PARTIAL if held else MISSING,
        purpose=PURPOSES[name],
        detail=detail,
        attacks=outcomes,
        fix=remedy(name, facts),
    )


def _unused(name: str, host: Host, facts: hosts.Facts) -> WallReport:
    """Where nothing starts: a wall that cannot be built, or one that could, but is not enough."""
    spaces, alone = host.missing[Rung.NAMESPACES], host.missing[Rung.LANDLOCK]
    needed = name in REQUIRED[Rung.LANDLOCK]
    reason = alone.get(name) or spaces.get(name)
    if reason is None and not needed and name != "limits":
        reason = spaces.get("zygote")
    if reason is not None:
        return _missing(name, reason, facts)
    return WallReport(
        name=name,
        status=PARTIAL,
        purpose=PURPOSES[name],
        detail="it could be built, but is not enough by itself",
    )


def _missing(name: str, reason: str, facts: hosts.Facts) -> WallReport:
    return WallReport(
        name=name, status=MISSING, purpose=PURPOSES[name], detail=reason, fix=remedy(name, facts, reason)
    )


def _limits(host: Host, rung: Rung, outcomes: list[Outcome], facts: hosts.Facts) -> WallReport:
    """Memory and processes: held by the kernel, or only watched."""
    status, detail = _verdict(outcomes)
    watched = _watched(host, rung)
    fix = ""
    if watched:
        status, fix = PARTIAL, remedy("limits" if watched != ["disk"] else "mount", facts)
        detail = _unheld(watched, host) + (detail and f"; {detail}")
    return WallReport(
        name="limits", status=status, purpose=PURPOSES["limits"], detail=detail, attacks=outcomes, fix=fix
    )


def _unheld(watched: list[str], host: Host) -> str:
    exempt = "pids" in watched and is_roots_own(choose_ids())
    names = [name for name in watched if not (exempt and name == "pids")]
    words = [f"only watched: {', '.join(names)} (cgroup {host.cgroups})"] if names else []
    return "; ".join([*words, f"pids {PIDS_NOT_HELD}"] if exempt else words)
