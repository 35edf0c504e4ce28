"""Level x host → walls, or a refusal that says what to change."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.errors import Invalid, WallUnavailable
from kernel_runtime.domain.level import Level, Rung, parse_rung
from kernel_runtime.domain.limits import Limits
from kernel_runtime.sandbox.plan import Bind, Ground, GuestPlan, Ids, ImagePlan, plan_guest
from kernel_runtime.sandbox.rungs import ABSENT, REQUIRED, SOLE_FEATURES, WALLS, Host, choose_rung
from kernel_runtime.sandbox.seccomp import compile_program

SPACES, LANDLOCK = Rung.NAMESPACES, Rung.LANDLOCK
WHOLE = Host(missing={SPACES: {}, LANDLOCK: {}}, abi=7, cgroups="v2 delegated", held=("memory", "pids"))
NO_SPACES = msgspec.structs.replace(WHOLE, missing={SPACES: {"zygote": "unshare: refused"}, LANDLOCK: {}})
MASKED_PROC = msgspec.structs.replace(WHOLE, missing={SPACES: {"mount": "mount /proc: EPERM"}, LANDLOCK: {}})
NO_NET = msgspec.structs.replace(
    WHOLE, missing={SPACES: {"net": "unshare"}, LANDLOCK: {"landlock": "not available"}}, abi=0
)
OLD = msgspec.structs.replace(
    WHOLE, missing={SPACES: {"zygote": "unshare"}, LANDLOCK: {"landlock": "does not hold: signal"}}, abi=4
)
BARE = msgspec.structs.replace(
    WHOLE, missing={SPACES: {"zygote": "unshare"}, LANDLOCK: {"landlock": "not available"}}, abi=0
)
#: host, level, accepted → rung, or the wall that the refusal names
TABLE = [
    *((WHOLE, level, accepted, SPACES) for level in Level for accepted in (None, SPACES, LANDLOCK)),
    *((host, Level.STRICT, None, "zygote") for host in (NO_SPACES, OLD, BARE)),
    *((host, Level.MODERATE, None, "zygote") for host in (NO_SPACES, OLD, BARE)),
    (NO_SPACES, Level.MODERATE, SPACES, "zygote"),
    (NO_SPACES, Level.MODERATE, LANDLOCK, LANDLOCK),
    (NO_SPACES, Level.STRICT, LANDLOCK, LANDLOCK),
    (NO_SPACES, Level.PERMISSIVE, None, LANDLOCK),
    (MASKED_PROC, Level.MODERATE, None, "mount"),
    (MASKED_PROC, Level.MODERATE, LANDLOCK, LANDLOCK),
    (MASKED_PROC, Level.PERMISSIVE, None, LANDLOCK),
    (NO_NET, Level.MODERATE, None, "net"),
    (NO_NET, Level.MODERATE, LANDLOCK, "landlock"),
    (NO_NET, Level.PERMISSIVE, None, SPACES),
    (OLD, Level.MODERATE, LANDLOCK, "landlock"),
    (OLD, Level.PERMISSIVE, None, LANDLOCK),
    (BARE, Level.PERMISSIVE, None, "zygote"),
    (BARE, Level.MODERATE, LANDLOCK, "landlock"),
]


@pytest.mark.parametrize(("host", "level", "accepted", "expected"), TABLE)
def test_the_table_of_levels_and_hosts(
    host: Host, level: Level, accepted: Rung | None, expected: str
) -> None:
    if isinstance(expected, Rung):
        assert choose_rung(level, host, accepted) is expected
        return
    with pytest.raises(WallUnavailable) as refused:
        choose_rung(level, host, accepted)
    assert refused.value.wall == expected
    assert refused.value.reason
    assert refused.value.fix


def test_the_second_rung_is_offered_only_where_it_holds() -> None:
    for host, offered in ((NO_SPACES, True), (MASKED_PROC, True), (OLD, False), (BARE, False)):
        with pytest.raises(WallUnavailable) as refused:
            choose_rung(Level.MODERATE, host)
        assert ("--rung landlock" in refused.value.fix) is offered


def image(rung: Rung, *, remapped: bool = False) -> ImagePlan:
    return ImagePlan(
        ids=Ids(uid=1000, gid=1000, host_uid=1000, host_gid=1000, remapped=remapped),
        binds=[Bind(path="/usr")],
        links={},
        files={},
        home="/home/ada",
        workdir="/srv/project",
        preload=[],
        parent=1,
        rung=rung,
    )


def plan(
    rung: Rung, level: Level = Level.MODERATE, *, remapped: bool = False, limits: Limits | None = None
) -> GuestPlan:
    return plan_guest(
        image(rung, remapped=remapped),
        level,
        limits or Limits(),
        arch="x86_64",
        ground=Ground(scratch="/tmp/scratch", crowd=100),
    )


broken = st.dictionaries(st.sampled_from(["zygote", "pid", *WALLS]), st.text(min_size=1, max_size=9))
hosts = st.builds(
    lambda first, second, abi: Host(missing={SPACES: first, LANDLOCK: second}, abi=abi),
    broken,
    broken,
    st.integers(0, 9),
)


@given(
    host=hosts, level=st.sampled_from(Level), accepted=st.sampled_from([None, *Rung]), remapped=st.booleans()
)
def test_never_fewer_walls_than_the_level_demands(
    host: Host, level: Level, accepted: Rung | None, remapped: bool
) -> None:
    try:
        rung = choose_rung(level, host, accepted)
    except WallUnavailable as refused:
        assert refused.fix, "a refusal says what to change"
        assert refused.reason
        return
    made = plan(rung, level, remapped=remapped)
    assert set(made.walls) | set(made.absent) | {"pid"} == {*WALLS, "pid"}, "each wall is entered or named"
    assert not set(made.walls) & set(made.absent)
    assert {"landlock", "seccomp", "capabilities", "rlimits"} <= set(made.walls)
    if level is Level.PERMISSIVE:
        assert not made.required
        return
    assert made.required
    assert rung is SPACES or accepted is LANDLOCK
    assert not set(REQUIRED[rung]) & set(host.missing[rung]), "what is demanded can be built"
    assert set(REQUIRED[rung]) - {"zygote", "pid"} <= set(made.walls)
    if rung is LANDLOCK:
        assert made.features == SOLE_FEATURES


@given(host=hosts, level=st.sampled_from(Level))
def test_accepting_less_never_gives_less_than_there_is(host: Host, level: Level) -> None:
    try:
        without = choose_rung(level, host)
    except WallUnavailable:
        return
    assert choose_rung(level, host, LANDLOCK) is without


def test_the_second_rung_opens_the_image_the_directory_and_a_scratch() -> None:
    paths = plan(LANDLOCK).paths
    assert "/usr" in paths.read_exec
    assert paths.wanted == ("/srv/project",)
    assert not {"/", "/proc", "/dev", "/tmp", "/home/ada", "/etc"} & {*paths.read_exec, *paths.read_write}
    assert [path for path in paths.read_write if not path.startswith("/dev/")] == ["/tmp/scratch"]
    assert plan(LANDLOCK, Level.STRICT).paths.wanted == ()
    assert not paths.tcp
    assert paths.scope_signal
    assert paths.scope_abstract_unix


def test_the_second_rung_names_what_it_lacks_and_what_stands_in() -> None:
    ordinary, root = plan(LANDLOCK), plan(LANDLOCK, remapped=True)
    assert ordinary.absent == ABSENT
    assert set(ABSENT) - set(root.absent) == {"user"}
    assert "user" in root.walls


def test_other_processes_of_the_user_do_not_use_up_the_limit() -> None:
    limits = Limits(pids=8)
    assert plan(LANDLOCK, limits=limits).rlimits["RLIMIT_NPROC"][0] > 100 + 8
    assert plan(SPACES, limits=limits).rlimits["RLIMIT_NPROC"] == (10, 10)


def test_the_filter_is_narrower_without_namespaces() -> None:
    programs = {
        compile_program("x86_64", shared=shared, owner=owner)
        for shared, owner in ((False, False), (True, False), (True, True))
    }
    assert len(programs) == 3
    assert plan(LANDLOCK).program == compile_program("x86_64", shared=True, owner=True)
    assert compile_program("aarch64", shared=True, owner=True)


def test_a_guest_without_namespaces_needs_a_ground() -> None:
    with pytest.raises(ValueError, match="ground"):
        plan_guest(image(LANDLOCK), Level.MODERATE, Limits(), arch="x86_64")


def test_a_rung_is_parsed_or_refused_with_the_choices() -> None:
    assert parse_rung(" Landlock ") is LANDLOCK
    with pytest.raises(Invalid, match="env: 'none' is not a rung; choose one of namespaces, landlock"):
        parse_rung("none", "env")
