"""A state, names and a gate of its own for each test; servers of web pages, and of Redis, and a loop for proxies, for
each module that asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime.state import State
from kernel_runtime.workers.portal import Portal
from tests.broker import redis_server
from tests.broker.outside import LOCAL, Certificates, Names, gate, serving
from tests.broker.proxy_server import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kernel_runtime.broker.gate import Gate
    from tests.broker.outside import Server
    from tests.broker.proxy_server import Running
    from tests.broker.redis_server import RedisServer


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """With its master key in a file: a desktop's keyring is none of a test's business."""
    monkeypatch.delenv("KERNEL_RUNTIME_MASTER_KEY", raising=False)
    monkeypatch.setattr("kernel_runtime.broker.master._keyring", lambda: None)
    with State(tmp_path / "state", patience=0.0) as opened:
        yield opened


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    pytest.importorskip("redis")
    with redis_server.running() as started:
        yield started


@pytest.fixture
def empty_redis(redis: RedisServer) -> RedisServer:
    with redis.client() as client:
        client.flushall()
    return redis


@pytest.fixture
def names() -> Names:
    return Names(api_internal=LOCAL, other_internal=LOCAL, api_example_org=LOCAL)


@pytest.fixture
def mine(state: State) -> Gate:
    """Grants one of these names."""
    return gate(state, "net:api.internal:*")


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    portal = Portal()
    yield portal
    portal.close()


@pytest.fixture
def served(portal: Portal, mine: Gate, names: Names) -> Iterator[Running]:
    with running(portal, mine, names) as run:
        yield run


@pytest.fixture(scope="module")
def site() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"), "api.internal", "127.0.0.1")


@pytest.fixture(scope="module")
def safe_site(certificates: Certificates) -> Iterator[Server]:
    with serving(certificates.server) as server:
        yield server
