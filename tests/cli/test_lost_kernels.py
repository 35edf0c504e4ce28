"""Runs whose kernel does not start, dies, or is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbformat
import psutil
import pytest

from kernel_runtime.domain.verdict import Reason, Verdict
from kernel_runtime.jupyter import notebook as runner
from tests.journeys.processes import eventually, living

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


def test_a_kernel_that_does_not_start(
    invoke: Callable[..., Result], notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook("1")
    monkeypatch.setattr(runner, "_KERNEL_MODULE", "kernel_runtime.no_such_module")
    result = invoke("run", "nb.ipynb")
    assert result.exit_code == 5, result.output
    assert "No module named kernel_runtime.no_such_module" in result.output
    assert "Error: RuntimeError: Kernel died before replying" in result.output


def started(notebook: Callable[..., Path], tmp_path: Path) -> subprocess.Popen[str]:
    """A run that sleeps in its second cell."""
    notebook("print('before')", "import time\nprint('sleeping', flush=True)\ntime.sleep(100_000)")
    running = subprocess.Popen(
        [sys.executable, "-m", "kernel_runtime", "run", "nb.ipynb", "--log-output"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stderr is not None
    seen = ""
    while "sleeping\n" not in seen:
        line = running.stderr.readline()
        assert line, seen
        seen += line
    return running


def test_a_kernel_that_is_killed(notebook: Callable[..., Path], tmp_path: Path) -> None:
    running = started(notebook, tmp_path)
    (kernel,) = [p for p in psutil.Process(running.pid).children() if runner._KERNEL_MODULE in p.cmdline()]
    kernel.kill()
    _, errors = running.communicate(timeout=90)
    assert running.returncode == 5, errors
    assert "cell 2 `import time`: DeadKernelError" in errors
    assert nbformat.read(tmp_path / "nb.executed.ipynb", 4).cells[0].outputs[0].text == "before\n"


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_told_to_stop(notebook: Callable[..., Path], tmp_path: Path, signals: list[int]) -> None:
    running = started(notebook, tmp_path)
    everybody = psutil.Process(running.pid).children(recursive=True)
    for number in signals:
        running.send_signal(number)
    _, errors = running.communicate(timeout=90)
    assert running.returncode == 130, errors
    assert "Traceback (most recent call last):\n  File" not in errors
    assert nbformat.read(tmp_path / "nb.executed.ipynb", 4).cells[0].outputs[0].text == "before\n"
    assert eventually(lambda: not living(everybody), 60), living(everybody)


def failure(**fields: Any) -> runner.Failure:
    return runner.Failure(**({"cell": 0, "line": "", "ename": "E", "evalue": "", "traceback": []} | fields))


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "error"),
        ({"ename": "WallUnavailable"}, "refused"),
        ({"ename": "MemoryError"}, "limit"),
        ({"cell": None}, "lost"),
        ({"verdict": Verdict(reason=Reason.PIDS)}, "limit"),
        ({"verdict": Verdict(reason=Reason.SECCOMP)}, "refused"),
        ({"verdict": Verdict(reason=Reason.EXIT)}, "lost"),
    ],
)
def test_statuses(fields: dict[str, Any], status: str) -> None:
    assert runner.status_of(failure(**fields)) == status


def test_a_verdict_that_is_none() -> None:
    assert runner.read_verdict({}) is None
    assert runner.read_verdict({"kernel_runtime": {"verdict": {"reason": "whim"}}}) is None
    found = runner.read_verdict({"kernel_runtime": {"verdict": {"reason": "memory", "limit": 5}}})
    assert found == Verdict(reason=Reason.MEMORY, limit=5)


def test_no_orphans(notebook: Callable[..., Path], tmp_path: Path) -> None:
    running = started(notebook, tmp_path)
    everybody = psutil.Process(running.pid).children(recursive=True)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert eventually(lambda: not living(everybody), 60), living(everybody)
