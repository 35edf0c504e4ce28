"""The broker of one session, with the state that is opened for it."""

from __future__ import annotations

import functools
import os
import secrets
from typing import TYPE_CHECKING, cast

from kernel_runtime.broker.broker import Broker, Caller
from kernel_runtime.broker.flow import as_it_goes
from kernel_runtime.capabilities.context import Context
from kernel_runtime.capabilities.handlers import HANDLERS
from kernel_runtime.domain.journey import Journey, Stop
from kernel_runtime.domain.log import STREAM

if TYPE_CHECKING:
    from kernel_runtime.broker.commons import Commons
    from kernel_runtime.broker.flow import Carry
    from kernel_runtime.capabilities.powers import Powers
    from kernel_runtime.domain.disclosed import Disclosed
    from kernel_runtime.domain.log import Said
    from kernel_runtime.domain.policy import Policy
    from kernel_runtime.state import State
    from kernel_runtime.store.audit import AuditLog

#: Seconds that the loop waits for a database that another process writes; then it asks again.
_QUICK = 0.005


class SessionBroker(Broker):
    """The broker of one session, with what panels look at. Closes the state that was opened for it."""

    def __init__(self, context: Context, caller: Caller) -> None:
        self.context = context
        self.logs = context.logs
        super().__init__(
            context.gate,
            {name: functools.partial(make, context) for name, make in HANDLERS.items()},
            context.powers.person,
            caller=caller,
            redact=context.disclosed.text,
            on_close=context.state.close,
        )

    def held_policy(self) -> Policy:
        """All rules, read again."""
        return self.context.powers.held_policy(self.gate.manifest.level)

    def hear(self, said: Said) -> None:
        """Keep what its guest has printed, beside what it logs."""
        from kernel_runtime.broker.log import LogHandler, Write

        record = Write(level=said.level, message=said.text, fields={STREAM: said.stream})
        cast("LogHandler", self._handler(LogHandler.name)).keep(
            record, self.gate.manifest.id, self.caller.session
        )

    @property
    def audit(self) -> AuditLog:
        """The audit log, to be read."""
        return self.context.state.audit


def broker_for(
    powers: Powers,
    disclosed: Disclosed,
    commons: Commons,
    journey: Journey | None = None,
    carry: Carry = as_it_goes,
) -> SessionBroker:
    """Open the state, read what holds, and put the broker together. ``journey``: of a guest that is called; any
    other begins one. ``carry``: ``Account.carried`` of its session."""
    from kernel_runtime.state import State

    state = State()
    try:
        return _assembled(powers, state, disclosed, commons, journey, carry)
    except BaseException:
        state.close()
        raise


def _assembled(
    powers: Powers,
    state: State,
    disclosed: Disclosed,
    commons: Commons,
    journey: Journey | None,
    carry: Carry,
) -> SessionBroker:
    from kernel_runtime.broker.log import Logs
    from kernel_runtime.broker.secrets import Secrets

    gate = powers.gate(state, disclosed)
    state.wait_at_most(_QUICK)
    context = Context(
        state=state,
        gate=gate,
        disclosed=disclosed,
        secrets=Secrets(state.vault, disclosed),
        logs=Logs() if journey is None else commons.said,
        commons=commons,
        journey=journey or Journey(stops=(Stop(gate.manifest.id, os.path.realpath(gate.manifest.place)),)),
        powers=powers,
        broker_for=broker_for,
        carry=carry,
        space=f"{gate.manifest.id} {gate.manifest.holder}",
        directory=powers.directory,
    )
    caller = Caller(
        principal=state.principal, tenant=powers.tenant, session=f"{os.getpid()}-{secrets.token_hex(4)}"
    )
    return SessionBroker(context, caller)
