"""What the panels of one kernel work on: its guests, its rights, its logs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from kernel_runtime.jupyter.panels.logbook import LogBook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from kernel_runtime.broker.broker import Use
    from kernel_runtime.capabilities import SessionBroker
    from kernel_runtime.domain.clock import Clock
    from kernel_runtime.domain.log import LogRecord
    from kernel_runtime.domain.policy import Policy
    from kernel_runtime.domain.scopes import Scope
    from kernel_runtime.jupyter.guest import Guest
    from kernel_runtime.jupyter.panels.resource_view import Watched
    from kernel_runtime.jupyter.panels.rights import Gate, Rights, Trail


class Sources:
    """See the module. The rights are those of the broker that the guest asks, made now if it never did."""

    def __init__(self, guest: Guest) -> None:
        self.logs = LogBook()
        self._guest = guest
        self._broker: SessionBroker | None = None
        self._rights: Rights | None = None

    def guests(self) -> Mapping[str, Watched]:
        """The kernel's guest, by the name of its notebook."""
        session = self._guest.session
        return {} if session is None else {notebook_name(): cast("Watched", session)}

    async def rights(self) -> Rights:
        """What the guest may do; raises what keeps the state from being opened."""
        session: Any = self._guest.session or await self._guest.ready()
        broker = cast("SessionBroker", session.broker())
        if self._rights is None or broker is not self._broker:
            self._broker, self._rights = broker, rights_with(broker)
        return self._rights

    def records(self) -> Iterable[LogRecord]:
        """What the guest has logged, the newest first."""
        return () if self._broker is None else list(reversed(self._broker.logs.records))

    def said(self) -> Sequence[LogRecord]:
        """What the apps that it has called have logged and printed, the newest last."""
        return () if self._broker is None else self._broker.context.commons.said.records


def rights_with(broker: SessionBroker) -> Rights:
    """What the guest of a broker may do."""
    from kernel_runtime.broker.gate import host_clock

    return rights_of(
        broker.gate,
        lambda: broker.audit,
        host_clock,
        revoke=broker.revoke,
        principal=broker.caller.principal,
        session=broker.caller.session,
        policy=broker.held_policy,
        denied=lambda: broker.denied,
        usage=lambda: broker.usage,
    )


def rights_of(
    gate: Gate,
    trail: Callable[[], Trail],
    clock: Callable[[float], Clock],
    *,
    revoke: Callable[[Scope], Awaitable[int]],
    principal: str,
    session: str,
    policy: Callable[[], Policy],
    denied: Callable[[], Sequence[str]] = tuple,
    usage: Callable[[], Mapping[str, Use]] = dict,
) -> Rights:
    """The rights that a gate decides on, with this person's policy files to write to; ``policy`` reads all
    rules again, ``denied``: the scopes that the person has denied this session; ``usage``: what its calls came to."""
    from kernel_runtime.broker.approving import approve
    from kernel_runtime.broker.places import user_file
    from kernel_runtime.domain.rules import Layer
    from kernel_runtime.jupyter.panels.rights import Rights

    files = {"your policy": user_file(os.environ)}

    def approved(file: str, scopes: list[str]) -> Policy:
        approve(files[file], scopes, Layer.USER)
        return policy()

    return Rights(
        gate,
        trail,
        clock,
        revoke=revoke,
        principal=principal,
        session=session,
        files=files,
        approve=approved,
        denied=denied,
        usage=usage,
    )


def notebook_name() -> str:
    """What a person calls it."""
    return os.path.basename(os.environ.get("JPY_SESSION_NAME", "")) or "this kernel"
