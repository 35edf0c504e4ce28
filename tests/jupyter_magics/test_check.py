"""``%%sandbox --check``: the cell is read before it goes to its guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from IPython.core.error import UsageError

from kernel_runtime.jupyter.showing import SandboxError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Displays
    from IPython.core.interactiveshell import InteractiveShell

CELL = "import os as o\nprint('ran')\nuse = o.system"


def run(shell: InteractiveShell, line: str, cell: str) -> None:
    shell.run_cell_magic("sandbox", line, cell)


def test_show_and_refuse(
    shell: InteractiveShell, displays: Displays, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(shell, "", CELL)
    assert displays.published == []
    run(shell, "--check show", CELL)
    assert "line 3: error: uses os.system" in displays.published[0]["data"]["text/plain"]
    assert capsys.readouterr().out == "ran\nran\n"
    with pytest.raises(SandboxError, match="refuses this cell") as caught:
        run(shell, "--check refuse", CELL)
    assert caught.value.ename == "CheckRefused"
    policy = tmp_path / "own.toml"
    policy.write_text('[check]\nallow = ["os"]\nblock = [{name = "print", severity = "warning"}]')
    run(shell, f"--check refuse --policy {policy}", CELL)
    assert "warning: uses print" in displays.published[-1]["data"]["text/plain"]
    assert capsys.readouterr().out == "ran\n"


def test_bad_options(shell: InteractiveShell, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one of off, show, refuse"):
        run(shell, "--check maybe", "1")
    policy = tmp_path / "bad.toml"
    policy.write_text("[chek]")
    with pytest.raises(UsageError, match="did you mean 'check'"):
        run(shell, f"--policy {policy}", "1")


def test_strict_shows_and_refuses_by_itself(shell: InteractiveShell, displays: Displays) -> None:
    with pytest.raises(SandboxError, match="PolicyError"):
        run(shell, "--name strict --level strict", "import ctypes")
    assert "imports ctypes" in displays.published[0]["data"]["text/plain"]
