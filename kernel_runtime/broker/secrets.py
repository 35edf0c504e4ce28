"""Capability ``secrets``: a guest is given a granted secret's value, and all it says is freed of it from then on."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Annotated

import msgspec

from kernel_runtime.broker.arguments import Arguments, read
from kernel_runtime.broker.handler import Performed
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.scopes import Kind, Scope, make_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.broker.handler import Call, Demand
    from kernel_runtime.broker.vault import Vault
    from kernel_runtime.domain.disclosed import Disclosed


class Get(Arguments, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Secrets:
    """Opens secrets for one session; what it opened is known to ``disclosed`` before anybody has it.

    Also for handlers that use a secret on the host's side (a credential): ask ``demand`` first.
    """

    def __init__(self, vault: Callable[[], Vault], disclosed: Disclosed) -> None:
        self._make = vault
        self._vault: Vault | None = None
        self._disclosed = disclosed
        self._one = threading.Lock()

    async def open(self, name: str) -> bytes:
        """The value; ``NotFound`` when there is none of that name."""
        return await asyncio.to_thread(self.reveal, name)

    def reveal(self, name: str) -> bytes:
        """The same for handlers that work in threads of their own."""
        with self._one:
            value = self._get(name)
            self._disclosed.add(name, value)
        return value

    def close(self) -> None:
        if self._vault is not None:
            self._vault.forget()

    def _get(self, name: str) -> bytes:
        self._vault = self._vault or self._make()
        return self._vault.get(name)


class SecretsHandler:
    """``get``: the value of a secret that is granted (``secret:<name>``)."""

    name = "secrets"

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    async def perform(self, call: Call, demand: Demand) -> Performed:
        """Text where the value is UTF-8, bytes where it is not."""
        asked: Get = read(call, {"get": Get})
        await demand(Request(scope=secret_scope(asked.name)))
        value = await self._secrets.open(asked.name)
        try:
            return Performed(value=value.decode(), size=len(value))
        except UnicodeDecodeError:
            return Performed(value=value, size=len(value))

    async def close(self) -> None:
        self._secrets.close()


def secret_scope(name: str) -> Scope:
    """What must be granted to get the secret of that name; a name with wildcards is none."""
    return make_scope(Kind.SECRET, name)
