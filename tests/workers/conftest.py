"""Real guests for these tests: one bare zygote per module, one session per test."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

import kernel_runtime
from kernel_runtime.workers import meter, pristine, spares
from tests.workers.branches import refuse_to_look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_names = itertools.count()


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that guests see; one for all, so that they share a zygote."""
    path = tmp_path_factory.mktemp("work")
    path.chmod(0o755)
    (path / "data.txt").write_text("from the host")
    return path


@pytest.fixture
def open_session(directory: Path) -> Iterator[Callable[..., kernel_runtime.Session]]:
    """Opens sessions that are closed after the test."""
    opened: list[kernel_runtime.Session] = []

    def open_one(**options: Any) -> kernel_runtime.Session:
        session = kernel_runtime.Session(**{"workdir": directory, "memory": "512M"} | options)
        opened.append(session)
        session.open()
        return session

    yield open_one
    for session in opened:
        session.close()


@pytest.fixture
def session(open_session: Callable[..., kernel_runtime.Session]) -> kernel_runtime.Session:
    return open_session()


@pytest.fixture
def spares_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies are made ahead when a test says so, however little a session holds."""
    monkeypatch.setattr(spares, "REST_SECONDS", 1000.0)
    monkeypatch.setattr(spares, "WORTH", 0)
    # While a guest's memory is put together into huge pages, its present is not copied.
    monkeypatch.setattr(pristine, "are_huge_allowed", lambda: False)


@pytest.fixture
def host_may_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What frozen branches hold, they are asked for."""
    refuse_to_look(monkeypatch)


@pytest.fixture(params=["cgroup", "no cgroup"])
def cgroup_world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both worlds: with the control groups of this host, and as if it had none."""
    if request.param == "no cgroup":
        monkeypatch.setattr(meter, "world", lambda: meter.hierarchy.World({}))
    elif not meter.world().limits >= {"memory", "pids"}:
        pytest.skip("needs cgroup v1 or v2, writable")
    return str(request.param)


@pytest.fixture(scope="module")
def kept_open(directory: Path) -> Iterator[kernel_runtime.Session]:
    """One session for all of a module, with a snapshot of its beginning."""
    with kernel_runtime.Session(workdir=directory, memory="3G", automatic=False, wall="60s") as session:
        session.snapshot("clean", pin=True)
        yield session


@pytest.fixture
def clean_session(kept_open: kernel_runtime.Session) -> Iterator[kernel_runtime.Session]:
    """That session, brought back to its beginning."""
    kept_open.restore("clean")
    yield kept_open
    for snapshot in kept_open.snapshots():
        if snapshot.name != "clean":
            kept_open.drop(snapshot.number)
