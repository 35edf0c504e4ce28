"""Notebooks through nbclient, papermill and nbval: what plain ipykernel shows, ours shows."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat.v4 import new_code_cell, new_notebook

from kernel_runtime.jupyter.page_hosts import QUIET
from kernel_runtime.jupyter.page_widgets import clean_output
from tests.journeys.kernels import OURS, PLAIN
from tests.journeys.notebooks import EVERY_OUTPUT, every_output, outputs_by_source, widget_states
from tests.jupyter.kernels import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from nbformat import NotebookNode


def execute(notebook: NotebookNode, kernel: str, place: Path, **options: Any) -> NotebookNode:
    client = NotebookClient(
        notebook,
        kernel_name=kernel,
        timeout=PATIENCE,
        resources={"metadata": {"path": str(place)}},
        **options,
    )
    return client.execute()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NotebookNode]:
    """The notebook with every output, executed by both kernels."""
    place = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTEST_CURRENT_TEST")  # ipykernel does not capture descriptors when it sees it
        return {name: execute(every_output(name), name, place) for name in (OURS, PLAIN)}


SOURCES = [entry if isinstance(entry, str) else entry[0] for entry in EVERY_OUTPUT]


#: What the page's rules write anew: styles of tables, Markdown, SVG, metadata and mime types of one's own.
CHANGED_FOR_THE_PAGE = ("DataFrame", "arkdown", "SVG(", "_repr_mimebundle_", "metadata={")


@pytest.mark.parametrize("source", SOURCES, ids=[source.replace("\n", "; ")[:40] for source in SOURCES])
def test_every_output_is_plain_ipykernels(both, source):
    ours, plain = (outputs_by_source(both[name])[source] for name in (OURS, PLAIN))
    if ours != plain:
        assert any(mark in source for mark in CHANGED_FOR_THE_PAGE), (ours, plain)
        assert ours == [plain[0], [clean_output(dict(each), QUIET) for each in plain[1]]]


def test_the_widgets_state_is_saved_as_with_ipykernel(both):
    ours, plain = (widget_states(both[name]) for name in (OURS, PLAIN))
    assert len(ours) >= 12
    assert ours == plain


def test_the_language_is_written_as_with_ipykernel(both):
    ours, plain = (dict(both[name].metadata["language_info"]) for name in (OURS, PLAIN))
    assert ours == plain


def test_every_kind_of_output_was_there(both):
    outputs = [output for cell in both[OURS].cells for output in cell.get("outputs", [])]
    assert {output["output_type"] for output in outputs} == {
        "stream",
        "display_data",
        "execute_result",
        "error",
    }
    mimes = {mime for output in outputs for mime in output.get("data", {})}
    assert mimes >= {
        "text/plain", "text/html", "text/latex", "application/json", "image/png", "image/svg+xml",
        "application/vnd.jupyter.widget-view+json",
    }  # fmt: skip


# -- nbclient --------------------------------------------------------------------------------


def test_a_failing_cell_ends_the_run_and_is_written(tmp_path):
    notebook = new_notebook(cells=[new_code_cell("x = 1"), new_code_cell("1/0"), new_code_cell("print(x)")])
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(notebook, OURS, tmp_path)
    assert notebook.cells[1].outputs[0]["ename"] == "ZeroDivisionError"
    assert notebook.cells[2].outputs == []


def test_a_guest_that_dies_is_a_cell_error_and_no_dead_kernel(tmp_path):
    notebook = new_notebook(
        cells=[new_code_cell("import os; os.kill(os.getpid(), 9)"), new_code_cell("print('on')")]
    )
    execute(notebook, OURS, tmp_path, allow_errors=True)
    assert notebook.cells[0].outputs[0]["ename"] == "GuestKilled"
    assert notebook.cells[1].outputs[0]["text"] == "on\n"


def test_a_cell_over_its_time_is_interrupted(tmp_path):
    notebook = new_notebook(cells=[new_code_cell("while True: pass"), new_code_cell("print('on')")])

    def seconds(cell):
        return 1 if "while" in cell.source else PATIENCE

    execute(notebook, OURS, tmp_path, timeout_func=seconds, interrupt_on_timeout=True, allow_errors=True)
    assert notebook.cells[0].outputs[0]["ename"] == "KeyboardInterrupt"
    assert notebook.cells[1].outputs[0]["text"] == "on\n"
    with pytest.raises(CellTimeoutError):
        NotebookClient(notebook, kernel_name=OURS, timeout=1).execute()


def test_the_notebooks_directory_is_read_and_never_written(tmp_path):
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    code = "print(open('data.csv').read()); open('new.txt', 'w').write('inside'); open('data.csv', 'w').write('x')"
    notebook = new_notebook(
        cells=[new_code_cell(code), new_code_cell("open('new.txt').read(), open('data.csv').read()")]
    )
    execute(notebook, OURS, tmp_path)
    assert notebook.cells[0].outputs[0]["text"].startswith("a,b\n1,2\n")
    assert notebook.cells[1].outputs[0]["data"]["text/plain"] == "('inside', 'x')"
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]
    assert (tmp_path / "data.csv").read_text() == "a,b\n1,2\n"


# -- other runners ---------------------------------------------------------------------------


def command(place: Path, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A notebook file with a parameters cell."""
    cells = [
        new_code_cell("who = 'nobody'; times = 1", metadata={"tags": ["parameters"]}),
        new_code_cell("print(f'hello {who}\\n' * times, end='')"),
        new_code_cell("import os\nos.path.basename(os.getcwd()), 6 * 7"),
    ]
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": OURS, "display_name": OURS, "language": "python"}
    path = tmp_path / "in.ipynb"
    nbformat.write(notebook, path)
    return path


def test_papermill_runs_it_by_the_kernelspec_alone(saved):
    done = command(
        saved.parent,
        "papermill",
        "in.ipynb",
        "out.ipynb",
        "-p",
        "who",
        "world",
        "-p",
        "times",
        "2",
        "--log-output",
    )
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(saved.with_name("out.ipynb"), as_version=4)
    assert executed.cells[1].metadata["tags"] == ["injected-parameters"]
    assert executed.cells[2].outputs[0]["text"] == "hello world\nhello world\n"


def test_papermill_reports_a_failing_cell(tmp_path, saved):
    done = command(tmp_path, "papermill", "in.ipynb", "out.ipynb", "-p", "times", "os")
    assert done.returncode != 0
    assert "PapermillExecutionError" in done.stderr
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert any(o["output_type"] == "error" for cell in executed.cells for o in cell.get("outputs", []))


@pytest.mark.slow
def test_nbval_accepts_what_it_recorded_and_notices_a_change(saved):
    notebook = execute(nbformat.read(saved, as_version=4), OURS, saved.parent)
    nbformat.write(notebook, saved)
    options = ("-p", "no:cacheprovider", "-q", "-c", "/dev/null", "--rootdir", ".")
    done = command(saved.parent, "pytest", "--nbval", *options, "in.ipynb")
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
    notebook.cells[2].outputs[0]["data"]["text/plain"] = "('elsewhere', 43)"
    nbformat.write(notebook, saved)
    done = command(saved.parent, "pytest", "--nbval", *options, "in.ipynb")
    assert "1 failed, 2 passed" in done.stdout


@pytest.mark.slow
def test_jupyter_execute_runs_it(saved):
    code = "from nbclient.cli import NbClientApp; NbClientApp.launch_instance()"
    arguments = [sys.executable, "-c", code, "in.ipynb", "--output=out.ipynb"]
    done = subprocess.run(arguments, cwd=saved.parent, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(saved.with_name("out.ipynb"), as_version=4)
    assert executed.cells[1].outputs[0]["text"] == "hello nobody\n"


@pytest.mark.slow
def test_nbconvert_executes_it(saved):
    done = command(saved.parent, "nbconvert", "--execute", "--to", "html", "in.ipynb")
    assert done.returncode == 0, done.stderr
    assert "hello nobody" in saved.with_suffix(".html").read_text()
