"""Guests, rights and questions without walls, for panels."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.manifest import Anchors, parse_manifest
from kernel_runtime.domain.policy import Policy, Source
from kernel_runtime.domain.rules import Effect, Layer, Rule
from kernel_runtime.domain.scopes import parse_request, parse_scope
from kernel_runtime.domain.usage import Usage
from kernel_runtime.jupyter.panels.sources import rights_of
from tests.jupyter.panels.boards import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.jupyter.panels.rights import Rights
    from kernel_runtime.state import State

MANIFEST = f"""
id = "weather"
name = "Weather {HOSTILE.replace('"', "'")}"
version = "1.2"

[[permissions]]
type = "net"
resource = "api.example.org"
actions = ["GET"]
reason = "to fetch forecasts {HOSTILE.replace('"', "'")}"

[[permissions]]
type = "cache"
reason = "to keep them"

[[permissions]]
type = "secret"
resource = "API_KEY"
"""


class FakeGuest:
    """Obeys ``resource_view.Watched``; remembers what was asked of it."""

    def __init__(self, **amounts: Any) -> None:
        self.paused = self.executing = False
        self.partial: dict[str, str] = {}
        self.asked: list[Any] = []
        self.amounts: dict[str, Any] = {"limits": Limits(memory=1000), **amounts}

    async def usage(self) -> Usage:
        return Usage(**self.amounts)

    async def pause(self) -> int:
        self.paused = True
        return 2048

    def resume(self) -> None:
        self.paused = False

    def interrupt(self) -> None:
        self.asked.append("interrupt")

    def throttle(self, cpus: float | None) -> None:
        self.asked.append(("throttle", cpus))

    async def kill(self) -> None:
        self.asked.append("kill")


def gate_of(state: State, place: str = "here") -> Any:
    """A gate of the manifest above, lying in that place: the cache is allowed by a rule, the secret denied by one."""
    rules = (
        Rule(effect=Effect.ALLOW, scope=parse_scope("cache"), place="policy.toml:1"),
        Rule(effect=Effect.DENY, scope=parse_scope("secret:*"), place=f"policy.toml:2 {HOSTILE}"),
    )
    policy = Policy([Source(name="policy.toml", layer=Layer.USER, rules=rules)])
    manifest = replace(parse_manifest(MANIFEST, "app.toml", Anchors()), holder=place)
    return state.gate(manifest, policy)


def rights_in(state: State, place: str = "here") -> Rights:
    """Its rights, over a real log."""
    from kernel_runtime.broker.broker import Broker
    from kernel_runtime.broker.gate import host_clock
    from kernel_runtime.broker.policies import load_policy

    gate = gate_of(state, place)
    return rights_of(
        gate,
        lambda: state.audit,
        host_clock,
        revoke=Broker(gate, {}).revoke,
        principal="ann",
        session="s1",
        policy=lambda: load_policy(Path.cwd(), os.environ),
    )


def request(text: str = "net:api.example.org/GET") -> Request:
    return Request(scope=parse_request(text), principal="ann", session="s1")


async def press(acting: Any, button: Any) -> str:
    """Press a button that can be pressed; what the panel says then."""
    assert not button.disabled, button.description
    button.click()
    if acting.task is not None:
        await acting.task
    return str(acting.said.value)


async def until(holds: Callable[[], Any]) -> None:
    """Until something is so; how long that takes is nobody's business here."""
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.005)


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(story())
