"""Notebook files: every broken one has its message; nothing is half-written."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.jupyter import document


def text_of(**metadata: object) -> str:
    return str(nbformat.writes(nbformat.v4.new_notebook(metadata=metadata)))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "is empty"),
        ('{"cells": [', "broken JSON at line 1, column"),
        ("[]", "not a notebook: it has no 'nbformat'"),
        ('{"nbformat": 4}', "not a valid notebook"),
        (
            '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}',
            "not a valid",
        ),
        ('{"nbformat": 99, "nbformat_minor": 0, "metadata": {}, "cells": []}', "not a valid notebook"),
        ("[" * 100_000, "nested too deep|broken JSON"),
    ],
)
def test_broken_notebooks(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "nb.ipynb"
    path.write_text(text)
    with pytest.raises(Invalid, match=hint):
        document.read_notebook(path)


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "nb.ipynb").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Invalid, match="not UTF-8"):
        document.read_notebook(tmp_path / "nb.ipynb")


def test_missing_and_directory(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="does not exist"):
        document.read_notebook(tmp_path / "none.ipynb")
    with pytest.raises(Invalid, match="is a directory"):
        document.read_notebook(tmp_path)


def test_other_languages(tmp_path: Path) -> None:
    path = tmp_path / "nb.ipynb"
    path.write_text(text_of(kernelspec={"name": "ir", "language": "R", "display_name": "R"}))
    with pytest.raises(Invalid, match="is written in R"):
        document.read_notebook(path)
    path.write_text(
        text_of(language_info={"name": "python"}, kernelspec={"name": "gone", "display_name": "x"})
    )
    document.read_notebook(path)


def test_old_formats_are_converted(tmp_path: Path) -> None:
    old = nbformat.convert(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), 3)
    (tmp_path / "nb.ipynb").write_text(nbformat.writes(old, version=3))
    assert document.read_notebook(tmp_path / "nb.ipynb").cells[0].source == "1"


def test_written_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    document.write_file(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link", "out"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Invalid, match="No space left on device; free some space"):
        document.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_device_stays_a_device() -> None:
    document.write_file(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(Invalid, match="No space left"):
        document.write_file(Path("/dev/full"), b"x")


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="its directory does not exist"):
        document.check_writable(tmp_path / "no" / "out.ipynb")
    with pytest.raises(Invalid, match="is a directory"):
        document.check_writable(tmp_path)
    document.check_writable(tmp_path / "out.ipynb")
    assert os.listdir(tmp_path) == []
