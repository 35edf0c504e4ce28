"""A state of its own for each test, and a clock that tests move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """With its master key in a file: a desktop's keyring is none of a test's business."""
    monkeypatch.delenv("KERNEL_RUNTIME_MASTER_KEY", raising=False)
    monkeypatch.setattr("kernel_runtime.broker.master._keyring", lambda: None)
    with State(tmp_path / "state", patience=0.0) as opened:
        yield opened
