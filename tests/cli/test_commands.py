"""The commands without a guest: help, bad input, install, sessions."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.cli import COMMANDS
from kernel_runtime.cli.terminal import harmless, one_line
from kernel_runtime.workers import registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Invoke = Callable[..., Result]
    Program = Callable[..., subprocess.CompletedProcess[str]]
    Notebook = Callable[..., Path]


def test_version_loads_little(program: Program) -> None:
    assert program("--version").stdout.startswith("kernel-runtime, version ")
    code = "import sys, kernel_runtime.cli; print([m for m in ('IPython', 'zmq', 'nbclient', 'rich') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_no_grammar_is_built_that_no_notebook_needs(program: Program, notebook: Notebook) -> None:
    notebook("1")
    loaded = program("check", "nb.ipynb", env={"PYTHONPROFILEIMPORTTIME": "1"}).stderr
    assert "jsonschema._format" in loaded, "the control: who would have it built is there"
    assert "rfc3987_syntax.syntax_helpers" not in loaded


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_tells_exit_codes_and_lines(invoke: Invoke, command: str) -> None:
    result = invoke(*([command] if command else []), "--help")
    assert result.exit_code == 0
    assert "Usage: kernel-runtime" in result.output
    if command in ("", "run", "exec"):
        assert "a limit ended the run" in result.output
    elif command == "doctor":
        assert "no attack got through" in result.output


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["run", "none.ipynb"], "none.ipynb does not exist"),
        (["run", "none.py"], "none.py does not exist"),
        (["run", "."], "is a directory"),
        (["run"], "Missing argument"),
        (["run", "nb.ipynb", "--memory", "lots"], "--memory: 'lots' is not an amount of bytes"),
        (["run", "nb.ipynb", "--memory", "1M"], "--memory: 1M is below 32 MB"),
        (["run", "nb.ipynb", "--time", "soon"], "--time: 'soon' is not a time"),
        (["run", "nb.ipynb", "--pids", "few"], "--pids: 'few' is not a whole number"),
        (["run", "nb.ipynb", "--level", "mild"], "is not one of 'strict', 'moderate', 'permissive'"),
        (["run", "nb.ipynb", "-p", "rows"], "has no '='"),
        (["run", "nb.ipynb", "-p", "row=3"], "did you mean 'rows'? Its cell tagged 'parameters' knows: rows"),
        (["run", "nb.ipynb", "-o", "no/such/out.ipynb"], "its directory does not exist"),
        (["run", "nb.ipynb", "-o", "."], "is a directory"),
        (["run", "nb.ipynb", "--workdir", "none"], "is not a directory"),
        (["run", "nb.ipynb", "--", "x"], "arguments after -- are for scripts"),
        (["run", "broken.ipynb"], "broken JSON at line 1"),
        (["run", "r.ipynb"], "is written in R"),
        (["run", "s.py", "-p", "a=1"], "-p is for notebooks"),
        (["run", "latin.py"], "is not Python source"),
        (["exec"], "no code"),
        (["exec", "-c", "1", "-"], "not both"),
        (["exec", "s.py"], "to run a file: kernel-runtime run s.py"),
        (["nb.ipynb"], "To run it: kernel-runtime run nb.ipynb"),
        (["install", "--user", "--sys-prefix"], "choose one of"),
        (["install", "--prefix", "p", "--memory", "lots"], "--memory: 'lots'"),
        (["install", "--prefix", "p", "--name", "a b"], "no kernel name"),
        (["uninstall", "--prefix", "p"], "no kernel 'kernel-runtime'"),
    ],
)
def test_bad_input(invoke: Invoke, notebook: Notebook, tmp_path: Path, words: list[str], hint: str) -> None:
    notebook(("rows = 1", ["parameters"]))
    notebook("1", name="r.ipynb", kernelspec={"name": "ir", "language": "R", "display_name": "R"})
    (tmp_path / "broken.ipynb").write_text('{"cells":')
    (tmp_path / "s.py").write_text("print(1)")
    (tmp_path / "latin.py").write_bytes(b"# \xff\xff")
    before = sorted(os.listdir(tmp_path))
    result = invoke(*words)
    assert result.exit_code == 2, result.output
    assert hint in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert sorted(os.listdir(tmp_path)) == before


def test_bad_metadata(invoke: Invoke, notebook: Notebook) -> None:
    notebook("1", kernel_runtime={"limits": {"memory": "lots"}})
    result = invoke("run", "nb.ipynb")
    assert result.exit_code == 2
    assert re.search(r"nb\.ipynb:\d+: limits\.memory: 'lots' is not an amount of bytes", result.output)


def test_a_bug_is_not_the_users_error(
    invoke: Invoke, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernel_runtime.jupyter import document

    def broken(path: Path) -> None:
        raise RuntimeError("oops")

    notebook("1")
    monkeypatch.setattr(document, "read_notebook", broken)
    result = invoke("run", "nb.ipynb")
    assert result.exit_code == 5
    assert "this is a bug in kernel_runtime, not in your code: RuntimeError: oops" in result.output


def test_install_list_uninstall(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "p/share/jupyter"))
    result = invoke(
        "install",
        "--prefix",
        "p",
        "--name",
        "careful",
        "--display-name",
        "Careful",
        "--memory",
        "1G",
        "--time",
        "30s",
        "--level",
        "strict",
    )
    assert result.exit_code == 0, result.output
    spec = json.loads((tmp_path / "p/share/jupyter/kernels/careful/kernel.json").read_text())
    assert spec["argv"][6:] == ["--memory", "1G", "--wall", "30s", "--level", "strict"]
    listed = json.loads(invoke("kernels", "--json").output)
    assert ("careful", "Careful", "") in [
        (one["name"], one["display_name"], one["trouble"]) for one in listed
    ]
    assert invoke("uninstall", "--name", "careful").exit_code == 0
    assert not (tmp_path / "p/share/jupyter/kernels/careful").exists()


def test_a_kernel_of_an_environment_that_is_gone(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "p/share/jupyter"))
    invoke("install", "--prefix", "p", "--name", "old")
    file = tmp_path / "p/share/jupyter/kernels/old/kernel.json"
    spec = json.loads(file.read_text())
    spec["argv"][0] = str(tmp_path / "gone/bin/python")
    file.write_text(json.dumps(spec))
    result = invoke("kernels")
    assert result.exit_code == 2
    assert "its environment is gone" in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(invoke: Invoke, shell: str) -> None:
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert "_KERNEL_RUNTIME_COMPLETE" in result.output


def test_completion_itself() -> None:
    env = os.environ | {
        "_KERNEL_RUNTIME_COMPLETE": "bash_complete",
        "COMP_WORDS": "kernel-runtime r",
        "COMP_CWORD": "1",
    }
    script = Path(sys.executable).with_name("kernel-runtime")
    if not script.exists():
        pytest.skip("the console script is not installed here")
    assert (
        subprocess.run([script], env=env, capture_output=True, text=True, check=False).stdout == "plain,run\n"
    )


def test_sessions(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert invoke("sessions").output == "no sessions are alive\n"
    registry.announce({"kind": "kernel", "sessions": [{"name": "a\x1b[31m", "level": "strict", "pid": 7}]})
    assert (registry.directory().stat().st_mode & 0o777) == 0o700
    output = invoke("sessions").output
    assert "strict" in output
    assert "\x1b" not in output
    assert json.loads(invoke("sessions", "--json").output)[0]["pid"] == os.getpid()
    registry.withdraw()
    registry.withdraw()
    assert registry.listing() == []


def test_dead_fronts_are_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    registry.announce({"kind": "kernel"})
    place = registry.directory()
    entry = json.loads((place / f"{os.getpid()}.json").read_text())
    (place / "1.json").write_text(json.dumps(entry | {"pid": 1, "started": 12345}))
    (place / "2.json").write_text("garbage")
    assert [one["pid"] for one in registry.listing()] == [os.getpid()]
    assert sorted(os.listdir(place)) == [f"{os.getpid()}.json"]
    registry.withdraw()


def test_a_directory_of_others_is_refused(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    registry.directory().mkdir(mode=0o777)
    registry.directory().chmod(0o777)
    result = invoke("sessions")
    assert result.exit_code == 2
    assert "is not a private directory of yours" in result.output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\x1b[0m", "a\x1b[31mred\x1b[0m"),
        ("\x1b]52;c;ZXZpbA==\x07x", "x"),
        ("\x1b]0;title\x1b\\x", "x"),
        ("\x1b[2J\x1b[Hx\x08\x00", "x"),
        ("\x1bcx\x9b31my", "x31my"),
        ("tab\tline\n", "tab\tline\n"),
        ("\x1b", ""),
    ],
)
def test_what_a_terminal_would_obey_is_cut(text: str, shown: str) -> None:
    assert harmless(text, colours=True) == shown
    assert "\x1b" not in harmless(text, colours=False)


def test_one_line() -> None:
    assert one_line("a\nb\x1b[31m" + "c" * 200, 10) == "a bcccccc…"
