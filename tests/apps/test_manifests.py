"""Manifests in files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.apps.manifests import read_manifest
from kernel_runtime.domain.errors import Invalid, NotFound

if TYPE_CHECKING:
    from pathlib import Path

APP = 'id = "a"\npermissions = [{ type = "files", resource = "./data", actions = ["read"] }]\n'
PROJECT = '[project]\nname = "p"\nversion = "1"\n[tool.kernel-runtime]\npermissions = []\n'


def test_paths_are_those_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text(APP)
    for name in (tmp_path / "app.toml", tmp_path):
        asks = read_manifest(name).asks
        assert asks is not None
        assert [ask.scope.target for ask in asks] == [f"{tmp_path}/data"]


def test_a_directory_without_app_toml_has_the_projects(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no app.toml and no pyproject.toml"):
        read_manifest(tmp_path)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    assert read_manifest(tmp_path).id == "p"
    (tmp_path / "app.toml").write_text(APP)
    assert read_manifest(tmp_path).id == "a"


def test_notebooks_and_scripts(tmp_path: Path) -> None:
    notebook = tmp_path / "report.ipynb"
    notebook.write_text(json.dumps({"metadata": {"kernel_runtime": {"permissions": []}}}))
    assert read_manifest(notebook).asks is not None
    (tmp_path / "job.py").write_text("1")
    assert read_manifest(tmp_path / "job.py").asks is None


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_bytes(b'id = "\xff"')
    (tmp_path / "big.toml").write_bytes(b"#" * ((1 << 20) + 1))
    for name, said in (
        ("app.toml", "not UTF-8: byte 6"),
        ("big.toml", "larger than 1 MB"),
        ("none.toml", "No such file"),
        ("data.csv", "has no manifest"),
        ("none.py", "has no manifest"),
    ):
        with pytest.raises(Invalid, match=said):
            read_manifest(tmp_path / name)
