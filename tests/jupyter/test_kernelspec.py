"""Kernelspecs: whole or not at all, found, checked, removed."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from kernel_runtime.domain.errors import Invalid, NotFound
from kernel_runtime.jupyter import kernelspec

if TYPE_CHECKING:
    from pathlib import Path


def test_jupyter_finds_what_was_written(tmp_path: Path) -> None:
    path = kernelspec.write_spec(tmp_path, "boxed", "Boxed", {"memory": "512M", "level": "strict"})
    spec = KernelSpecManager(kernel_dirs=[str(tmp_path)]).get_kernel_spec("boxed")
    assert spec.argv[:4] == [sys.executable, "-P", "-m", kernelspec.MODULE]
    assert spec.argv[-4:] == ["--memory", "512M", "--level", "strict"]
    assert (spec.interrupt_mode, spec.language, spec.display_name) == ("message", "python", "Boxed")
    assert {file.name for file in path.iterdir()} == {"kernel.json", *kernelspec.LOGOS}
    assert os.listdir(tmp_path) == ["boxed"]


def test_installing_again_replaces_in_one_step(tmp_path: Path) -> None:
    kernelspec.write_spec(tmp_path, display_name="one")
    (tmp_path / kernelspec.NAME / "left.txt").write_text("x")
    kernelspec.write_spec(tmp_path, display_name="two")
    assert json.loads((tmp_path / kernelspec.NAME / "kernel.json").read_text())["display_name"] == "two"
    assert not (tmp_path / kernelspec.NAME / "left.txt").exists()
    assert os.listdir(tmp_path) == [kernelspec.NAME]


@pytest.mark.parametrize(
    ("name", "amounts"), [("no/slash", {}), ("", {}), ("x", {"memory": "much"}), ("x", {"memroy": "1G"})]
)
def test_a_wrong_wish_writes_nothing(tmp_path: Path, name: str, amounts: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        kernelspec.write_spec(tmp_path / "kernels", name, amounts=amounts)
    assert not (tmp_path / "kernels").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match="cannot be written"):
        kernelspec.write_spec(tmp_path / "file" / "kernels")


def test_uninstall_removes_ours_only(tmp_path: Path) -> None:
    kernelspec.write_spec(tmp_path)
    kernelspec.remove_spec(tmp_path)
    assert os.listdir(tmp_path) == []
    with pytest.raises(NotFound):
        kernelspec.remove_spec(tmp_path)
    other = tmp_path / "python3"
    other.mkdir()
    (other / "kernel.json").write_text('{"argv": ["python", "-m", "ipykernel_launcher"]}')
    with pytest.raises(Invalid, match="not a kernel_runtime kernel"):
        kernelspec.remove_spec(tmp_path, "python3")


def test_a_spec_whose_environment_is_gone_says_so(tmp_path: Path) -> None:
    path = kernelspec.write_spec(tmp_path)
    assert kernelspec.check(path).trouble == ""
    spec = json.loads((path / "kernel.json").read_text())
    spec["argv"][0] = str(tmp_path / "gone" / "bin" / "python")
    (path / "kernel.json").write_text(json.dumps(spec))
    (found,) = kernelspec.list_specs([tmp_path])
    assert "environment is gone" in found.trouble


def test_only_one_place_may_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        kernelspec.kernels_dir(user=True, prefix=str(tmp_path))
    assert kernelspec.kernels_dir(prefix=str(tmp_path)) == tmp_path / "share" / "jupyter" / "kernels"
