"""``kernel-runtime check``: files read, findings placed, exit codes told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.check_policy import parse_policy

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Invoke = Callable[..., Result]
    Program = Callable[..., subprocess.CompletedProcess[str]]
    Notebook = Callable[..., Path]


def test_a_notebook_with_places_lines_and_suggestions(invoke: Invoke, notebook: Notebook) -> None:
    path = notebook(
        "import os as o\nimport pandas as pd", "%matplotlib inline\n!ls\no.system('x')", "pd.read_pickle('y')"
    )
    result = invoke("check", path)
    assert result.exit_code == 1
    assert (
        "cell 2, line 3:1  error    uses os.system (as o.system)\n      o.system('x')\n      use pathlib"
        in result.output
    )
    assert "cell 2, line 2:1  warning  a shell line (!) is used" in result.output
    assert "cell 3, line 1:1  warning  uses pandas.read_pickle (as pd.read_pickle)" in result.output
    assert result.output.endswith("1 error, 2 warnings in 1 file\n")


def test_warnings_alone_are_no_failure(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import socket\n")
    result = invoke("check", "a.py")
    assert (result.exit_code, "1 warning in 1 file" in result.output) == (0, True)
    (tmp_path / "b.py").write_text("print(1)\n")
    assert invoke("check", "b.py").output == "nothing found in 1 file\n"


APP = 'id = "job"\n[security]\nblocked_apis = ["json", "statistics.mean", "pandas.merge*", "sorted"]\n'


def test_what_the_manifest_promises_not_to_use_is_an_error(
    invoke: Invoke, tmp_path: Path, notebook: Notebook
) -> None:
    source = "import json, statistics, pandas as pd\nstatistics.mean([1])\npd.merge_asof(1, 2)\nsorted([])\n"
    (tmp_path / "a.py").write_text(source)
    assert invoke("check", "a.py").exit_code == 0, "the control: nobody has promised anything"
    (tmp_path / "app.toml").write_text(APP)
    result = invoke("check", "a.py")
    assert result.exit_code == 1
    assert result.output.count("its manifest says that it does not use this") == 4, result.output
    lifted = tmp_path / "team.toml"
    lifted.write_text('[check]\nallow = ["json", "statistics"]\n')
    assert invoke("check", "a.py", "--policy", "team.toml").exit_code == 1, "nobody else can lift it"
    (tmp_path / "app.toml").write_text("id = 3")
    result = invoke("check", "a.py")
    assert result.exit_code == 2
    assert "app.toml" in result.output
    (tmp_path / "app.toml").unlink()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert invoke("check", "a.py").exit_code == 0, "a project that speaks of no app"


def test_json(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("# -*- coding: latin-1 -*-\nx = 'ä'; eval(x)\n", encoding="latin-1")
    result = invoke("check", "--json", "a.py", "none.py")
    assert result.exit_code == 2
    found = json.loads(result.output)
    assert (found["errors"], found["warnings"], found["infos"]) == (1, 0, 0)
    first, second = found["files"]
    assert first["findings"] == [
        {
            "severity": "error",
            "rule": "name eval",
            "what": "eval",
            "message": "uses eval",
            "suggestion": "use ast.literal_eval for data, json for JSON, df.eval for columns",
            "line": 2,
            "column": 11,
            "cell": None,
        }
    ]
    assert "does not exist" in second["troubles"][0]


def test_standard_input(program: Program, notebook: Notebook) -> None:
    script = program("check", "-", input="import os\nos.system('x')\n")
    assert (script.returncode, "<stdin>\n  2:1  error" in script.stdout) == (1, True)
    text = notebook("import ctypes").read_text()
    assert "cell 1, line 1:1  error    imports ctypes" in program("check", "-", input=text).stdout


def test_it_imports_little_and_runs_nothing(program: Program, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('ran', 'w')\n1/0\n")
    assert program("check", "evil.py").returncode == 0
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.py", b"def f(:\n", "not checked  line 1: invalid syntax"),
        ("a.py", b"x = '\xff'\n", "not checked  not Python"),
        ("a.py", b"x\x00y\n", "not checked"),
        ("a.py", b"# coding: nonsense\n", "not checked  not Python: unknown encoding"),
        ("a.ipynb", b"{", "not checked  a.ipynb is not a notebook: broken JSON"),
        ("a.ipynb", b"[]", "not a notebook"),
        ("a.ipynb", b"", "is empty"),
    ],
)
def test_what_cannot_be_checked_is_said(
    invoke: Invoke, tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    result = invoke("check", name)
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.endswith("nothing found in 1 file; 1 not wholly checked\n")


def test_a_broken_cell_does_not_hide_the_others(invoke: Invoke, notebook: Notebook) -> None:
    result = invoke("check", notebook("def f(:", "import ctypes"))
    assert result.exit_code == 2
    assert "not checked  cell 1, line 1: invalid syntax" in result.output
    assert "cell 2, line 1:1  error    imports ctypes" in result.output


def test_a_policy_of_one_s_own(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import requests, ctypes\n")
    (tmp_path / "team.toml").write_text(
        '[check]\nallow = ["ctypes"]\nblock = [{module = "requests", suggestion = "use the proxy\\u001b[31m"}]\n'
    )
    result = invoke("check", "--policy", "team.toml", "a.py")
    assert result.exit_code == 1
    assert "imports requests" in result.output
    assert "\x1b" not in result.output
    assert "ctypes\n" not in result.output.partition("imports")[0]
    (tmp_path / "team.toml").write_text("[check]\nblock = [{modle = 'x'}]\n")
    result = invoke("check", "--policy", "team.toml", "a.py")
    assert result.exit_code == 2
    assert "team.toml:2: check.block[0]: no key is called 'modle'; did you mean 'module'?" in result.output


def test_the_policies_that_hold_where_a_file_lies_count_without_being_named(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project's own only tightens; a named one lifts what is the package's, not what others say."""
    project, own = tmp_path / "project" / ".kernel-runtime", tmp_path / "config" / "kernel-runtime"
    for directory in (project, own):
        directory.mkdir(parents=True, mode=0o755)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "project" / "a.py").write_text("import requests, ctypes\n")
    (tmp_path / "b.py").write_text("import requests, subprocess\n")
    policy = '[check]\nallow = ["ctypes"]\nblock = [{module = "requests"}]\n'
    (project / "policy.toml").write_text(policy)
    (own / "policy.toml").write_text('[check]\nallow = ["subprocess"]\n')
    (tmp_path / "team.toml").write_text('[check]\nallow = ["requests", "ctypes"]\n')
    for file in tmp_path.rglob("*.toml"):
        file.chmod(0o644)
    result = invoke("check", "project/a.py", "b.py")
    assert "imports requests" in result.output
    assert "imports ctypes" in result.output
    assert "subprocess" not in result.output.replace("import requests, subprocess", "")
    assert result.output.endswith("2 errors in 2 files\n")
    assert invoke("check", "project/a.py", "--policy", "team.toml").output.endswith("1 error in 1 file\n")
    (own / "policy.toml").write_text("[check]\nblok = []\n")
    assert "policy.toml:2: check: no key is called 'blok'" in invoke("check", "b.py").output


def test_the_policy_in_the_guide_is_one(root: Path) -> None:
    page = (root / "docs/howto/check.md").read_text()
    policy = parse_policy(page.partition("```toml\n")[2].partition("```")[0], "check.md")
    assert {rule.kind for rule in policy.rules} == {"module", "call", "name", "magic"}


def test_without_files_it_says_what_is_missing(invoke: Invoke) -> None:
    assert invoke("check").exit_code == 2


def test_of_many_findings_the_gravest_are_printed(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import socket\n" * 300 + "eval('1')\n" + "import socket\n" * 99)
    result = invoke("check", "a.py")
    assert result.output.count("  warning  ") == 49
    assert "301:1  error    uses eval" in result.output
    assert "… and 350 more; --all shows them" in result.output
    assert result.output.endswith("1 error, 399 warnings in 1 file\n")
    everything = invoke("check", "--all", "a.py").output
    assert (everything.count("  warning  "), "more;" in everything) == (399, False)
    assert len(json.loads(invoke("check", "--json", "a.py").output)["files"][0]["findings"]) == 400


@pytest.mark.parametrize("words", [("run", "job.py"), ("exec", "-")])
def test_what_is_run_without_a_notebook_is_read_first(
    program: Program, tmp_path: Path, words: tuple[str, ...]
) -> None:
    source = "print('ran')\nimport os\nprint(os.system('true'))\n"
    (tmp_path / "job.py").write_text(source)
    (tmp_path / "own.toml").write_text('[check]\nblock = [{name = "print", severity = "warning"}]\n')
    for settings, code, out, said in (
        ({}, 0, "ran\n0\n", ""),
        ({"KERNEL_RUNTIME_CHECK": "show"}, 0, "ran\n0\n", "check: line 3: error: uses os.system"),
        ({"KERNEL_RUNTIME_POLICY": "own.toml"}, 0, "ran\n0\n", "check: line 1: warning: uses print"),
        ({"KERNEL_RUNTIME_CHECK": "refuse"}, 4, "", "nothing of it was run\nline 3: error: uses os.system"),
    ):
        done = program(*words, env=settings, input=source)
        assert (done.returncode, done.stdout) == (code, out), done.stderr
        assert said in done.stderr
        assert bool(said) == ("os.system" in done.stderr)
