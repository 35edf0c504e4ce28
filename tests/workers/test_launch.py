"""The first thing that a front does: the process of a zygote."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kernel_runtime.workers.launch import BARE, Launch

if TYPE_CHECKING:
    from pathlib import Path


def test_a_terminals_interrupt_does_not_reach_it_before_it_can_ignore_one(tmp_path: Path) -> None:
    launch = Launch(list(BARE), str(tmp_path))
    try:
        assert os.getpgid(launch.pid) == launch.pid != os.getpgid(0)
    finally:
        launch.end()
