"""``doctor``: it says enforced where the walls are, and finds out where they are not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.sandbox.plan import WALLS
from kernel_runtime.workers import attack, attacks, doctor, hosts, planted
from kernel_runtime.workers.meter import world

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.limits import Limits
    from kernel_runtime.sandbox.plan import GuestPlan, ImagePlan
    from kernel_runtime.workers.attack import Attack

CRIPPLED = Path(__file__).with_name("crippled.py")
NO_NAMESPACES = ("unshare", "--user", "--map-root-user", sys.executable, str(CRIPPLED), "no-namespaces", "--")


def refusing(*calls: str) -> tuple[str, ...]:
    return (sys.executable, str(CRIPPLED), "refuse", ",".join(calls), "--")


def run_doctor(*world: str, options: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    """Exit code and report of a doctor in another world."""
    done = subprocess.run(
        [*world, sys.executable, "-m", "kernel_runtime", "doctor", "--json", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {wall["name"]: wall for wall in report["walls"]}


@pytest.fixture(scope="module")
def report() -> doctor.Report:
    return doctor.report()


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., doctor.Report]:
    """A report with the attacks on one wall, whose guests are planned with ``change``."""

    def make(wall: str, change: Callable[[GuestPlan], GuestPlan], **options: Any) -> doctor.Report:
        plan = doctor._plan

        def changed(image: ImagePlan, limits: Limits, without: frozenset[str]) -> GuestPlan:
            return change(plan(image, limits, without))

        monkeypatch.setattr(doctor, "_plan", changed)
        monkeypatch.setattr(attacks, "ATTACKS", of_wall(wall))
        return doctor.report(**options)

    return make


def of_wall(wall: str) -> tuple[attacks.Attack, ...]:
    return tuple(attack for attack in attacks.ATTACKS if attack.wall == wall)


def leaving_out(wall: str) -> Callable[[GuestPlan], GuestPlan]:
    """A plan that says it has the wall's fellows only; whoever reads the report was told otherwise."""
    import msgspec

    return lambda plan: msgspec.structs.replace(plan, walls=[name for name in plan.walls if name != wall])


# -- the data -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wall", doctor.PURPOSES)
def test_every_wall_has_three_attacks(wall: str) -> None:
    names = [made.name for made in of_wall(wall)]
    assert len(names) >= 3
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("made", attacks.ATTACKS, ids=lambda a: f"{a.wall}: {a.name}")
def test_attacks_are_code_and_name_their_covers(made: Attack) -> None:
    compile(made.code, "attack", "exec")
    assert made.wall in doctor.PURPOSES
    assert set(made.covers) <= set(WALLS) - {made.wall}
    assert made.outside == (made.wall in ("zygote", "pid"))


# -- this host ----------------------------------------------------------------------------------


def test_every_wall_is_enforced_here(report: doctor.Report) -> None:
    held = {"memory", "pids"} <= world().limits
    states = {
        wall.name: (wall.status, wall.detail) for wall in report.walls if wall.status != doctor.ENFORCED
    }
    assert states.keys() == (set() if held else {"limits"}), states
    assert (report.level, report.rung, report.breached) == ("strict", "namespaces", [])
    assert [wall.name for wall in report.walls] == list(doctor.PURPOSES)


def test_every_attack_fails_and_every_control_succeeds(report: doctor.Report) -> None:
    for wall in report.walls:
        made = [outcome for outcome in wall.attacks if outcome.blocked is not None]
        assert len(made) >= (3 if world().homes or wall.name != "cgroup" else 1)
        for outcome in made:
            assert outcome.blocked, f"{wall.name}: {outcome.name}"
            assert outcome.control or wall.name == "limits", f"{wall.name}: {outcome.name}: {outcome.seen}"


def test_nothing_that_was_planted_is_left_behind() -> None:
    with planted.plant() as there:
        paths = [Path(p) for p in (there.file, there.socket, there.shared, planted.work_directory(there))]
        assert all(path.exists() for path in paths)
        assert Path(f"/proc/{there.process}").exists()
        assert there.mark in Path("/proc/net/unix").read_text()
        assert there.mark in os.environ.values()
    assert not any(path.exists() for path in (*paths, Path(f"/proc/{there.process}")))
    assert there.mark not in Path("/proc/net/unix").read_text()
    assert there.mark not in os.environ.values()
    segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    assert there.segment not in [int(line.split()[1]) for line in segments]


def test_what_was_planted_ends_with_a_doctor_that_was_killed() -> None:
    code = (
        "import os, signal; from kernel_runtime.workers import planted\n"
        "with planted.plant() as there:\n"
        "    print(there.directory, there.shared, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    directory, shared = map(Path, done.stdout.split())
    deadline = time.monotonic() + 60
    while directory.parent.exists() or shared.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_system_without_walls_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts.platform, "system", lambda: "Darwin")
    report = doctor.report()
    assert (report.level, report.rung, report.attacked) == ("none", "none", False)
    assert {wall.status for wall in report.walls} == {doctor.MISSING}
    assert report.walls[0].fix.startswith("macOS has no namespaces")


def test_quick_makes_no_attack() -> None:
    quick = doctor.report(quick=True)
    assert not quick.attacked
    assert all(not wall.attacks for wall in quick.walls)
    assert quick.level == "strict"


def test_progress_is_told(only: Callable[..., doctor.Report]) -> None:
    told: list[tuple[int, int, str]] = []
    only("uts", lambda plan: plan, progress=lambda *what: told.append(what))
    assert [done for done, _, _ in told] == [1, 2, 3]
    assert {total for _, total, _ in told} == {3}


# -- broken walls -------------------------------------------------------------------------------


@pytest.mark.parametrize("wall", ["seccomp", "uts", "landlock", "capabilities"])
def test_a_wall_that_only_seems_to_stand_is_found(wall: str, only: Callable[..., doctor.Report]) -> None:
    """The guests are planned without it, and nobody has told doctor. Others cover it in part."""
    found = {w.name: w for w in only(wall, leaving_out(wall)).walls}[wall]
    assert found.status == doctor.PARTIAL
    assert "got through" in found.detail


def test_a_control_that_fails_is_no_proof(only: Callable[..., doctor.Report]) -> None:
    """An attack that fails with and without the wall has shown nothing."""
    import msgspec

    def all_walls(plan: GuestPlan) -> GuestPlan:
        return msgspec.structs.replace(plan, walls=list(WALLS))

    report = only("uts", all_walls)
    found = {wall.name: wall for wall in report.walls}["uts"]
    assert (found.status, report.breached) == (doctor.PARTIAL, [])
    assert "no control could be made" in found.detail


def test_an_attack_that_never_ran_was_refused_by_nobody(
    only: Callable[..., doctor.Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that is broken answers every attack with an error."""
    monkeypatch.setattr(attack, "PRELUDE", "raise SystemError\n" + attack.PRELUDE)
    found = {wall.name: wall for wall in only("uts", lambda plan: plan).walls}["uts"]
    assert (found.status, [outcome.blocked for outcome in found.attacks]) == (doctor.PARTIAL, [None] * 3)
    assert "did not run" in found.detail


def test_a_wall_that_turns_out_missing_in_the_attacked_guests_is_missing(
    only: Callable[..., doctor.Report],
) -> None:
    """The probe's guest had no directory; what fails only for later guests is said, too."""
    import msgspec

    report = only("seccomp", lambda plan: msgspec.structs.replace(plan, program=b"\xff" * 8))
    found = {wall.name: wall for wall in report.walls}["seccomp"]
    assert (found.status, report.level) == (doctor.MISSING, "permissive")


# -- other worlds -------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_user_namespaces_the_second_rung_is_offered() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs an ordinary user")
    code, report = run_doctor(*NO_NAMESPACES)
    walls = by_name(report)
    assert (code, report["level"], report["rung"], report["breached"]) == (6, "permissive", "landlock", [])
    assert walls["limits"]["status"] == "partial"  # its disk is the host's, and only watched
    assert walls["uts"]["status"] == "missing"
    assert "user.max_user_namespaces=15000" in walls["zygote"]["fix"]
    for wall in ("net", "ipc", "mount", "pid"):  # what stands in for them holds
        assert walls[wall]["status"] == "partial", walls[wall]
        assert all(attack["blocked"] is not False for attack in walls[wall]["attacks"])
    for wall in ("landlock", "capabilities", "seccomp", "rlimits"):
        assert walls[wall]["status"] == "enforced", walls[wall]


def test_without_landlock_strict_and_moderate_refuse() -> None:
    code, report = run_doctor(*refusing("landlock_create_ruleset"), options=("--quick",))
    walls = by_name(report)
    assert (code, report["level"]) == (4, "permissive")
    assert [name for name, wall in walls.items() if wall["status"] == "missing"] == ["landlock"]
    assert "andlock" in walls["landlock"]["fix"]


@pytest.mark.parametrize(
    ("call", "wall", "code"),
    [
        ("mount", "zygote", 6),
        ("pivot_root", "mount", 6),
        ("sethostname", "uts", 4),
        ("seccomp", "seccomp", 7),
    ],
)
def test_a_call_that_is_refused_is_a_wall_that_is_missing(call: str, wall: str, code: int) -> None:
    """With the reason, and the second rung if only namespaces are touched (root may not have it:
    where its Python lies in root's home, its guests cannot read it without a mount wall)."""
    got, report = run_doctor(*refusing(call), options=("--quick",))
    walls = by_name(report)
    second = walls["landlock"]["status"] == "enforced"
    assert got == (code if second or code != 6 else 4)
    assert walls[wall]["status"] == "missing"
    assert "Operation not permitted" in walls[wall]["detail"]
    assert all(w["detail"] for w in walls.values() if w["status"] == "missing")
    assert all(w["fix"] for w in walls.values() if w["status"] == "missing")


def test_without_namespaces_and_landlock_nothing_starts() -> None:
    code, report = run_doctor(*refusing("unshare", "landlock_create_ruleset"))
    walls = by_name(report)
    assert (code, report["level"], report["attacked"]) == (7, "none", False)
    assert walls["zygote"]["status"] == walls["landlock"]["status"] == "missing"
    assert walls["rlimits"]["status"] == "partial"
    assert "Operation not permitted" in walls["zygote"]["detail"]
