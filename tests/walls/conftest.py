"""Attacks run as code in a real guest; each is run again with its wall taken away.

Guests are fresh for each attack, but those with the same walls come from one zygote, so that
hundreds of attacks take seconds.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.client import AsyncSession, Result
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import parse_limits
from kernel_runtime.runtime import Runtime, Settings
from kernel_runtime.workers.portal import Portal
from tests.workers.branches import refuse_to_look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernel_runtime.workers.meter import Usage

#: Without these a guest sees the host's files ("user", because the guest of a root front has
#: another host uid, which could not reach its own interpreter in a private environment).
FILE_WALLS = ("mount", "landlock", "user")
#: Without these it keeps its capabilities, and the whole kernel answers them.
KERNEL_WALLS = ("seccomp", "capabilities", "user", "landlock")


class Guest:
    """One guest, spoken to from synchronous tests."""

    def __init__(
        self,
        portal: Portal,
        runtime: Runtime,
        level: Level,
        amounts: dict[str, object],
        *,
        automatic: bool = True,
    ) -> None:
        self._portal = portal
        self._automatic = automatic
        self.client = AsyncSession(limits=parse_limits({"memory": "512M"} | amounts), level=level)
        self.client._runtime = runtime
        portal.call(self._open(runtime))

    async def _open(self, runtime: Runtime) -> None:
        inner = self.client._session = runtime.open_session(
            limits=self.client.limits, level=self.client.level, automatic=self._automatic
        )
        await inner.ready()

    @property
    def inner(self) -> Any:
        """The workers' session."""
        return self.client._session

    def run(self, code: str, **options: Any) -> Result:
        return self._portal.call(self.client.run(code, check=False, **options))

    def answer(self, code: str) -> str:
        """The last value's text; or the error's, or the verdict's."""
        result = self.run(code)
        return str(result.error or result.verdict or result.result)

    def value(self, name: str) -> Any:
        return self._portal.call(self.client.value(name))

    def restart(self) -> None:
        self._portal.call(self.client.restart())

    def snapshot(self, name: str = "") -> Any:
        return self._portal.call(self.client.snapshot(name))

    def restore(self, name: str | int) -> Any:
        return self._portal.call(self.client.restore(name))

    def diff(self, a: str, b: str | None = None) -> Any:
        return self._portal.call(self.client.diff(a, b))

    def call(self, work: Any) -> Any:
        """What a coroutine returns, in the loop of all of it."""
        return self._portal.call(work)

    def weigh(self) -> None:
        """Have every frozen branch measured now."""
        self._portal.call(self.inner.snapshots.weigh())

    def rest(self) -> None:
        """As if it had rested for a while: what is made ahead is made now."""
        self._portal.call(self.inner.snapshots.spares.make())

    def usage(self) -> Usage:
        return self._portal.call(self.client.usage())

    def close(self) -> None:
        self._portal.call(self.client.close())


class House:
    """Guests with and without walls: one zygote for each set of walls left out."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.portal = Portal()
        self._runtimes: dict[tuple[str, ...], Runtime] = {}
        self._guests: list[Guest] = []

    def runtime(self, without: tuple[str, ...] = ()) -> Runtime:
        if without not in self._runtimes:
            self._runtimes[without] = self.portal.call(self._make(without))
        return self._runtimes[without]

    async def _make(self, without: tuple[str, ...]) -> Runtime:
        return Runtime(Settings(workdir=str(self.directory), warm=(), without=frozenset(without)))

    def open(
        self,
        *,
        without: tuple[str, ...] = (),
        level: str = "moderate",
        automatic: bool = True,
        **amounts: object,
    ) -> Guest:
        """A guest of one's own, to be closed (or closed with the house)."""
        guest = Guest(self.portal, self.runtime(without), Level(level), amounts, automatic=automatic)
        self._guests.append(guest)
        return guest

    def run(self, code: str, **options: Any) -> Result:
        """What ``code`` leads to in a fresh guest."""
        guest = self.open(**options)
        try:
            return guest.run(code)
        finally:
            guest.close()
            self._guests.remove(guest)

    def close(self) -> None:
        for guest in self._guests:
            guest.close()
        for runtime in self._runtimes.values():
            self.portal.call(runtime.close())
        self.portal.close()


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("walled")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def house(directory: Path) -> Iterator[House]:
    house = House(directory)
    yield house
    house.close()


@pytest.fixture
def new_house(directory: Path) -> Iterator[Callable[[], House]]:
    """For tests that need a zygote of their own."""
    made: list[House] = []

    def make() -> House:
        made.append(House(directory))
        return made[-1]

    yield make
    for house in made:
        house.close()


@pytest.fixture
def open_guest(house: House) -> Iterator[Callable[..., Guest]]:
    """Opens guests that are closed after the test."""
    opened: list[Guest] = []

    def open_one(**options: Any) -> Guest:
        opened.append(house.open(**options))
        return opened[-1]

    yield open_one
    for guest in opened:
        guest.close()
        house._guests.remove(guest)


@pytest.fixture
def host_may_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What frozen branches hold, they are asked for."""
    refuse_to_look(monkeypatch)


@pytest.fixture
def attack(house: House) -> Callable[..., str]:
    """Runs code in a fresh guest (``without`` some walls); the last value's text, or the error's."""

    def run(code: str, **options: Any) -> str:
        result = house.run(code, **options)
        return str(result.error or result.verdict or result.result)

    return run


@pytest.fixture(scope="session")
def plain() -> Callable[..., Any]:
    """Runs code that prints JSON in a plain process of the host: behind no wall at all."""

    def run(code: str, **options: Any) -> Any:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            **options,
        )
        return json.loads(done.stdout)

    return run


@pytest.fixture
def front_is_alive() -> Iterator[None]:
    """Whatever a test does to its guest, this process takes no signal from it."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    assert signal.getsignal(signal.SIGUSR1) is before


@pytest.fixture(scope="session")
def marker() -> Iterator[Path]:
    """A file outside the guest's directory that anybody on the host may read."""
    path = Path("/var/tmp") / f"kernel-runtime-marker-{os.getpid()}"
    path.write_text("planted")
    path.chmod(0o644)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def listener() -> Iterator[int]:
    """A server on every address of the host that says ``planted``; its port."""
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        threading.Thread(target=_greet, args=(server,), daemon=True).start()
        yield server.getsockname()[1]


def _greet(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(b"planted")
