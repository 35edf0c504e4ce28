"""Children to try walls in: a wall cannot be taken off again, so each attempt gets a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import unmeasured

Child = Callable[..., str]


def run_child(code: str, *arguments: str, cwd: str | None = None) -> str:
    """Run Python code in a fresh interpreter; what it printed, or how it died, with its errors."""
    environment = unmeasured(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, timeout=120, cwd=cwd, env=environment, check=False,
    )  # fmt: skip
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    return done.stdout.strip() if done.returncode == 0 else f"exit {done.returncode}: {done.stderr}"


@pytest.fixture
def child() -> Child:
    return run_child
