"""Whole runs, each as a program of its own: progress, exit codes, what lies there afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import nbformat
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Program = Callable[..., subprocess.CompletedProcess[str]]
    Notebook = Callable[..., Path]


def test_a_notebook(program: Program, notebook: Notebook, tmp_path: Path) -> None:
    notebook(
        ("rows = 1", ["parameters"]),
        "# first\nprint('rows', rows)",
        ("1/0", ["raises-exception"]),
        ("never", ["skip-execution"]),
        "from IPython.display import HTML\nHTML('<b onclick=\"x()\">bold</b>')",
        kernelspec={"name": "does-not-exist", "display_name": "x", "language": "python"},
    )
    done = program("run", "nb.ipynb", "-p", "rows=5", "--html", "--log-output", env={"NO_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == ["✓ [1/6] rows = 1", "✓ [2/6] rows = 5", "rows 5"]
    assert "(raised, as its tag says it may)" in done.stderr
    assert "– [5/6] never (skipped by its tag)" in done.stderr
    assert "\x1b" not in done.stderr
    assert "notebook: nb.executed.ipynb" in done.stdout
    executed = nbformat.read(tmp_path / "nb.executed.ipynb", 4)
    nbformat.validate(executed)
    assert executed.cells[1].metadata.tags == ["injected-parameters"]
    assert executed.cells[2].outputs[0].text == "rows 5\n"
    assert executed.metadata.kernel_runtime.run.status == "ok"
    standing = executed.metadata.kernel_runtime.run.standing
    assert standing.keys() == {"level", "rung", "missing", "partial"}
    assert (standing.level, standing.rung, standing.missing) == ("moderate", "namespaces", {})
    page = (tmp_path / "nb.executed.html").read_text()
    assert "<b>bold</b>" in page
    assert "<script" not in page
    assert "default-src 'none'" in page


DENIED = "from kernel_runtime.sdk import cache\ncache.get('x')"


@pytest.mark.parametrize(
    ("source", "flags", "code", "hint"),
    [
        ("undefined_name", [], 1, "cell 2 `undefined_name`: NameError"),
        ("import os; os._exit(3)", [], 5, "its process exited with status 3"),
        (DENIED, [], 4, "Next: grant it with --allow SCOPE"),
        ("while True: pass", ["--time", "2s"], 3, "it ran longer than its limit of 2 s"),
        ("b = [bytearray(10**6) for _ in range(2000)]", ["--memory", "256M"], 3, "more with --memory"),
        ("open('x', 'wb').write(bytes(50_000_000))", ["--disk", "8M"], 3, "more with --disk"),
    ],
)
def test_a_failing_cell(
    program: Program, notebook: Notebook, tmp_path: Path, source: str, flags: list[str], code: int, hint: str
) -> None:
    notebook("print('before')", source, "print('after')")
    done = program("run", "nb.ipynb", "-o", "out.ipynb", "--json", *flags)
    assert done.returncode == code, done.stderr
    assert hint in done.stderr
    assert "Next: " in done.stderr
    summary = json.loads(done.stdout)
    assert summary["exit_code"] == code
    assert summary["failure"]["cell"] == 1
    assert [cell["status"] for cell in summary["cells"]] == ["ok", "error", "not-run"]
    partial = nbformat.read(tmp_path / "out.ipynb", 4)
    assert partial.cells[0].outputs[0].text == "before\n"
    assert "error" in [output.output_type for output in partial.cells[1].outputs]
    assert partial.cells[2].outputs == []
    assert sorted(os.listdir(tmp_path)) == ["nb.ipynb", "out.ipynb"]


def test_stale_outputs_do_not_survive(program: Program, notebook: Notebook, tmp_path: Path) -> None:
    path = notebook("1/0", "2")
    stale = nbformat.read(path, 4)
    stale.cells[1].outputs = [nbformat.v4.new_output("stream", text="stale")]
    nbformat.write(stale, path)
    assert program("run", "nb.ipynb", "-o", "nb.ipynb", "-q").returncode == 1
    assert nbformat.read(path, 4).cells[1].outputs == []


def test_metadata_tightens(program: Program, notebook: Notebook) -> None:
    notebook("while True: pass", kernel_runtime={"limits": {"wall": "1s", "memory": "64G"}})
    done = program("run", "nb.ipynb")
    assert done.returncode == 3, done.stderr
    assert "note: " in done.stderr


def test_a_full_disk(program: Program, notebook: Notebook) -> None:
    notebook("1")
    done = program("run", "nb.ipynb", "-o", "/dev/full")
    assert done.returncode == 2
    assert "No space left on device; free some space" in done.stderr


def test_html_does_not_eat_the_notebook(program: Program, notebook: Notebook, tmp_path: Path) -> None:
    notebook("1")
    assert program("run", "--html", "nb.ipynb").returncode == 0
    assert program("run", "--html", "page.html", "nb.ipynb").returncode == 0
    assert {"nb.executed.html", "page.html"} <= set(os.listdir(tmp_path))


def test_ctrl_c_keeps_what_there_is(notebook: Notebook, tmp_path: Path) -> None:
    notebook("print('before')", "import time\nprint('sleeping', flush=True)\ntime.sleep(100_000)", "3")
    running = subprocess.Popen(
        [sys.executable, "-m", "kernel_runtime", "run", "nb.ipynb", "--log-output"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    while "sleeping\n" not in running.stderr.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=90)
    assert running.returncode == 130, errors
    executed = nbformat.read(tmp_path / "nb.executed.ipynb", 4)
    assert executed.cells[0].outputs[0].text == "before\n"
    assert executed.cells[1].outputs[-1].ename == "KeyboardInterrupt"


SCRIPT = """
import asyncio, sys
print("args", sys.argv[1:], __name__)
async def answer(): return 42
print(asyncio.run(answer()))
print("err", file=sys.stderr)
if "ask" in sys.argv: print("hello", input("name? "))
if "fail" in sys.argv: raise ValueError("no")
if "exit" in sys.argv: sys.exit(int(sys.argv[-1]))
"""


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["a", "--b"], 0, "err\n"),
        (["fail"], 1, "ValueError: no"),
        (["exit", "7"], 1, "exited with status 7"),
        (["exit", "0"], 0, "err\n"),
    ],
)
def test_a_script(program: Program, tmp_path: Path, arguments: list[str], code: int, hint: str) -> None:
    (tmp_path / "s.py").write_text(SCRIPT)
    done = program("run", "s.py", "--", *arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout == f"args {arguments} __main__\n42\n"
    assert hint in done.stderr
    assert "kernel_runtime_script" not in done.stderr


def test_a_script_asks(program: Program, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(SCRIPT)
    done = program("run", "s.py", "--", "ask", input="bob\n")
    assert done.stdout.endswith("hello bob\n")
    assert "[guest] name? " in done.stderr


def test_ctrl_c_at_a_question_of_a_script_ends_it_there(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("def ask():\n    input('name? ')\nask()\n")
    running = subprocess.Popen(
        [sys.executable, "-m", "kernel_runtime", "run", "s.py"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stderr is not None
    said = b""
    while not said.endswith(b"[guest] name? "):
        said += running.stderr.read(1)
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=90)
    assert running.returncode == 130, errors
    named = [line for line in errors.decode().splitlines() if line.startswith("  File ")]
    assert [line.rpartition("/")[2] for line in named] == [
        's.py", line 3, in <module>',
        's.py", line 2, in ask',
    ]


def test_a_script_that_was_denied_ends_as_a_notebook_does(program: Program, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(DENIED)
    done = program("run", "s.py")
    assert done.returncode == 4
    assert "--allow cache grants it" in done.stderr


def test_what_the_walls_refused_is_in_the_record(program: Program) -> None:
    done = program("exec", "--json", "-c", "import socket\ntry: socket.socket(40)\nexcept OSError: pass")
    assert json.loads(done.stdout)["denied"] == ["socket(AF_VSOCK)"]


def test_exec(program: Program) -> None:
    done = program("exec", "-c", "print('hi')\n6*7")
    assert (done.returncode, done.stdout) == (0, "hi\n42\n")


def test_exec_json_from_stdin(program: Program) -> None:
    done = program("exec", "-", "--json", input="print('hi')\n1/0")
    found = json.loads(done.stdout)
    assert (done.returncode, found["status"], found["stdout"], found["ename"]) == (
        1,
        "error",
        "hi\n",
        "ZeroDivisionError",
    )
    assert (found["standing"]["rung"], "seccomp" in found["standing"]["walls"]) == ("namespaces", True)


@pytest.mark.parametrize(
    ("code", "flags", "exit_code", "hint"),
    [
        ("while True: pass", ["--time", "2s"], 3, "longer than its limit"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", [], 5, "SIGSEGV"),
        (
            "[open('/dev/null') for _ in range(99)]",
            ["--open-files", "64"],
            3,
            "limit of 64; --open-files sets another",
        ),
        ("open('/etc/shadow')", [], 1, "FileNotFoundError"),
        ("import socket; socket.create_connection(('1.1.1.1', 80), 2)", [], 1, "OSError"),
        (DENIED, [], 4, "--allow cache grants it"),
    ],
)
def test_exec_ends(program: Program, code: str, flags: list[str], exit_code: int, hint: str) -> None:
    done = program("exec", "-c", code, *flags, env={"NO_COLOR": "1"})
    assert done.returncode == exit_code, done.stderr
    assert hint in done.stderr
    assert "\x1b" not in done.stderr


def test_environment_gives_limits(program: Program) -> None:
    done = program("exec", "-c", "while True: pass", env={"KERNEL_RUNTIME_WALL": "1s"})
    assert done.returncode == 3
    bad = program("exec", "-c", "1", env={"KERNEL_RUNTIME_WALL": "soon"})
    assert bad.returncode == 2
    assert "KERNEL_RUNTIME_WALL: 'soon' is not a time" in bad.stderr
