"""Requests of the host for tests, decided by a gate, to names that lead where tests say."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from kernel_runtime.broker.handler import Call, Performed
from kernel_runtime.broker.http import Http
from tests.broker.outside import Names, demand_of, in_loop

if TYPE_CHECKING:
    from kernel_runtime.broker.gate import Gate


def perform(mine: Gate, names: Names, *calls: dict[str, Any], **options: Any) -> list[Performed]:
    """The calls one after another, through one handler."""

    async def run() -> list[Performed]:
        handler = Http(resolver=names.resolver(ttl=0), backoff=0.001, **options)
        try:
            return [
                await handler.perform(
                    Call(capability="http", action="request", arguments=arguments, session="s1"),
                    demand_of(mine),
                )
                for arguments in calls
            ]
        finally:
            await handler.close()

    found: list[Performed] = in_loop(run())
    return found


def perform_together(mine: Gate, names: Names, *calls: dict[str, Any]) -> list[Performed | BaseException]:
    """The calls at the same time, and then the last one."""
    *others, last = [Call(capability="http", action="request", arguments=arguments) for arguments in calls]

    async def run() -> list[Performed | BaseException]:
        handler = Http(resolver=names.resolver(ttl=0))
        performing = (handler.perform(call, demand_of(mine)) for call in others)
        try:
            found = await asyncio.gather(*performing, return_exceptions=True)
            return [*found, await handler.perform(last, demand_of(mine))]
        finally:
            await handler.close()

    found: list[Performed | BaseException] = in_loop(run())
    return found


def fetch(mine: Gate, names: Names, url: str, **arguments: Any) -> dict[str, Any]:
    options = {name: arguments.pop(name) for name in ("secrets", "context") if name in arguments}
    [performed] = perform(mine, names, {"url": url, **arguments}, **options)
    value: dict[str, Any] = performed.value
    return value


def echoed(answer: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(answer["content"])
    return said
