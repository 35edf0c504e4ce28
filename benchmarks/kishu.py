"""kishu (PyPI) as a peer: in an environment of its own under the user's cache, never in the project's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.registry import ABSENT
from kernel_runtime.domain.amounts import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

KISHU = "kishu"
VERSION = "0.3.4"
#: Set by ``--kishu``: the interpreter of its environment.
PYTHON = "KERNEL_RUNTIME_BENCHMARK_KISHU"
#: The largest state it is shown, in bytes; up to ``OFTEN`` it takes turns as often as the other peers.
MOST = "KERNEL_RUNTIME_BENCHMARK_KISHU_MOST"
OFTEN = 100 * MIB
_INSTALL_SECONDS = 900
_taken: dict[str, float] = {}
_ROOT = Path(__file__).resolve().parents[1]


class NotToBeHad(Exception):
    """kishu could not be installed or does not run here, and why."""


def prepare() -> str:
    """Make its environment unless it is there; which version on which Python. ``NotToBeHad`` says why not."""
    place = _cache() / f"kishu-{VERSION}-python{sys.version_info.major}.{sys.version_info.minor}"
    python = place / "bin" / "python"
    if not (place / "made").exists():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        # The same libraries as ours: it is kishu that is compared, not two versions of pandas.
        same = [f"{name}=={metadata.version(name)}" for name in ("numpy", "pandas")]
        _attempt([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                  f"{KISHU}=={VERSION}", *same], "be installed")  # fmt: skip
        (place / "made").touch()
    _attempt([str(python), "-c", "import kishu.jupyterint"], "be imported")
    os.environ[PYTHON] = str(python)
    return f"kishu {VERSION} on Python {sys.version_info.major}.{sys.version_info.minor}"


def _attempt(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotToBeHad(f"kishu {VERSION} could not {what}: not within {_INSTALL_SECONDS} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()[-3:] or ["no reason given"]
        raise NotToBeHad(f"kishu {VERSION} could not {what}: {' '.join(said)}")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kernel_runtime" / "benchmarks"


class Notebook:
    """A notebook under kishu (``kishu_driver``); it counts its cells from 1."""

    def __init__(self, place: str) -> None:
        environment = {**os.environ, "HOME": place, "KISHU_PATH_ROOT": place, "ENV_KISHU_TEST_MODE": "1"}
        command = [os.environ[PYTHON], "-m", "benchmarks.kishu_driver", place]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._bytes = 0.0

    def run(self, code: str) -> tuple[float, float]:
        """Seconds that kishu takes around this cell, and the bytes that its database grows by."""
        answer = self._ask(run=code)
        before, self._bytes = self._bytes, answer["bytes"]
        return answer["seconds"], max(0.0, answer["bytes"] - before)

    def back(self, cell: int, probe: str) -> float:
        """Seconds from asking for the state after this cell to the value of ``probe`` there."""
        return self._ask(back=cell, probe=probe)["seconds"]

    def _ask(self, **order: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line or '{"error": "its process has ended"}')
        if "error" in answer:
            raise RuntimeError(f"kishu {VERSION}: {answer['error']}")
        return answer

    def close(self) -> None:
        self._process.communicate()


def most() -> int:
    """Bytes of the largest state that it is shown; beyond some each of its cells takes minutes."""
    return int(os.environ.get(MOST, OFTEN))


def took(label: str, seconds: float) -> None:
    """What it takes with a state of this size, to be told where it is left out with a larger one."""
    _taken[label] = seconds


def leave_out(benchmark: str, label: str) -> None:
    """Say why, with what it took at the largest size it was measured at; nothing where it has been measured before."""
    if label not in _taken:
        told = (f" {seconds / 60:.1f} minutes at {size}" for size, seconds in reversed(_taken.items()))
        ABSENT[f"{KISHU} in {benchmark} at {label}"] = (
            f"it took{next(told, ' too long for a run')}; --kishu-most {label} measures it once"
        )


def is_asked_for() -> bool:
    """Whether it is to be measured, and can be."""
    return PYTHON in os.environ


@contextlib.contextmanager
def notebook() -> Iterator[Notebook]:
    """On a disk, as its checkpoints are: the temporary directory may be memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp" if os.access("/var/tmp", os.W_OK) else None) as place:
        made = Notebook(place)
        try:
            yield made
        finally:
            made.close()
