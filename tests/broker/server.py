"""A PostgreSQL server of a test's own: a directory, a socket in it, no port."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def programs() -> Path:
    """Where its programs are; the test is skipped aloud where they are not."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    place = found[-1] if found else shutil.which("initdb")
    if place is None:
        pytest.skip("needs PostgreSQL (initdb); on Debian: apt-get install postgresql")
    return Path(os.path.realpath(place)).parent


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Its directory, which is its ``host``; the superuser is ``boss``, without a password."""
    place = programs()
    top = Path(tempfile.mkdtemp(prefix="kr-pg-"))
    user = _other_user()
    if user is not None:
        os.chown(top, user.pw_uid, user.pw_gid)

    def run(*command: str) -> None:
        done = subprocess.run(
            command,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            cwd=top,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    data = f"{top}/data"
    try:
        run(
            f"{place}/initdb",
            "-D",
            data,
            "-U",
            "boss",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        )
        options = f"-k {top} -c listen_addresses='' -c fsync=off"
        run(f"{place}/pg_ctl", "start", "-w", "-D", data, "-l", f"{top}/log", "-o", options)
        try:
            yield str(top)
        finally:
            run(f"{place}/pg_ctl", "stop", "-w", "-m", "immediate", "-D", data)
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _other_user() -> pwd.struct_passwd | None:
    """The server refuses to be root."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")
