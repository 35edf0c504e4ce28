"""``--allow``, ``--deny``, ``--policy`` and ``--manifest`` of runs, as a person uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat
import pytest

from kernel_runtime.cli import outcome

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Invoke = Callable[..., Result]
    Program = Callable[..., subprocess.CompletedProcess[str]]
    Notebook = Callable[..., Path]

ASK = "from kernel_runtime.sdk import cache\ncache.set('x', 1)\nprint('kept', cache.get('x'))"


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(tmp_path / "state"))


def rules(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_a_run_is_granted_by_flag_and_its_denial_names_the_flag(
    program: Program, notebook: Notebook, tmp_path: Path
) -> None:
    path = notebook(ASK)
    denied = program("run", path, "-q")
    assert denied.returncode == outcome.OF_STATUS["refused"]
    assert "--allow cache grants it" in denied.stderr + denied.stdout
    granted = program("run", path, "-q", "--allow", "cache")
    assert granted.returncode == 0, granted.stderr
    (cell,) = nbformat.read(tmp_path / "nb.executed.ipynb", 4).cells
    assert cell.outputs[0].text == "kept 1\n"


def test_a_policy_file_grants_without_a_word_about_the_source(invoke: Invoke, tmp_path: Path) -> None:
    policy = rules(tmp_path, 'allow = ["cache"]\n')
    done = invoke("exec", "-c", "import ctypes\n" + ASK, "--policy", policy)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "kept 1\n", "")


def test_what_a_manifest_does_not_ask_for_is_denied_whoever_grants_it(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text('id = "job"\npermissions = []\n')
    (tmp_path / "job.py").write_text(ASK)
    done = invoke("run", "job.py", "--allow", "cache", "--manifest", "app.toml")
    assert done.exit_code != 0
    assert "does not ask for it in its manifest" in done.output
    assert invoke("run", "job.py", "--allow", "cache").exit_code == 0


def test_a_flag_that_is_no_scope_is_told_before_anything_runs(invoke: Invoke) -> None:
    done = invoke("exec", "-c", "print('ran')", "--allow", "chache")
    assert done.exit_code == 2
    assert "--allow: no scope begins with 'chache'; did you mean 'cache'?" in done.output
    assert "ran" not in done.output


def test_a_manifest_that_is_none_is_told_before_anything_runs(
    invoke: Invoke, notebook: Notebook, tmp_path: Path
) -> None:
    path = notebook("print('ran')", kernel_runtime={"permissions": [{"type": "cache", "resurce": "x"}]})
    done = invoke("run", path)
    assert done.exit_code == 2
    assert f"{path}:" in done.stderr
    assert "permissions[0].resurce: no key is called 'resurce'" in done.stderr
    assert not (tmp_path / "nb.executed.ipynb").exists()


def test_a_notebook_that_was_run_may_be_run_again(program: Program, notebook: Notebook) -> None:
    """How it went is noted beside its manifest."""
    path = notebook(ASK)
    assert program("run", path, "-q", "--allow", "cache").returncode == 0
    again = program("run", path.with_name("nb.executed.ipynb"), "-q", "--allow", "cache")
    assert again.returncode == 0, again.stderr


def test_rules_that_are_none_are_told_before_anything_runs(
    invoke: Invoke, notebook: Notebook, tmp_path: Path
) -> None:
    (tmp_path / "config" / "kernel-runtime").mkdir(parents=True)
    (tmp_path / "config" / "kernel-runtime" / "policy.toml").write_text(
        'allow = ["cache"]\ndeny = ["cache"]\n'
    )
    (tmp_path / "job.py").write_text("print('ran')")
    for words in (("run", "job.py"), ("run", notebook("print('ran')")), ("exec", "-c", "print('ran')")):
        done = invoke(*words)
        assert done.exit_code == 2
        assert "allow cache contradicts deny cache" in done.stderr
        assert "ran" not in done.stdout
    assert not (tmp_path / "nb.executed.ipynb").exists()
