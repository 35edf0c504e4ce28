"""What is left of a meter when its processes take their time to leave: nothing, in the end."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.limits import Limits
from kernel_runtime.workers import meter

if TYPE_CHECKING:
    from pathlib import Path


def _with_a_process(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Path], subprocess.Popen[bytes]]:
    """A closed meter in whose group a process lives on, which nobody waits for any more."""
    monkeypatch.setattr(meter, "PATIENCE_SECONDS", 0.05)
    closed = meter.Meter(Limits())
    if closed._group is None:
        pytest.skip("needs control groups")
    directories = closed._group.directories
    process = subprocess.Popen(["sleep", "60"])
    for directory in directories:
        (directory / "cgroup.procs").write_text(str(process.pid))
    closed.close()
    for thread in threading.enumerate():
        if thread.name == "cgroup-removal":
            thread.join()
    return directories, process


def test_a_group_that_was_not_empty_in_time_is_removed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    directories, process = _with_a_process(monkeypatch)
    assert all(directory.exists() for directory in directories)
    meter.Meter(Limits()).close()
    assert all(directory.exists() for directory in directories)  # it is still in use
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(directory.exists() for directory in directories) and time.monotonic() < deadline:
        meter.Meter(Limits()).close()
    assert not any(directory.exists() for directory in directories)
    assert meter._left == []
