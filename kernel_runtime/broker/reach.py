"""May this be requested, and at which addresses? Decided by name, resolved once, each address looked at.

Whoever answers for a public name could let it lead into the owner's network: what is not the open internet
is reached by a name that means it (``localhost``, ``wiki.internal``, an address), or when the address itself
is granted too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.addresses import LINK_LOCAL, METADATA, why_closed
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import CapabilityDenied, Invalid
from kernel_runtime.domain.hosts import is_public_name
from kernel_runtime.domain.scopes import Kind, make_scope

if TYPE_CHECKING:
    from kernel_runtime.broker.gate import Ticket
    from kernel_runtime.broker.handler import Demand
    from kernel_runtime.broker.resolver import Resolver
    from kernel_runtime.broker.target import Target


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What was allowed: the addresses are the only ones to connect to."""

    ticket: Ticket
    target: Target
    addresses: tuple[str, ...]


async def reach(target: Target, method: str, demand: Demand, resolver: Resolver, size: int = 0) -> Reached:
    """``CapabilityDenied`` with what to ask for, unless name and addresses are allowed."""
    request = Request(scope=target.scope(method), arguments=target.arguments, size=size)
    ticket = await demand(request)
    addresses = await resolver.resolve(target.host)
    for address in addresses:
        if kind := _foreign(target.host, address):
            await _demand_address(address, kind, target, request, demand)
    return Reached(ticket=ticket, target=target, addresses=addresses)


def _foreign(host: str, address: str) -> str:
    """Why the grant of a name does not open this address; empty when it does."""
    try:
        kind = why_closed(address)
    except ValueError:
        return "no address at all"
    if host == address or not kind:
        return ""
    named = not is_public_name(host) and kind not in (METADATA, LINK_LOCAL)
    return "" if named else kind


async def _demand_address(address: str, kind: str, target: Target, request: Request, demand: Demand) -> None:
    where = f"{target.host} leads to {address.partition('%')[0]}, {kind}"
    try:
        scope = make_scope(Kind.NET, address, request.scope.action, request.scope.port)
        await demand(msgspec.structs.replace(request, scope=scope))
    except (CapabilityDenied, Invalid) as error:
        raise CapabilityDenied(f"{where}: refused unless the address is granted as well: {error}") from None
