"""What guests are compared with: a plain fork of an equally warm process, and bubblewrap."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BWRAP = (
    "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
    "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", sys.executable, "-c",
)  # fmt: skip
#: Behind code of a child that stays: its pid, and those of its children.
_HOLD = """
import os, time
with open(f"/proc/self/task/{os.getpid()}/children") as file: os.write(1, f"{os.getpid()} {file.read()}\\n".encode())
time.sleep(600)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """Seconds from the request to the child's first own line, its result, and its end."""

    started: float
    result: float
    gone: float
    text: str


class Forker:
    """A process that has imported ``preload`` and forks plainly."""

    def __init__(self, preload: Sequence[str]) -> None:
        program = Path(__file__).with_name("forker.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(program), *preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line("ready")

    def fork(self, code: str) -> Forked:
        """Fork a child that runs ``code``; what it prints is its result."""
        begun = time.perf_counter()
        self._send(code)
        self._line("started")
        started = time.perf_counter()
        text = self._line()
        result = time.perf_counter()
        self._line("gone")
        gone = time.perf_counter()
        return Forked(started=started - begun, result=result - begun, gone=gone - begun, text=text)

    def prepare(self, code: str) -> None:
        """Run ``code`` in the process itself, before the next fork; children find its names."""
        self._send(f"!{code}")
        self._line("done")

    @contextlib.contextmanager
    def held(self, code: str) -> Iterator[list[int]]:
        """A child that runs ``code`` and stays, with whatever that forks: their pids. All are killed at the end."""
        self._send(f"{code}\n{_HOLD}")
        self._line("started")
        pids = [int(word) for word in self._line().split()]
        try:
            yield pids
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._line("gone")

    def _send(self, code: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(code.encode("unicode_escape").decode() + "\n")
        self._process.stdin.flush()

    def _line(self, expected: str = "") -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line or (expected and line != expected):
            raise RuntimeError(f"the forker said {line!r}")
        return line

    def close(self) -> None:
        self._process.communicate()


@contextlib.contextmanager
def forker(preload: Sequence[str]) -> Iterator[Forker]:
    started = Forker(preload)
    try:
        yield started
    finally:
        started.close()


def has_bwrap() -> bool:
    """Whether bubblewrap is installed and works here."""
    if shutil.which("bwrap") is None:
        return False
    return subprocess.run([*_BWRAP, "pass"], capture_output=True).returncode == 0


def bwrap(code: str) -> float:
    """Seconds until a fresh walled interpreter has run ``code`` and said so."""
    begun = time.perf_counter()
    with subprocess.Popen([*_BWRAP, f"{code}\nprint(1, flush=True)"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError("bwrap failed")
        return time.perf_counter() - begun
