"""A host that refuses user namespaces: what is refused there, and what the second rung holds.

Everything runs in a program of its own (``rung_world.py``), inside a user namespace in which no
other can be made.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.sandbox import landlock

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("rung_world.py")
ROOT = Path(__file__).parents[2]
SCOPES = landlock.abi() >= landlock.SCOPES_SINCE
pytestmark = pytest.mark.skipif(not SCOPES, reason="needs Landlock ABI 6")


@pytest.fixture(scope="module", params=["user", pytest.param("root", marks=pytest.mark.slow)])
def world(request: pytest.FixtureRequest) -> str:
    if request.param == "root" and os.getuid() != 0:
        pytest.skip("needs root")
    return str(request.param)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What was found out about this world is kept where nobody else looks."""
    cache = tmp_path_factory.mktemp("cache")
    cache.chmod(0o777)
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), "KERNEL_RUNTIME_WARM": "0"}


def command(world: str, task: str, directory: Path, more: dict[str, Any] | None = None) -> list[str]:
    return [sys.executable, str(PROGRAM), world, task, str(directory), json.dumps(more or {})]


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """The notebook's directory, where every user can reach it."""
    with tempfile.TemporaryDirectory(prefix="kernel-runtime-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "data.txt").write_text("from the host")
        yield path


@pytest.fixture(scope="module")
def tell(world: str, data: Path, environment: dict[str, str]) -> Any:
    """Runs a task in the world; what it printed."""

    def run(task: str, more: dict[str, Any] | None = None) -> Any:
        done = subprocess.run(
            command(world, task, data, more),
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_levels_that_demand_every_wall_refuse_with_the_fix(tell: Any) -> None:
    said = tell("refusal")
    for level in ("strict", "moderate"):
        assert "cannot build the wall 'user'" in said[level]
        assert "max_user_namespaces" in said[level]
        assert "--rung landlock" in said[level]
    assert said["permissive"] == "it started"


@pytest.fixture(scope="module")
def worked(tell: Any) -> dict[str, Any]:
    found: dict[str, Any] = tell("work")
    return found


def test_ordinary_work_goes_on(worked: dict[str, Any]) -> None:
    expected = {
        "read": "'from the host'",
        "pandas": "3",
        "program": "b'from the host'",
        "shell": "from a shell\n",
        "scratch": "True",
        "threads": "[1]",
        "loop": "'slept'",
        "interrupt": "KeyboardInterrupt",
        "afterwards": "42",
        "memory": "MemoryError",
    }
    assert {name: worked[name] for name in expected} == expected
    assert "exited with status 3" in worked["exit"]
    assert worked["left"] == [], "no scratch directory is left"
    assert "Reason.DISK" in worked["disk"]
    assert worked["after disk"] == "0"


def test_strict_has_no_directory_and_no_programs(worked: dict[str, Any]) -> None:
    assert worked["strict read"].startswith("PermissionError")
    assert "subprocess" in worked["strict program"]


def test_the_record_says_what_stands_and_what_does_not(worked: dict[str, Any], world: str) -> None:
    info = worked["info"]
    assert (info["rung"], info["level"]) == ("landlock", "moderate")
    assert {"rlimits", "landlock", "capabilities", "seccomp"} <= set(info["walls"])
    assert {"pid", "net", "ipc", "uts", "mount"} <= set(info["missing"])
    assert ("user" in info["walls"]) is (world == "root"), "root's guests are another user"
    assert set(worked["permissive"]) >= {"landlock", "seccomp"}
    assert set(worked["host"]["namespaces"]) == {"zygote"}
    assert worked["host"]["landlock"] == {}


def test_a_tree_of_processes_ends_as_a_whole(tell: Any) -> None:
    left = tell("ends")
    assert left.pop("bomb")[0] >= 20, "there was something to end"
    assert all(pids == [] for pids in left.values()), left


def test_nothing_outlives_a_killed_front(world: str, data: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen(command(world, "hang", data), env=environment, stdout=subprocess.PIPE) as front:
        assert front.stdout is not None
        pids = json.loads(front.stdout.readline())
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        front.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What an attacker would look for: a secret, and services of the host."""
    outside = tmp_path_factory.mktemp("outside")
    secret = outside / "secret"
    secret.write_text("the secret")
    secret.chmod(0o600)
    listeners = [socket.socket(), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    listeners[0].bind(("127.0.0.1", 0))
    listeners[1].bind(str(outside / "service"))
    listeners[2].bind(f"\0kernel-runtime-{os.getpid()}")
    for listener in listeners:
        listener.listen()
        threading.Thread(target=_greet, args=(listener,), daemon=True).start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(str(outside / "datagrams"))
        yield {
            "secret": str(secret),
            "home": str(outside),
            "port": listeners[0].getsockname()[1],
            "path": str(outside / "service"),
            "abstract": f"\0kernel-runtime-{os.getpid()}",
            "datagrams": str(outside / "datagrams"),
        }
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _greet(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.sendall(b"hello")


def test_every_attack_is_held_and_succeeds_without_the_walls(tell: Any, places: dict[str, Any]) -> None:
    found = tell("attacks", places)
    for attack, said in found["walled"].items():
        assert said.startswith(("PermissionError", "-1")), f"{attack}: {said}"
        opened = found["open"][attack]
        assert not opened.startswith(("PermissionError", "OSError", "-1")), f"{attack}, unwalled: {opened}"
    assert found["parent"]["kill"].startswith("PermissionError"), "the first process is out of reach"
    assert "the secret" in found["open"]["foreign file"]
    for service in ("network", "socket file", "abstract socket"):
        assert found["open"][service] == "'hello'"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: only its guests could own the kernel's settings")
def test_the_settings_of_the_kernel_are_held_even_where_the_guest_owns_them(tell: Any) -> None:
    """In the world ``user`` the host's root is the only user, and Landlock the only wall around files."""
    paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/irq/default_smp_affinity"]
    paths = [path for path in paths if Path(path).exists()]
    assert tell("settings", {"paths": paths}) == {"walled": [], "open": paths}
