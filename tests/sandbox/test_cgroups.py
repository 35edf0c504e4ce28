"""Control groups: this machine's own, and version 1 and 2 trees made up of files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.errors import WallUnavailable
from kernel_runtime.domain.limits import Limits
from kernel_runtime.sandbox import cgroup_files, cgroups, hierarchy, names
from kernel_runtime.sandbox.cgroups import Group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.sandbox.hierarchy import World

HERE = hierarchy.detect()
WRITABLE = "needs cgroup v1 or needs cgroup v2, writable"
needs_memory = pytest.mark.skipif("memory" not in HERE.homes, reason=WRITABLE)
needs_pids = pytest.mark.skipif("pids" not in HERE.homes, reason=WRITABLE)


@pytest.fixture
def group() -> Iterator[Group]:
    made = cgroups.create(HERE, Limits(memory=64 * MIB, pids=8))
    if made is None:
        pytest.skip(WRITABLE)
    yield made
    made.kill()
    assert made.remove()
    assert not any(directory.exists() for directory in made.directories)


def start(group: Group, code: str) -> subprocess.Popen[str]:
    """Run code in a process that first enters the group as a guest does."""
    fds = group.procs_fds()
    enter = "import os, sys\nfor fd in sys.argv[1].split(): os.write(int(fd), b'0')\n"
    listed = " ".join(map(str, fds))
    try:
        return subprocess.Popen(
            [sys.executable, "-S", "-c", enter + code, listed],
            pass_fds=fds,
            stdout=subprocess.PIPE,
            text=True,
        )
    finally:
        for fd in fds:
            os.close(fd)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=60)
    return process.returncode, out.strip()


@needs_memory
def test_memory_is_limited_and_the_kill_is_counted(group: Group) -> None:
    assert finish(start(group, "x = bytearray(8 << 20); print(len(x))")) == (0, str(8 << 20))
    assert group.usage().oom_kills == 0
    assert finish(start(group, "x = bytearray(200 << 20); print(len(x))"))[0] == -signal.SIGKILL
    usage = group.usage()
    assert usage.oom_kills == 1
    assert 32 * MIB < usage.peak <= 64 * MIB


@needs_memory
def test_shared_memory_counts_too(group: Group) -> None:
    code = "import mmap\nm = mmap.mmap(-1, 200 << 20)\nfor i in range(0, len(m), 4096): m[i] = 1"
    assert finish(start(group, code))[0] == -signal.SIGKILL


@needs_memory
def test_without_the_group_the_same_code_lives() -> None:
    done = subprocess.run([sys.executable, "-S", "-c", "x = bytearray(200 << 20)"], check=False)
    assert done.returncode == 0


@needs_pids
def test_processes_are_limited_and_the_refusal_is_counted(group: Group) -> None:
    code = """
made = []
try:
    for _ in range(30):
        made.append(os.fork())
        if made[-1] == 0: import time; time.sleep(60)
except OSError as error: print(len(made), error.errno)
for pid in made: os.kill(pid, 9)
"""
    assert finish(start(group, code)) == (0, "7 11")
    assert group.usage().pids_denied >= 1


def test_cpu_time_is_measured(group: Group) -> None:
    before = group.usage().cpu
    finish(start(group, "sum(range(3_000_000))"))
    assert 0.01 < group.usage().cpu - before < 30


@pytest.mark.skipif("cpu" not in HERE.homes, reason=WRITABLE)
def test_cpu_is_throttled_to_a_quota() -> None:
    spin = "import time\nend = time.perf_counter() + 1\nwhile time.perf_counter() < end: pass\nprint(time.process_time())"
    group = cgroups.create(HERE, Limits(memory=None, pids=None), cpus=0.2)
    assert group is not None
    assert float(finish(start(group, spin))[1]) < 0.6
    assert group.remove()


def test_a_group_that_is_to_end_goes_before_others(group: Group) -> None:
    weights = [d / "cpu.shares" for d in group.directories] + [d / "cpu.weight" for d in group.directories]
    (weight,) = [file for file in weights if file.exists()] or [None]
    if weight is None:
        pytest.skip("needs the cpu controller")
    usual = weight.read_text()
    group.hurry(True)
    assert int(weight.read_text()) >= 100 * int(usual)
    group.hurry(False)
    assert weight.read_text() == usual


def test_kill_ends_everything_in_the_group(group: Group) -> None:
    code = """
import signal, time
for _ in range(3):
    if os.fork() == 0: os.setsid(); signal.signal(15, signal.SIG_IGN); time.sleep(60)
print("ready", flush=True); time.sleep(60)
"""
    process = start(group, code)
    assert process.stdout is not None
    process.stdout.readline()
    assert len(group.pids()) == 4
    group.kill()
    assert group.pids() == []
    assert finish(process)[0] == -signal.SIGKILL


def test_a_group_in_use_is_not_removed(group: Group) -> None:
    process = start(group, "import time; print('in', flush=True); time.sleep(60)")
    assert process.stdout is not None
    process.stdout.readline()
    assert group.remove(patience=0.01) is False
    process.kill()
    process.communicate()


def test_names_are_unique() -> None:
    assert len({names.unique_name() for _ in range(100)}) == 100


def test_sweep_takes_only_what_dead_fronts_left(group: Group) -> None:
    code = (
        "from kernel_runtime.sandbox import cgroups, hierarchy\nfrom kernel_runtime.domain.limits import Limits\n"
        "made = cgroups.create(hierarchy.detect(), Limits())\n"
        "print(made.name, all(directory.exists() for directory in made.directories))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name, existed = done.stdout.split()
    assert existed == "True"
    # A front that another test starts now sweeps as well: what counts is that it is gone.
    assert group.name not in cgroups.sweep(HERE)
    assert not any(directory.exists() for directory in Group(name, HERE.homes).directories)
    assert all(directory.exists() for directory in group.directories)


def test_other_names_are_never_swept() -> None:
    for name in ("kernel-runtime-1-2", "kernel-runtime-x-y-z-0", "kernel-runtime-1-999999-5-0"):
        assert not names.orphaned(name)
    assert not names.orphaned(names.unique_name())


# --- trees made up of files -----------------------------------------------------------------

V1_FILES = {
    "memory": {
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.memsw.limit_in_bytes": "9223372036854771712",
        "memory.usage_in_bytes": "5000",
        "memory.max_usage_in_bytes": "9000",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2",
    },
    "pids": {"pids.max": "max", "pids.current": "3", "pids.events": "max 4"},
    "cpu,cpuacct": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000", "cpuacct.usage": "1500000000"},
}
V2_FILES = {
    "memory": {
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.oom.group": "0",
        "memory.current": "5000",
        "memory.peak": "9000",
        "memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 1",
    },
    "pids": {"pids.max": "max", "pids.current": "3", "pids.events": "max 4"},
    "cpu": {"cpu.max": "max 100000"},
}


class FakeKernel:
    """Fills new groups with files as the kernel does, and lets groups go despite them."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.top = tmp_path / "cgroup"
        self.proc = tmp_path / "proc"
        self.proc.mkdir()
        self.mounts: list[str] = []
        self.memberships: list[str] = []
        self.files_for = lambda directory: {"cgroup.procs": ""}
        monkeypatch.setattr(cgroup_files, "make", self._make)
        monkeypatch.setattr(cgroup_files, "drop", shutil.rmtree)

    def _make(self, directory: Path) -> None:
        directory.mkdir()
        for name, text in self.files_for(directory).items():
            (directory / name).write_text(text)

    def tree(self, name: str, fstype: str, options: str, own: str, root: str = "/") -> Path:
        """Mount a tree in which this process is in group ``own``."""
        point = self.top / name
        number = 0 if fstype == "cgroup2" else len(self.mounts) + 1
        self.mounts.append(f"30 25 0:27 {root} {point} rw,relatime shared:9 - {fstype} {fstype} rw,{options}")
        self.memberships.append(f"{number}:{'' if fstype == 'cgroup2' else options}:{own}")
        directory = point / Path(own).relative_to(root) if Path(own).is_relative_to(root) else point
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def detect(self) -> World:
        (self.proc / "mountinfo").write_text(
            "20 1 0:5 / /proc rw - proc proc rw\n" + "\n".join(self.mounts) + "\n"
        )
        (self.proc / "cgroup").write_text("\n".join(self.memberships) + "\n")
        return hierarchy.detect(self.proc)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    return FakeKernel(tmp_path, monkeypatch)


@pytest.fixture
def v1(fake: FakeKernel) -> FakeKernel:
    def files(directory: Path) -> dict[str, str]:
        tree = directory.relative_to(fake.top).parts[0]
        return V1_FILES.get(tree, {}) | {"cgroup.procs": ""}

    fake.files_for = files
    for name in V1_FILES:
        fake.tree(name, "cgroup", name, "/docker/abc")
    fake.tree("systemd", "cgroup", "name=systemd", "/docker/abc")
    return fake


def v2_tree(fake: FakeKernel, own: str) -> Path:
    """A version 2 tree where a child has the files that its parent hands on."""
    top = fake.top / "unified"

    def files(directory: Path) -> dict[str, str]:
        handed_on = directory.parent / "cgroup.subtree_control"
        names = handed_on.read_text().replace("+", " ").split() if handed_on.exists() else []
        made = {name: text for controller in names for name, text in V2_FILES[controller].items()}
        return made | {
            "cgroup.procs": "",
            "cgroup.kill": "",
            "cgroup.controllers": " ".join(names),
            "cgroup.subtree_control": "",
            "cpu.stat": "usage_usec 1500000",
        }

    top.mkdir(parents=True)
    (top / "cgroup.controllers").write_text("cpu io memory pids")
    (top / "cgroup.subtree_control").write_text("memory pids cpu")
    fake.files_for = files
    return fake.tree("unified", "cgroup2", "nsdelegate", own)


def test_v1_homes_are_below_our_own_groups(v1: FakeKernel) -> None:
    world = v1.detect()
    assert world.kind == "v1"
    assert world.limits == {"memory", "pids", "cpu"}
    assert world.homes["memory"].directory == v1.top / "memory/docker/abc"
    assert (
        world.homes["cpu"].directory == world.homes["cpuacct"].directory == v1.top / "cpu,cpuacct/docker/abc"
    )


def test_v1_limits_and_usage(v1: FakeKernel) -> None:
    group = cgroups.create(v1.detect(), Limits(memory=MIB, pids=9), cpus=0.5)
    assert group is not None
    by_tree = {directory.relative_to(v1.top).parts[0]: directory for directory in group.directories}
    memory, pids, cpu = (by_tree[name] for name in V1_FILES)
    assert (memory / "memory.limit_in_bytes").read_text().startswith(str(MIB))
    assert (memory / "memory.memsw.limit_in_bytes").read_text().startswith(str(MIB))
    assert (pids / "pids.max").read_text().startswith("9")
    assert (cpu / "cpu.cfs_quota_us").read_text() == "50000"
    group.limit_cpu(None)
    assert (cpu / "cpu.cfs_quota_us").read_text().startswith("-1")
    usage = group.usage()
    assert (usage.memory, usage.peak, usage.cpu, usage.pids) == (5000, 9000, 1.5, 3)
    assert (usage.oom_kills, usage.pids_denied) == (2, 4)
    assert group.remove()


def test_a_kernel_without_swap_accounting_is_no_error(v1: FakeKernel) -> None:
    memory = V1_FILES["memory"]
    bare = {name: text for name, text in memory.items() if "memsw" not in name}
    v1.files_for = lambda directory: bare | V1_FILES["pids"] | V1_FILES["cpu,cpuacct"] | {"cgroup.procs": ""}
    assert cgroups.create(v1.detect(), Limits(memory=MIB)) is not None


def test_a_container_sees_its_group_as_the_mount(fake: FakeKernel) -> None:
    fake.files_for = lambda directory: V1_FILES["memory"]
    fake.tree("memory", "cgroup", "memory", "/docker/abc", root="/docker/abc")
    assert fake.detect().homes["memory"].directory == fake.top / "memory"


@pytest.mark.parametrize("own", ["/elsewhere", "/../other", "/docker/abc/../.."])
def test_groups_outside_the_mount_are_not_touched(fake: FakeKernel, own: str) -> None:
    fake.tree("memory", "cgroup", "memory", own, root="/docker/abc")
    assert fake.detect().kind == "none"


def test_v2_takes_the_nearest_ancestor_that_is_prepared(fake: FakeKernel) -> None:
    own = v2_tree(fake, "/app.slice/app.scope")
    (own.parent / "cgroup.subtree_control").write_text("memory pids")
    world = fake.detect()
    assert world.kind == "v2"
    assert world.homes["memory"].directory == own.parent
    assert world.limits == {"memory", "pids"}


def test_v2_uses_its_own_group_when_it_may_hand_on(fake: FakeKernel) -> None:
    own = v2_tree(fake, "/app.slice/app.scope")
    (own / "cgroup.subtree_control").write_text("memory pids cpu")
    assert {home.directory for home in fake.detect().homes.values()} == {own}


def test_v2_never_leaves_a_memory_limit_behind(fake: FakeKernel) -> None:
    own = v2_tree(fake, "/app.slice/app.scope")
    (own / "memory.max").write_text("1073741824")
    world = fake.detect()
    assert world.limits == frozenset()
    assert world.homes["kill"].directory == own


def test_v2_limits_and_usage(fake: FakeKernel) -> None:
    v2_tree(fake, "/app.scope")
    group = cgroups.create(fake.detect(), Limits(memory=MIB, pids=9), cpus=1.5)
    assert group is not None
    (directory,) = group.directories
    assert directory.parent == fake.top / "unified"
    assert (directory / "memory.max").read_text().startswith(str(MIB))
    assert (directory / "memory.swap.max").read_text().startswith("0")
    assert (directory / "memory.oom.group").read_text() == "0"  # pid 1 survives its live branch
    assert (directory / "pids.max").read_text().startswith("9")
    assert (directory / "cpu.max").read_text() == "150000 100000"
    group.limit_cpu(None)
    assert (directory / "cpu.max").read_text().startswith("max")
    usage = group.usage()
    assert (usage.memory, usage.peak, usage.cpu, usage.pids) == (5000, 9000, 1.5, 3)
    assert (usage.oom_kills, usage.pids_denied) == (2, 4)
    group.kill()
    assert (directory / "cgroup.kill").read_text() == "1"


def test_hybrid_takes_limits_from_v1_and_leaves_a_v2_group_that_only_kills(v1: FakeKernel) -> None:
    plain = v1.files_for
    unified = v1.top / "unified"
    v1.files_for = lambda d: {"cgroup.kill": ""} if d.is_relative_to(unified) else plain(d)
    v1.tree("unified", "cgroup2", "nsdelegate", "/session")
    world = v1.detect()
    assert world.kind == "v1"
    assert world.homes["memory"].version == 1
    assert "kill" not in world.homes


def test_read_only_trees_count_as_none(fake: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.tree("memory", "cgroup", "memory", "/docker/abc")

    def read_only(directory: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cgroup_files, "make", read_only)
    world = fake.detect()
    assert world.kind == "none"
    assert cgroups.create(world, Limits()) is None


def test_no_proc_counts_as_none(tmp_path: Path) -> None:
    assert hierarchy.detect(tmp_path).kind == "none"


def test_a_limit_that_cannot_be_set_leaves_nothing_behind(v1: FakeKernel) -> None:
    world = v1.detect()
    v1.files_for = lambda directory: {"cgroup.procs": ""}
    with pytest.raises(WallUnavailable, match="cgroup"):
        cgroups.create(world, Limits(memory=MIB), name="kernel-runtime-half")
    assert not list(v1.top.rglob("kernel-runtime-*"))
