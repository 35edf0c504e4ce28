"""Another app's handler, called from a guest, beside the same function in a process of its own without walls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.bars import FORK, FRESH
from benchmarks.figures import OURS, Reading, Spec
from benchmarks.registry import benchmark
from benchmarks.suite.broker import own_state
from benchmarks.turns import turns
from kernel_runtime import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.scale import Scale

_ARGUMENTS = {"count": 200}
_SOURCE = """
def squares(count: int) -> dict[str, int]:
    return {str(number): number * number for number in range(count)}

def printing(count: int) -> dict[str, int]:
    print("squares of", count)
    return squares(count)
"""
_TIMED = """
import time
from kernel_runtime.sdk import call
def timed(handler):
    begun = time.perf_counter()
    answer = call(handler, {"count": 200})
    return time.perf_counter() - begun, answer
"""
_FRESH = (
    "import json, sys; from squares_app import squares; print(json.dumps(squares(**json.load(sys.stdin))))"
)
_FORKED = f"{_SOURCE}\nimport json\nprint(json.dumps(squares(**{_ARGUMENTS})))"


@benchmark(
    "calls",
    Spec(name="calls.first", what="the first call of an app: its answer is there"),
    Spec(name="calls.later", what="a later call, in a fresh guest too"),
    Spec(name="calls.printing", what="a later call that prints a line"),
)
def calls(scale: Scale) -> Iterator[Reading]:
    """Each round calls an app that nobody has called before."""
    with own_apps(scale.rounds) as apps, Session(allow=["call:*"], automatic=False) as session:
        session.run(_TIMED)
        with peers.forker(["json"]) as forker:
            for number in range(scale.rounds):
                app = f"app{number}"
                yield Reading("calls.first", OURS, _called(session, f"{app}.squares"))
                yield Reading("calls.first", FRESH, _fresh(apps / app))
                _called(session, f"{app}.squares")  # from the second on a process is made ready
                time.sleep(scale.idle)
                subjects: list[Callable[[], Reading]] = [
                    lambda app=app: Reading("calls.later", OURS, _called(session, f"{app}.squares")),
                    lambda app=app: Reading("calls.later", FRESH, _fresh(apps / app)),
                    lambda: Reading("calls.later", FORK, _forked(forker)),
                    lambda app=app: Reading("calls.printing", OURS, _called(session, f"{app}.printing")),
                ]  # fmt: skip
                yield from (measure() for measure in turns(scale.guests, subjects))


def _called(session: Session, handler: str) -> float:
    text = session.run(f"import json\nprint(json.dumps(timed({handler!r})))").stdout
    seconds, answer = json.loads(text)
    return _checked(seconds, answer)


def _fresh(app: Path) -> float:
    """An interpreter that is started for it."""
    begun = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(app)}
    done = subprocess.run(
        [sys.executable, "-c", _FRESH],
        input=json.dumps(_ARGUMENTS),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return _checked(time.perf_counter() - begun, json.loads(done.stdout))


def _forked(forker: peers.Forker) -> float:
    done = forker.fork(_FORKED)
    return _checked(done.result, json.loads(done.text))


def _checked(seconds: float, answer: object) -> float:
    if answer != {str(number): number * number for number in range(_ARGUMENTS["count"])}:
        raise RuntimeError(f"the answer is {answer!r}")
    return seconds


@contextmanager
def own_apps(count: int) -> Iterator[Path]:
    """So many apps with the same handlers, which the operator of this process lists, and a state of their own."""
    before = os.environ.get("XDG_CONFIG_HOME")
    with tempfile.TemporaryDirectory() as place, own_state():
        root = Path(place)
        names = [f"app{number}" for number in range(count)]
        for name in names:
            _write(root / name / "app.toml", _manifest(name))
            _write(root / name / "squares_app.py", _SOURCE)
        listed = "".join(f'{name} = "{root / name}"\n' for name in names)
        _write(root / "config" / "kernel-runtime" / "apps.toml", f"[apps]\n{listed}")
        os.environ["XDG_CONFIG_HOME"] = str(root / "config")
        try:
            yield root
        finally:
            if before is None:
                del os.environ["XDG_CONFIG_HOME"]
            else:
                os.environ["XDG_CONFIG_HOME"] = before


def _manifest(name: str) -> str:
    points = "".join(f'{handler} = "squares_app:{handler}"\n' for handler in ("squares", "printing"))
    return f'id = "{name}"\npermissions = []\n[entry_points]\n{points}'


def _write(path: Path, text: str) -> None:
    """A file that nobody else can have written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    path.parent.chmod(0o755)
