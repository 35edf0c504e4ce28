"""The order of the walls, and what happens when one cannot be entered.

The walls themselves are attacked in tests/walls; here every system call is only written down.
"""

from __future__ import annotations

import os
import resource
import socket
import types
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kernel_runtime.domain.errors import WallUnavailable
from kernel_runtime.domain.level import Level, Rung
from kernel_runtime.domain.limits import Limits
from kernel_runtime.sandbox import enter, syscalls
from kernel_runtime.sandbox.plan import (
    EGRESS,
    WALLS,
    Bind,
    Ground,
    GuestPlan,
    Ids,
    ImagePlan,
    covers,
    plan_guest,
)

if TYPE_CHECKING:
    from pathlib import Path

READ_ONLY = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY | 0b1110
IMAGE = ImagePlan(
    ids=Ids(uid=1000, gid=1000, host_uid=1_879_000_000, host_gid=1_879_000_000, remapped=True),
    binds=[
        Bind(path="/usr"),
        Bind(path="/home/ada/project/.venv"),
        Bind(path="/etc/ld.so.cache", directory=False),
    ],
    links={"/bin": "usr/bin"},
    files={},
    home="/home/ada",
    workdir="/home/ada/project",
    preload=[],
    parent=1,
)


def plan(level: Level = Level.MODERATE, **options: Any) -> GuestPlan:
    return plan_guest(IMAGE, level, Limits(), arch="x86_64", **options)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have been asked of the kernel, as text, in order."""
    made: list[str] = []

    def recorder(name: str) -> Any:
        return lambda *a, **_: made.append(f"{name} {' '.join(str(x) for x in a if x is not None)}"[:120])

    fake = types.SimpleNamespace(
        **{n: v for n, v in vars(syscalls).items() if n.isupper()},
        **{n: recorder(n) for n in ("unshare", "mount", "umount2", "pivot_root", "sethostname", "set_no_new_privs",
                                    "capset_none", "set_dumpable")},
    )  # fmt: skip
    monkeypatch.setattr(enter, "sc", fake)
    monkeypatch.setattr(enter.landlock, "restrict", lambda _: made.append("landlock") or ["files"])
    monkeypatch.setattr(enter.seccomp, "load", lambda _: made.append("seccomp"))
    monkeypatch.setattr(enter.fcntl, "ioctl", recorder("ioctl"))
    monkeypatch.setattr(resource, "setrlimit", recorder("setrlimit"))
    monkeypatch.setattr(enter, "_may_be_owner", lambda *_: False)  # there is no /proc to look at
    for name in ("chdir", "makedirs", "mkdir", "chmod", "chown", "setresuid", "setresgid", "umask"):
        monkeypatch.setattr(os, name, recorder(name))
    opened = {"count": 0}

    def fake_open(path: str, *_: object, **__: object) -> int:
        made.append(f"open {path}")
        opened["count"] += 1
        return os.memfd_create("written")

    monkeypatch.setattr(enter.os, "open", fake_open)
    return made


def test_the_walls_are_entered_in_order_and_seccomp_is_last(calls: list[str]) -> None:
    standing, missing = enter.enter(plan(), [os.memfd_create("cgroup.procs")])
    assert standing == ["pid", *WALLS]
    assert missing == {}
    landmarks = ["sethostname", "pivot_root", "setresuid", "setrlimit", "landlock", "capset_none", "seccomp"]
    firsts = [next(i for i, call in enumerate(calls) if call.startswith(mark)) for mark in landmarks]
    assert firsts == sorted(firsts)
    assert calls[-1] == "seccomp"


def test_the_socket_that_listens_is_handed_over_under_no_limit_of_the_guests_and_closed(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    door = socket.socket()
    monkeypatch.setattr(
        enter.socket, "create_server", lambda place, **_: calls.append(f"listen {place}") or door
    )
    enter.enter(plan(egress=True), [], None, lambda given: calls.append(f"hand over {given is door}"))
    limited = next(i for i, call in enumerate(calls) if call.startswith("setrlimit"))
    assert calls.index(f"listen {EGRESS}") < calls.index("hand over True") < limited
    assert door.fileno() == -1
    enter.enter(plan(), [], None, lambda _: pytest.fail("no plan has one unless it says so"))


def test_only_a_network_of_its_own_has_one() -> None:
    assert plan(egress=True).egress
    assert not plan(egress=True, without=frozenset({"net"})).egress
    shared = msgspec.structs.replace(IMAGE, rung=Rung.LANDLOCK)
    ground = Ground(scratch="/tmp/x")
    assert not plan_guest(shared, Level.MODERATE, Limits(), arch="x86_64", ground=ground, egress=True).egress


def test_the_old_root_is_let_go(calls: list[str]) -> None:
    enter.enter(plan(), [])
    assert calls.index("pivot_root . .") < calls.index(f"umount2 . {syscalls.MNT_DETACH}")


def test_the_settings_of_the_kernel_become_read_only_after_a_way_below_is_kept(calls: list[str]) -> None:
    before = os.listdir("/proc/self/fd")
    enter.enter(plan(), [])
    covered = calls.index("mount /sys/root/proc/sys /sys/root/proc/sys 4096")
    assert calls[covered + 1] == f"mount /sys/root/proc/sys {READ_ONLY}"
    assert calls.index("open /sys/root/proc/sys") < covered < calls.index("open user/max_inotify_watches")
    assert os.listdir("/proc/self/fd") == before, "the way is closed"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with a bit of everything."""
    for name, mode in (
        ("stat", 0o444),
        ("keys", 0o444),
        ("slabinfo", 0o400),
        ("sysrq-trigger", 0o200),
        ("mtrr", 0o644),
    ):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    for name in ("sys", "irq", "tty/driver", "12"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "self").symlink_to("12")
    return tmp_path


def test_what_proc_lets_its_owner_do_is_covered(proc: Path, calls: list[str]) -> None:
    enter._cover_owned(str(proc))
    read_only = {f"mount {proc}/{name} {READ_ONLY}" for name in ("irq", "tty")}
    empty = {f"mount {enter.EMPTY} {proc}/{name} 4096" for name in ("slabinfo", "sysrq-trigger", "mtrr")}
    binds = {f"mount {proc}/{name} {proc}/{name} 4096" for name in ("irq", "tty")}
    expected = read_only | empty | binds | {f"mount {enter.NOTHING} {proc}/tty/driver 4096"}
    assert set(calls) == {call[:120] for call in expected}


def test_who_may_be_the_owner_of_proc(proc: Path) -> None:
    owner = os.getuid()
    ids = msgspec.structs.replace(IMAGE.ids, uid=owner)
    assert not enter._may_be_owner(plan(), str(proc))
    assert enter._may_be_owner(msgspec.structs.replace(plan(), ids=ids), str(proc))
    assert enter._may_be_owner(plan(Level.PERMISSIVE), str(proc)), "it may go on as who we are"
    assert enter._may_be_owner(plan(without=frozenset({"user"})), str(proc))


def test_an_environment_inside_the_directory_is_shown_again_on_top(calls: list[str]) -> None:
    enter.enter(plan(), [])
    targets = [call.split()[2] for call in calls if call.startswith("mount ")]
    project, venv = "/sys/root/home/ada/project", "/sys/root/home/ada/project/.venv"
    assert (
        targets.index("/sys/root/home/ada")
        < targets.index(project)
        < len(targets) - 1 - targets[::-1].index(venv)
    )


def test_strict_has_no_directory_and_starts_no_program() -> None:
    strict, moderate = plan(Level.STRICT), plan()
    assert "overlay" not in {cover.kind for cover in strict.covers}
    assert strict.program != moderate.program
    assert strict.required


def test_parents_are_covered_before_what_lies_in_them() -> None:
    paths = [cover.path for cover in covers(IMAGE, IMAGE.workdir)]
    assert paths.index("/home/ada") < paths.index("/home/ada/project")


@pytest.mark.parametrize("wall", WALLS)
def test_a_wall_that_cannot_be_entered_is_named(
    wall: str, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    broken = {
        "cgroup": (enter, "_join_cgroups"),
        "net": (enter, "_enter_network"),
        "ipc": (enter.sc, "unshare"),
        "uts": (enter, "_enter_uts"),
        "mount": (enter, "_enter_root"),
        "rlimits": (enter, "_set_rlimits"),
        "user": (enter, "_become_guest"),
        "landlock": (enter, "_restrict_files"),
        "capabilities": (enter, "_drop_capabilities"),
        "seccomp": (enter.seccomp, "load"),
    }
    monkeypatch.setattr(*broken[wall], refuse)
    only = plan(without=frozenset(WALLS) - {wall})
    with pytest.raises(WallUnavailable, match=wall):
        enter.enter(only, [])
    permissive = plan(Level.PERMISSIVE, without=frozenset(WALLS) - {wall})
    assert enter.enter(permissive, []) == (["pid"], {wall: "[Errno 1] Operation not permitted"})


def test_no_landlock_is_no_wall(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enter.landlock, "restrict", lambda _: [])
    with pytest.raises(WallUnavailable, match="landlock"):
        enter.enter(plan(), [])


def test_cgroups_are_joined_by_the_descriptors_given(calls: list[str]) -> None:
    read, write = os.pipe()
    enter.enter(plan(without=frozenset(WALLS) - {"cgroup"}), [write])
    assert os.read(read, 8) == b"0"
    os.close(read)


def test_limits_never_ask_for_more_than_the_host_gives(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 128))
    enter._set_rlimits({"RLIMIT_NOFILE": (1024, 4096)})
    assert calls == [f"setrlimit {resource.RLIMIT_NOFILE} (128, 128)"]


def test_pids_leave_room_for_the_first_process() -> None:
    limited = plan_guest(IMAGE, Level.MODERATE, Limits(pids=8), arch="x86_64").rlimits["RLIMIT_NPROC"]
    assert limited == (10, 10)
    roomy = plan_guest(IMAGE, Level.MODERATE, Limits(pids=8), arch="x86_64", copies=5).rlimits
    assert roomy["RLIMIT_NPROC"] == (15, 15)
    assert "RLIMIT_NPROC" not in plan_guest(IMAGE, Level.MODERATE, Limits(pids=None), arch="x86_64").rlimits
