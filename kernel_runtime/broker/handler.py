"""What performs allowed requests: one handler a capability, outside the walls, on the front's loop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernel_runtime.broker.gate import Ticket
    from kernel_runtime.domain.decide import Request

#: Decide one request, with the person where they are to be asked: an allowed ticket, or ``CapabilityDenied``.
#: A handler demands before each thing it does in the world (each redirect, each file), never once for all.
Demand: TypeAlias = "Callable[[Request], Awaitable[Ticket]]"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest asked of a handler, decoded but not believed: ``action`` and ``arguments`` are checked by it.

    ``principal``, ``tenant``, ``session``, ``app`` are the host's own knowledge.
    """

    capability: str
    action: str
    arguments: dict[str, Any] = {}
    app: str = ""
    principal: str = ""
    tenant: str = ""
    session: str = ""


class Performed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call: plain data (MessagePack: bytes, text, numbers, lists, maps), and bytes moved for quotas.
    ``descriptors``: open files that go beside the answer, at most one; the broker closes its own copy."""

    value: Any = None
    size: int = 0
    descriptors: tuple[int, ...] = ()

    def close(self) -> None:
        """Nobody gets it: its descriptors are let go."""
        for descriptor in self.descriptors:
            os.close(descriptor)


class Handler(Protocol):
    """Performs the calls of one capability (``http``, ``files``, ``db``, …)."""

    name: str

    async def perform(self, call: Call, demand: Demand) -> Performed:
        """Do it, or raise: ``Invalid`` for what was asked wrongly, ``CapabilityDenied`` from ``demand``, any other
        ``KernelRuntimeError`` with the reason. Cancelled when the guest goes or gives up."""

    async def close(self) -> None:
        """Let go of connections and files; idempotent."""
