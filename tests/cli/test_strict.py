"""Scripts and code at level strict: the runner is ours, the language holds for what it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime import Session
from kernel_runtime.cli.script import script_cell
from kernel_runtime.domain.level import Level

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Program = Callable[..., subprocess.CompletedProcess[str]]


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
