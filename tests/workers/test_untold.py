"""What goes wrong on the host is told to a guest without the host's paths, whichever handler it goes wrong in."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import kernel_runtime
from kernel_runtime.capabilities.handlers import HANDLERS
from kernel_runtime.state import State
from kernel_runtime.store.database import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Trouble = Callable[[Path], AbstractContextManager[None]]

#: One call of each handler, and of the proxy; what they say is collected.
CALLS = """
from kernel_runtime.sdk import cache, call, clock, db, env, events, files, http, log, secrets, storage
from urllib.request import urlopen
calls = {
    "cache": lambda: cache.get("x"),
    "call": lambda: call("other.main"),
    "clock": lambda: clock.now(),
    "db": lambda: db.query("sales", "select 1"),
    "env": lambda: env.get("NOTHING"),
    "events": lambda: events.publish("t", 1),
    "files": lambda: files.read_text("none.csv"),
    "http": lambda: http.get("http://127.0.0.1:9/x"),
    "log": lambda: log.info("x"),
    "secrets": lambda: secrets.get("token"),
    "storage": lambda: storage.get("x"),
    "proxy": lambda: urlopen("http://127.0.0.1:9/x"),
}
told = {}
for name, ask in calls.items():
    try:
        ask()
    except Exception as error:
        told[name] = str(error)
told
"""
PLACE = "a private place"
WANTED = (
    *("cache", "call:*.*", "clock", "db:*:read", "env:NOTHING", "events:publish:t", "secret:token"),
    "net:127.0.0.1:9/GET",
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / PLACE
    (place / "config" / "kernel-runtime").mkdir(parents=True)
    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(place / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))
    monkeypatch.delenv("KERNEL_RUNTIME_MASTER_KEY", raising=False)
    return place


def written(place: Path, **texts: str) -> None:
    for name, text in texts.items():
        file = place / "config" / "kernel-runtime" / f"{name}.toml"
        file.write_text(text)
        file.chmod(0o600)


@contextmanager
def locked(place: Path) -> Iterator[None]:
    with State():
        pass
    connection = sqlite3.connect(place / "state" / NAME, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.close()


@contextmanager
def shown_to_others(place: Path) -> Iterator[None]:
    with State():
        pass
    (place / "state" / NAME).chmod(0o644)
    yield


@contextmanager
def not_there(place: Path) -> Iterator[None]:
    (place / "state").write_text("no directory")
    yield


@contextmanager
def a_rule(place: Path) -> Iterator[None]:
    written(place, policy=f"deny = {[*WANTED, 'files:read:/**']}")
    yield


@contextmanager
def no_policy(place: Path) -> Iterator[None]:
    written(place, policy="deny = [3]")
    yield


@contextmanager
def bad_lists(place: Path) -> Iterator[None]:
    written(place, databases="x = 3", apps="x = 3", cache="x = 3")
    with pytest.MonkeyPatch.context() as patch, State() as state:
        patch.setenv("KERNEL_RUNTIME_MASTER_KEY", "A" * 43 + "=")
        state.vault().set("token", b"tok-0123456789")
    (place / "state" / "master.key").write_text("none")
    yield


#: Each with the handlers whose trouble is one that names a path on the host.
DECIDED = set(HANDLERS) | {"proxy"}
STAGED: dict[Trouble, set[str]] = {
    locked: DECIDED,
    shown_to_others: DECIDED,
    not_there: DECIDED,
    no_policy: DECIDED,
    a_rule: DECIDED - {"log", "storage"},  # which are not decided
    bad_lists: {"cache", "call", "db", "secrets"},
}


@pytest.mark.parametrize(
    ("trouble", "troubled"), STAGED.items(), ids=lambda given: getattr(given, "__name__", "")
)
def test_no_handler_tells_where_things_lie(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trouble: Trouble,
    troubled: set[str],
) -> None:
    monkeypatch.setitem(State.__init__.__kwdefaults__, "patience", 0.05)
    (tmp_path / "work").mkdir()
    wanted = [*WANTED, f"files:read:{tmp_path}/work/none.csv"]
    with trouble(place), kernel_runtime.Session(workdir=tmp_path / "work", allow=wanted) as session:
        session.run(CALLS)
        told = session.value("told")
    assert {name for name, text in told.items() if "there is no" not in text} >= troubled
    for name, text in told.items():
        assert PLACE not in text, name
        assert "private" not in text, name
    assert f"/{PLACE}/" in capsys.readouterr().err, "the control: on the host it is said whole"
