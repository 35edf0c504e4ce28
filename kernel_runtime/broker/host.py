"""Capabilities ``clock`` and ``env``: the host's time, and single variables of its environment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import msgspec

from kernel_runtime.broker.arguments import Arguments, read
from kernel_runtime.broker.handler import Performed
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.scopes import Kind, make_scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernel_runtime.broker.handler import Call, Demand


class Now(Arguments, frozen=True, kw_only=True):
    pass


class Get(Arguments, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class ClockHandler:
    """``now``: seconds since 1970, and the local time's distance from UTC."""

    name = "clock"

    async def perform(self, call: Call, demand: Demand) -> Performed:
        """Asks for ``clock``."""
        read(call, {"now": Now})
        await demand(Request(scope=make_scope(Kind.CLOCK, "")))
        now = time.time()
        return Performed(value={"now": now, "offset": time.localtime(now).tm_gmtoff})

    async def close(self) -> None:
        """Nothing to let go."""


class EnvHandler:
    """``get``: a variable of the host's environment, by ``env:<name>``."""

    name = "env"

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    async def perform(self, call: Call, demand: Demand) -> Performed:
        """``NotFound`` when it is not set, once that may be known."""
        asked: Get = read(call, {"get": Get})
        await demand(Request(scope=make_scope(Kind.ENV, asked.name)))
        if asked.name not in self._environment:
            raise NotFound(f"env: {asked.name} is not set")
        return Performed(value=self._environment[asked.name])

    async def close(self) -> None:
        """Nothing to let go."""
