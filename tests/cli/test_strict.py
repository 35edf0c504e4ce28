"""Scripts and code at level strict: the runner is ours, the language holds for what it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime import Session
from kernel_runtime.cli.script import script_cell
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Program = Callable[..., subprocess.CompletedProcess[str]]
    Notebook = Callable[..., Path]


@pytest.fixture(scope="module")
def strict() -> Iterator[Session]:
    with Session(level="strict", workdir=None) as session:
        yield session


@pytest.mark.parametrize(
    ("source", "ended", "out", "err"),
    [
        (
            "import sys\nd = {'n': len(sys.argv)}\nd['n'] += 1\nprint(d, __name__)\n",
            "",
            "{'n': 3} __main__\n",
            "",
        ),
        (
            "print(1)\n\neval('1')\n",
            "ScriptEnded: error PolicyError",
            "",
            "/job.py\", line 3\n    eval('1')\n    ^\nkernel_runtime.guest.restricted.PolicyError: uses eval",
        ),
        (
            "def f(m):\n    return m.system\nimport os\nf(os)\n",
            "ScriptEnded: error PolicyRefusal",
            "",
            "line 2, in f\n    return m.system",
        ),
        ("import sys\nsys.exit(3)\n", "ScriptEnded: exit 3", "", ""),
    ],
    ids=["runs", "refused", "while it runs", "exit"],
)
def test_a_script(strict: Session, source: str, ended: str, out: str, err: str) -> None:
    done = strict.run(script_cell(source, "/job.py", ["a"], Level.STRICT), check=False)
    assert str(done.error or "") == ended
    assert done.stdout == out
    assert err in done.stderr


def test_from_the_command_line(program: Program, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("x = [1]\nx[0] += 1\nprint(x)\nimport ctypes\n")
    done = program("run", "job.py", "--level", "strict")
    assert (done.returncode, done.stdout) == (1, "")
    assert 'job.py", line 4' in done.stderr


OWNERS = """
[check]
default = false
allow = ["ctypes", "os.system"]
block = [
  { module = "colorsys", suggestion = "ask the palette team" },
  { call = "math.sqrt" },
  { name = "print", severity = "warning" },
]
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import colorsys", "imports colorsys"),
        ("from math import sqrt as s", "math.sqrt"),
        ("import math\ngetattr(math, 'sq' + 'rt')(4)", "math.sqrt"),
        ("import ctypes", "imports ctypes"),
        ("import os\nos.system('true')", "os.system"),
    ],
)
def test_a_policy_of_the_owner_tightens_the_language_and_never_loosens_it(
    tmp_path: Path, code: str, said: str
) -> None:
    (tmp_path / "own.toml").write_text(OWNERS)
    with Session(level="strict", workdir=None, policy=str(tmp_path / "own.toml")) as session:
        assert session.run("import math; print(math.floor(2.5))").stdout == "2\n"
        done = session.run(code, check=False)
        assert done.error is not None
        assert said in done.error.evalue
        session.restart()
        assert session.run(code, check=False).error is not None
    with Session(level="strict", workdir=None) as session:  # without the file: only the package's rules
        assert (session.run(code, check=False).error is None) == ("colorsys" in code or "math" in code)


def test_the_policies_that_hold_tighten_it_without_being_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kernel-runtime").mkdir(mode=0o755)
    policy = tmp_path / "kernel-runtime" / "policy.toml"
    policy.write_text(OWNERS)
    policy.chmod(0o644)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    session = Session(level="strict", workdir=None)
    assert ("module", "colorsys", "ask the palette team") in session._session.blocked
    assert Session(workdir=None)._session.blocked == []


def test_a_policy_that_is_malformed_opens_no_session(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[check]\nblok = []\n")
    with pytest.raises(Invalid, match=r"own.toml:2.*did you mean 'block'"):
        Session(level="strict", policy=str(tmp_path / "own.toml"))


def test_the_kernel_hands_its_policy_on(program: Program, notebook: Notebook, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWNERS)
    notebook("import colorsys")
    settings = {"KERNEL_RUNTIME_POLICY": str(tmp_path / "own.toml"), "KERNEL_RUNTIME_CHECK": "off"}
    done = program("run", "nb.ipynb", "--level", "strict", env=settings)
    assert (done.returncode, "PolicyError" in done.stderr) == (1, True), done.stderr
    done = program("exec", "-c", "import colorsys", "--level", "strict", env=settings)
    assert (done.returncode, "ask the palette team" in done.stderr) == (1, True), done.stderr


def test_what_a_manifest_promises_not_to_use_is_refused(tmp_path: Path) -> None:
    app = tmp_path / "app.toml"
    app.write_text('id = "job"\n[security]\nlevel = "strict"\n')
    with Session(manifest=app, workdir=None) as free:
        assert free.run("import statistics\nstatistics.mean([3])").result == "3"
    app.write_text('id = "job"\n[security]\nlevel = "strict"\nblocked_apis = ["statistics.mean"]\n')
    with Session(manifest=app, workdir=None) as bound:
        done = bound.run("import statistics\nstatistics.mean([3])", check=False)
    assert done.error is not None
    assert "its manifest says that it does not use this" in str(done.error) + "".join(done.error.traceback)
