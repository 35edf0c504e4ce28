"""Why a guest ended: every cause in every world of control groups that this machine can make."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.workers import meter
from tests.workers.causes import CAUSES, observe

if TYPE_CHECKING:
    from collections.abc import Callable

#: What may stand behind the amounts: a world that cannot count says so in ``partial``.
EXACT = {"v1", "v2"}


@functools.cache
def _as_ordinary_user(directory: str) -> dict[str, dict[str, Any]]:
    """The whole matrix by an ordinary user, who may write to no control group."""
    program = str(Path(__file__).with_name("causes.py"))
    command = [sys.executable, program, directory, "none"]
    if os.getuid() == 0:
        if shutil.which("unshare") is None:
            pytest.skip("needs an ordinary user")
        command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


#: Each cause takes its time once more in these.
WITHOUT = [pytest.param(world, marks=pytest.mark.slow) for world in ("none", "none, ordinary user")]


@pytest.fixture(params=["v1", "v2", *WITHOUT])
def look(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, directory: Path
) -> Callable[[str], dict[str, Any]]:
    """Runs a cause in one world."""
    world = str(request.param)
    if world == "none, ordinary user":
        return lambda cause: _as_ordinary_user(str(directory))[cause]
    if world == "none":
        monkeypatch.setattr(meter, "world", lambda: meter.hierarchy.World({}))
    else:
        memory = meter.world().homes.get("memory")
        if memory is None or memory.version != int(world[1:]):
            where = "nowhere" if memory is None else f"in version {memory.version}"
            pytest.skip(f"needs cgroup {world} with the memory controller, which is {where} here")
    return lambda cause: observe(cause, str(directory)) | {"exact": world in EXACT}


@pytest.mark.parametrize("cause", CAUSES)
def test_cause(look: Callable[[str], dict[str, Any]], cause: str) -> None:
    expected = CAUSES[cause][2]
    seen = look(cause)
    if cause in ("pids", "pids, threads") and seen["reason"] is None:
        # The host's root is exempt from RLIMIT_NPROC, under whatever uid it appears in a namespace.
        assert os.getuid() == 0
        assert not seen.get("exact")
        return
    assert seen["reason"] == expected["reason"], seen
    for name in ("limit", "error"):
        if name in expected:
            assert seen[name] == expected[name], seen
    if expected.get("survived") is not None:
        assert seen["survived"] is expected["survived"], seen
    assert expected.get("words", "") in seen["words"]
    if expected["reason"] is not None:
        assert seen["evidence"]
    if "error" in expected:
        assert "(limit " in seen["hint"], seen
    assert seen["next"] == "42"


def test_what_cannot_be_held_exactly_is_named(look: Callable[[str], dict[str, Any]]) -> None:
    seen = look("nothing")
    assert seen["partial"] == ([] if seen.get("exact") else ["memory", "pids"])


@pytest.mark.parametrize("look", WITHOUT, indirect=True)
def test_python_hears_of_it_before_the_limit_ends_it(look: Callable[[str], dict[str, Any]]) -> None:
    """The host's sum counts what is shared with the zygote as well: a cell's part is less than the limit."""
    seen = look("memory, private")
    assert (seen["survived"], seen["error"], seen["next"]) == (True, "MemoryError", "42"), seen
