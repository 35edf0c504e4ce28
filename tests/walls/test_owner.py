"""Guests whose user is the host's root, under another name: there is no other id to give them.

Such a root is made by ``unshare --user --map-user=1000`` or ``-r``, run by root. The kernel asks for no
capability where /proc belongs to the caller: covers hold it there. Nothing is ever written.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel_runtime.workers.meter import PIDS_NOT_HELD

PROGRAM = Path(__file__).with_name("owner_world.py")
ROOT = Path(__file__).parents[2]
PLACES = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/drop_caches",
    "/proc/sysrq-trigger",
    "/proc/irq/default_smp_affinity",
]
SECRETS = [
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/vmallocinfo",
    "/proc/pagetypeinfo",
    "/proc/kpageflags",
]
WORLDS = {"a number": ("--map-user=1000", "--map-group=1000"), "root": ("--map-root-user",)}


@pytest.fixture(scope="module", params=WORLDS)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What opened in the world, and where."""
    if os.getuid() != 0:
        pytest.skip("needs root: only its user namespaces can have the host's root as their only user")
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux)")
    directory = tmp_path_factory.mktemp("owner")
    present = [[path for path in paths if Path(path).exists()] for paths in (PLACES, SECRETS)]
    done = subprocess.run(
        ["unshare", "--user", *WORLDS[request.param], sys.executable, str(PROGRAM), str(directory),
         *map(json.dumps, present)],
        env={**os.environ, "XDG_CACHE_HOME": str(directory), "PYTHONPATH": str(ROOT), "KERNEL_RUNTIME_WARM": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told | {"present": present}


def test_no_file_of_the_kernel_opens_for_writing(found: dict[str, Any]) -> None:
    walled, (places, _) = found["walled"], found["present"]
    assert places, "there is something to hold"
    assert found["plain"]["written"] == places, "a plain process of that world can"
    assert found["uncovered"]["written"] == places, "so can a guest without the cover"
    assert walled["written"] == []
    assert walled["count"] > 500, "it has looked everywhere"
    assert walled["any"] == []


def test_what_only_root_may_read_is_empty(found: dict[str, Any]) -> None:
    secrets = found["present"][1]
    assert set(found["plain"]["read"]) == set(found["uncovered"]["read"]) == set(secrets) != set()
    assert found["walled"]["read"] == []


def test_device_nodes_of_the_host_keep_their_modes(found: dict[str, Any]) -> None:
    """Tried with the mode that they have."""
    assert found["plain"]["mode"] is True
    assert found["walled"]["mode"] is False


def test_what_a_process_needs_of_its_own_is_writable_and_no_descriptor_leads_below(
    found: dict[str, Any],
) -> None:
    assert found["walled"]["own"] is True
    assert found["walled"]["kept"] == []
    assert found["walled"]["watchers"] == "8", "set below the cover"


def test_every_wall_stands(found: dict[str, Any]) -> None:
    assert found["walled"]["info"]["missing"].keys() <= {"cgroup"}
    assert {"mount", "user", "landlock", "seccomp"} <= set(found["walled"]["info"]["walls"])


def test_processes_that_nothing_counts_are_named(found: dict[str, Any]) -> None:
    assert found["uncounted"]["info"]["partial"]["pids"] == PIDS_NOT_HELD
