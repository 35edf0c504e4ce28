"""The same walls for a front that is an ordinary user, even where the suite runs as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import os, sys
import kernel_runtime
assert os.getuid() != 0
with kernel_runtime.Session(workdir=sys.argv[1], memory="256M") as session:
    print(sorted(session.walls))
    print(session.run("import os; os.getuid()").result == str(os.getuid()))
    session.run("open('new', 'w').write(open('data.txt').read())")
    print(session.run("open('new').read()").result)
    print(session.files())
    print(session.files_keep("new"), open(sys.argv[1] + "/new").read())
    os.unlink(sys.argv[1] + "/new")
    session.run("open('data.txt', 'w').write('x')")
    print(session.files_drop())
    print(session.files())
    print(session.run("open('/etc/shadow').read()", check=False).error.ename)
    print(session.run("import os; os._exit(1)", check=False).verdict.reason)
    session.restart()
    print(session.run("1 + 1").result)
"""


def _as_user() -> list[str]:
    """A command that runs another one as an ordinary user; as root: in a user namespace."""
    if os.getuid() != 0:
        return []
    if shutil.which("unshare") is None:
        pytest.skip("needs an ordinary user")
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


@pytest.mark.slow
def test_every_wall_stands_for_an_ordinary_user(directory: Path) -> None:
    done = subprocess.run(
        [*_as_user(), sys.executable, "-c", PROGRAM, str(directory)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    walls, *rest = done.stdout.splitlines()
    for wall in (
        "pid",
        "net",
        "ipc",
        "uts",
        "mount",
        "user",
        "landlock",
        "capabilities",
        "seccomp",
        "rlimits",
    ):
        assert repr(wall) in walls
    kept = [
        "+ new  13 bytes",
        "new from the host",
        "new",
        "data.txt",
        "no file was added, changed or removed",
    ]
    assert rest == ["True", "'from the host'", *kept, "FileNotFoundError", "exit", "2"]
    assert sorted(os.listdir(directory)) == ["data.txt"]
