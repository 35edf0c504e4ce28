"""Which cache a session has: the operator's choice, which no guest makes or learns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker.caches import Server, load_cache, parse_cache
from kernel_runtime.broker.commons import Commons
from kernel_runtime.capabilities import Powers, broker_for
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.errors import Invalid, KernelRuntimeError
from tests.broker.redis_server import PASSWORD

if TYPE_CHECKING:
    from pathlib import Path

    from kernel_runtime.state import State
    from tests.broker.redis_server import RedisServer

VALUE = "a value that nobody else may read"


def on_server(server: RedisServer) -> bytes:
    """All values there."""
    with server.client() as client:
        return b"".join(client.get(key) for key in client.keys("*:value:*"))


def place(tmp_path: Path, who: str, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / who / "kernel-runtime" / "cache.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(mode)
    return path.parent / "policy.toml"


def test_the_machines_choice_goes_before_the_persons(tmp_path: Path) -> None:
    mine = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert load_cache(mine, system=tmp_path / "none" / "policy.toml") is None
    place(tmp_path, "config", "[cache]\nurl = 'redis://mine'")
    assert load_cache(mine, system=tmp_path / "none" / "policy.toml") == Server(url="redis://mine")
    system = place(tmp_path, "etc", "[cache]\nurl = 'valkey://machine'\nsecret = 'PIN'")
    assert load_cache(mine, system=system) == Server(url="valkey://machine", secret="PIN")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[cache]\nurl = 5", r"c.toml:2"),
        ("[cache]\nsecret = 'x'", "url"),
        ("[cache]\nurl = 'redis://h'\nurll = 'y'", "no key is called 'urll'"),
        ("[other]\nurl = 'redis://h'", "other"),
        ("[cache]\nurl = 'http://h'", "begins with redis://"),
        ("[cache", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        parse_cache(text, "c.toml")


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("[cache]\nurl = 'redis://u:pin@h'", 0o644, "others may read this password"),
        ("[cache]\nurl = 'unix:///s?password=pin'", 0o640, "others may read this password"),
        ("[cache]\nurl = 'redis://h'", 0o666, "other users may write"),
    ],
)
def test_a_choice_that_cannot_be_relied_on_is_refused(
    tmp_path: Path, text: str, mode: int, said: str
) -> None:
    system = place(tmp_path, "etc", text, mode)
    with pytest.raises(Invalid, match=said):
        load_cache({"XDG_CONFIG_HOME": str(tmp_path / "none")}, system=system)
    (system.parent / "cache.toml").chmod(0o600)
    assert load_cache({"XDG_CONFIG_HOME": str(tmp_path / "none")}, system=system) is not None  # the control


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_session_takes_the_server_that_the_operator_named(
    tmp_path: Path, empty_redis: RedisServer, state: State, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    """Its password is a secret; an app that asks for encryption has what it caches sealed."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(state.directory))
    place(tmp_path, "config", f"[cache]\nurl = '{empty_redis.url}'\nsecret = 'CACHE_PASSWORD'")
    state.vault().set("CACHE_PASSWORD", PASSWORD.encode())
    manifest = tmp_path / "app.toml"
    manifest.write_text(f"id = 'app'\n[security]\ndata_encryption = {str(encrypted).lower()}")
    powers = Powers(manifest=str(manifest), allow=("cache",), directory=str(tmp_path))
    disclosed = Disclosed()

    async def told() -> None:
        broker = broker_for(powers, disclosed, Commons())
        await broker.call("cache", "set", {"key": "x", "value": VALUE})
        await broker.call("storage", "set", {"key": "x", "value": VALUE})
        await broker.close()
        again = broker_for(powers, Disclosed(), Commons())
        for capability in ("cache", "storage"):
            found = (await again.call(capability, "get", {"key": "x"})).value
            assert found == {"found": True, "value": VALUE}
        await again.close()

    asyncio.run(told())
    there = on_server(empty_redis)
    on_disk = (state.directory / "storage.db").read_bytes()
    assert there
    assert [VALUE.encode() in place for place in (there, on_disk)] == [not encrypted] * 2
    assert disclosed.text(PASSWORD) == "[secret CACHE_PASSWORD]"


def test_without_the_secret_there_is_no_cache(
    tmp_path: Path, empty_redis: RedisServer, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the embedded one instead, unseen."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(state.directory))
    place(tmp_path, "config", f"[cache]\nurl = '{empty_redis.url}'\nsecret = 'NONE'")

    async def told() -> None:
        broker = broker_for(Powers(allow=("cache",), directory=str(tmp_path)), Disclosed(), Commons())
        with pytest.raises(KernelRuntimeError, match="NONE"):
            await broker.call("cache", "set", {"key": "x", "value": VALUE})
        await broker.close()

    asyncio.run(told())
    assert on_server(empty_redis) == b""
