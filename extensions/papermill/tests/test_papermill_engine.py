"""The engine, tested with papermill itself: its API and its command line."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

import kernel_runtime


def notebook(path, *sources, kernel="python3", language="python"):
    """Write a notebook whose first cell declares parameters, and that names another kernel."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    spec = {"name": kernel, "display_name": kernel, "language": language}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), path)
    return str(path)


def run(source, target, **options):
    return papermill.execute_notebook(
        source, target, engine_name="kernel_runtime", progress_bar=False, **options
    )


def text_of(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


def test_parameters_reach_the_guest(tmp_path):
    source = notebook(tmp_path / "in.ipynb", "rows = 1", "print('rows', rows)")
    done = run(source, str(tmp_path / "out.ipynb"), parameters={"rows": 7})
    assert text_of(done.cells[-1]) == "rows 7\n"


def test_the_cells_run_behind_walls(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the host's")
    inside = tmp_path / "project"
    inside.mkdir()
    source = notebook(
        inside / "in.ipynb", "x = 1", f"import os; print(os.getpid() < 100, os.path.exists({str(secret)!r}))"
    )
    done = run(source, str(tmp_path / "out.ipynb"), cwd=str(inside))
    assert text_of(done.cells[-1]) == "True False\n"


def test_the_notebook_keeps_its_own_kernelspec(tmp_path):
    source = notebook(tmp_path / "in.ipynb", "x = 1")
    run(source, str(tmp_path / "out.ipynb"))
    assert nbformat.read(tmp_path / "out.ipynb", 4).metadata.kernelspec.name == "python3"


def test_a_limit_ends_the_cell_with_its_reason(tmp_path):
    source = notebook(tmp_path / "in.ipynb", "x = 1", "data = bytearray(2 * 1024**3)", "print('not reached')")
    with pytest.raises(PapermillExecutionError, match=r"[Mm]emory"):
        run(source, str(tmp_path / "out.ipynb"), memory="256M")
    assert "not reached" not in text_of(nbformat.read(tmp_path / "out.ipynb", 4).cells[-1])


def test_with_an_amount_that_is_none_no_cell_runs(tmp_path):
    source = notebook(tmp_path / "in.ipynb", "print('ran')")
    with pytest.raises(PapermillExecutionError, match="memory"):
        run(source, str(tmp_path / "out.ipynb"), memory="plenty")


def test_another_kernel_is_refused(tmp_path):
    source = notebook(tmp_path / "in.ipynb", "x = 1")
    with pytest.raises(kernel_runtime.Invalid, match="leave -k out"):
        run(source, str(tmp_path / "out.ipynb"), kernel_name="python3")


def test_another_language_is_refused(tmp_path):
    source = notebook(tmp_path / "in.ipynb", "x <- 1", kernel="ir", language="R")
    with pytest.raises(kernel_runtime.Invalid, match="written in R"):
        run(source, str(tmp_path / "out.ipynb"))


@pytest.mark.slow
def test_one_flag_on_papermills_command_line(tmp_path):
    source = notebook(tmp_path / "in.ipynb", "rows = 1", "print('rows', rows)")
    target = tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", source, str(target), "-p", "rows", "9"]
    done = subprocess.run(
        [*command, "--engine", "kernel_runtime"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert text_of(nbformat.read(target, 4).cells[-1]) == "rows 9\n"


@pytest.mark.slow
def test_it_may_be_imported_before_papermill():
    code = "import kernel_runtime_papermill as k; print(k.SandboxEngine.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "SandboxEngine\n", done.stderr
