"""The command line as a person uses it: in this process, or as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from click.testing import CliRunner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command in this process, in an empty directory."""
    from kernel_runtime.cli import commands

    monkeypatch.chdir(tmp_path)

    def run(*words: object, **options: Any) -> Result:
        return CliRunner().invoke(
            commands, [str(word) for word in words], prog_name="kernel-runtime", **options
        )

    return run


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python -m kernel_runtime`` in an empty directory."""

    def run(
        *words: object, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kernel_runtime", *map(str, words)],
            cwd=tmp_path,
            env=os.environ | (env or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **({"stdin": subprocess.DEVNULL} if "input" not in options else {}),
            **options,
        )

    return run


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[..., Path]:
    """Write a notebook of code cells; a cell is its source, or (source, tags)."""

    def write(*cells: str | tuple[str, list[str]], name: str = "nb.ipynb", **metadata: Any) -> Path:
        made = []
        for cell in cells:
            source, tags = (cell, []) if isinstance(cell, str) else cell
            made.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags} if tags else {}))
        path = tmp_path / name
        nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=metadata), path)
        return path

    return write
