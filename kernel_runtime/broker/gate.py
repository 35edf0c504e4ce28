"""The gate: each request is decided, counted and written down in one transaction, or denied.

What a broker does with a request: ``ask`` → perform what was allowed → ``performed``. Between them
stands the person, where the decision is to ask: ``answer``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.audit import Entry
from kernel_runtime.domain.clock import Clock
from kernel_runtime.domain.conditions import Conditions, Quota
from kernel_runtime.domain.decide import Decision, Request, charged, decide, standing
from kernel_runtime.domain.errors import CapabilityDenied, KernelRuntimeError, StorageFailed
from kernel_runtime.domain.matching import Index
from kernel_runtime.domain.rules import Effect, Grant, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet

    from kernel_runtime.domain.counters import Count
    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.domain.policy import Policy
    from kernel_runtime.domain.scopes import Scope
    from kernel_runtime.ports import Ledger, Turn


def host_clock(latest: float) -> Clock:
    """The clock of this host, and the latest time that the log has seen."""
    now = time.time()
    offset = time.localtime(now).tm_gmtoff
    return Clock(now=now, latest=latest, monotonic=time.monotonic(), offset=offset)


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was decided. ``number``: of its audit record (0: it could not be written)."""

    request: Request
    decision: Decision
    number: int = 0

    def demand(self) -> None:
        """``CapabilityDenied`` unless it was allowed; the message says what to ask for."""
        if not self.decision.allowed:
            decision = self.decision.headless()
            raise CapabilityDenied(f"{self.request.scope}: {decision.reason} ({decision.rule})")


class Gate:
    """Decides for one app. ``headless``: nobody can be asked, so asking is denying. ``redact``: takes
    the values of secrets out of what is written down."""

    def __init__(
        self,
        manifest: Manifest,
        policy: Policy,
        ledger: Ledger,
        *,
        grants: Iterable[Grant] = (),
        clock: Callable[[float], Clock] = host_clock,
        headless: bool = False,
        redact: Callable[[str], str] = str,
    ) -> None:
        self.manifest = manifest
        self.policy = policy
        self.grants: Index[Grant] = Index(grants)
        self._ledger = ledger
        self._clock = clock
        self._headless = headless
        self._redact = redact
        self._heard = 0
        self._since: tuple[object, ...] = ()
        self._holding: dict[int, Request] = {}  # what has been found to hold since then, by identity

    def ask(self, request: Request) -> Ticket:
        """Decide a request. When that cannot be written down it is denied."""
        try:
            with self._ledger.turn() as turn:
                return self._asked(turn, request)
        except StorageFailed as error:
            return Ticket(request=request, decision=_unwritten(request, error))

    def holds(self, request: Request) -> bool:
        """Whether what was allowed would be now, however much of it was used up. Nothing is counted or written.

        What was taken back is known at once; rules are asked once a second, for it is time alone that changes what they say.
        """
        if self._ledger.revoked() != self._heard:
            self.renew()
        since = (self.grants, self.policy, int(time.monotonic()))
        if since != self._since:
            self._since, self._holding = since, {}
        if id(request) not in self._holding:
            if not self._would_hold(request):
                return False
            self._holding[id(request)] = request
        return True

    def _would_hold(self, request: Request) -> bool:
        with self._ledger.look() as turn:
            clock = self._clock(turn.latest)
        return decide(self.manifest, self.grants, self.policy, request, clock, {}).allowed

    def standing(self, request: Request) -> tuple[Index[Grant], dict[str, Count]]:
        """The grants that hold now for whoever makes ``request``, and what was counted for this app. Nothing is counted
        or written."""
        with self._ledger.look() as turn:
            own = f"{self.manifest.holder} "
            counts = {key: turn.counters[key] for key in turn.counters if key.startswith(own)}
            clock = self._clock(turn.latest)
        grants = standing(self.manifest, self.grants, self.policy, request, clock, counts)
        return Index(grants), counts

    def performed(self, ticket: Ticket, *, size: int = 0, duration: float = 0.0, error: str = "") -> None:
        """Write down what an allowed request came to: bytes, seconds, and how it failed if it did."""
        with self._ledger.turn() as turn:
            clock = self._clock(turn.latest)
            more = max(
                0, size - ticket.request.size
            )  # what it was known to take was counted when it was allowed
            turn.count(charged(ticket.decision, turn.counters, clock, more, calls=0))
            entry = self._entry("performed", ticket.request, ticket.decision)
            details = {
                "bytes": size,
                "duration": duration,
                "of": ticket.number,
                "reason": self._redact(error),
            }
            turn.append(msgspec.structs.replace(entry, **details), clock.now)

    def answer(self, ticket: Ticket, span: Span | None) -> Ticket:
        """What the person said to a request that asked: grant it (once, session, always) or ``None``, deny.

        The answer is written down, and the request decided again: a rule may deny it by now.
        """
        request = ticket.request
        with self._ledger.turn() as turn:
            self._hear(turn)
            clock = self._clock(turn.latest)
            said = Decision(
                effect=Effect.DENY if span is None else Effect.ALLOW,
                rule="the person" if span is None else f"the person ({span})",
                reason="denied when asked" if span is None else "an answer to a prompt",
                ask_for=str(request.scope),
            )
            record = turn.append(self._entry("answered", request, said), clock.now)
            if span is None:
                return Ticket(request=request, decision=said, number=record.number)
            grant = self._grant(request, span, record.number)
            if span is Span.ALWAYS:
                turn.grant(grant)
        self.grants = Index((*self.grants, grant))
        return self.ask(request)

    def recall(self, since: float = 0.0) -> None:
        """Bring back what the person granted this app always, in sessions before. ``since``: when this session
        began; what was revoked later is not granted by what it began with."""
        with self._ledger.turn() as turn:
            began = 0.0 if self._clock(turn.latest).in_doubt else since
            self._take_back(turn.withdrawn(self.manifest.holder, since=began))
            self._heard = turn.revoked
            self.grants = Index((*self.grants, *turn.granted(self.manifest.holder)))

    def renew(self) -> None:
        """Take back what was revoked in other sessions; each decision begins with that."""
        with self._ledger.look() as turn:
            self._hear(turn)

    def grant(self, request: Request, span: Span) -> None:
        """Give a capability before it is asked for, also one with wildcards, in the name of ``request``'s
        principal and session. A rule that denies it is not lifted."""
        with self._ledger.turn() as turn:
            self._hear(turn)
            said = Decision(effect=Effect.ALLOW, rule=f"the person ({span})", reason="given in advance")
            record = turn.append(self._entry("granted", request, said), self._clock(turn.latest).now)
            grant = self._grant(request, span, record.number)
            if span is Span.ALWAYS:
                turn.grant(grant)
        self.grants = Index((*self.grants, grant))

    def changed(self, things: Iterable[tuple[str, str]], rule: str, principal: str = "") -> None:
        """Write down what was done beside any decision: one record for each thing, a capability and a resource."""
        with self._ledger.turn() as turn:
            for capability, resource in things:
                entry = Entry(
                    event="changed",
                    principal=principal,
                    app=self.manifest.id,
                    version=self.manifest.version,
                    capability=capability,
                    resource=self._redact(resource),
                    rule=rule,
                    holder=self.manifest.holder,
                )
                turn.append(entry, self._clock(turn.latest).now)

    def revoke(self, scope: Scope) -> int:
        """Take back grants of exactly this scope, in all sessions of this app; how many there were in this one."""
        revoked = self._take_back(
            {scope}
        )  # before it is written down: what cannot be is taken back all the same
        with self._ledger.turn() as turn:
            entry = Entry(
                event="revoked",
                app=self.manifest.id,
                version=self.manifest.version,
                capability=scope.kind,
                resource=_resource(scope),
                decision=Effect.DENY,
                rule="the person (revoked)",
                holder=self.manifest.holder,
            )
            record = turn.append(entry, self._clock(turn.latest).now)
            turn.withdraw(self.manifest.holder, scope, record)
        return revoked

    def _hear(self, turn: Turn) -> None:
        """Take back what was revoked since the last look, in whichever session. It costs nothing where nothing was."""
        if turn.revoked != self._heard:
            self._take_back(turn.withdrawn(self.manifest.holder, after=self._heard))
            self._heard = turn.revoked

    def _take_back(self, scopes: AbstractSet[Scope]) -> int:
        kept = [grant for grant in self.grants if grant.scope not in scopes]
        taken = len(self.grants) - len(kept)
        if taken:
            self.grants = Index(kept)
        return taken

    def _asked(self, turn: Turn, request: Request) -> Ticket:
        self._hear(turn)
        clock = self._clock(turn.latest)
        decision = decide(self.manifest, self.grants, self.policy, request, clock, turn.counters)
        if self._headless:
            decision = decision.headless()
        if decision.charges:
            turn.count(charged(decision, turn.counters, clock, request.size))
        record = turn.append(self._entry("decision", request, decision), clock.now)
        return Ticket(request=request, decision=decision, number=record.number)

    def _entry(self, event: str, request: Request, decision: Decision) -> Entry:
        return Entry(
            event=event,
            principal=request.principal,
            tenant=request.tenant,
            app=self.manifest.id,
            version=self.manifest.version,
            capability=request.scope.kind,
            resource=self._redact(_resource(request.scope)),
            decision=decision.effect,
            rule=self._redact(decision.rule),
            reason=self._redact(decision.reason),
            holder=self.manifest.holder,
        )

    def _grant(self, request: Request, span: Span, number: int) -> Grant:
        once = Conditions(quota=Quota(calls=1)) if span is Span.ONCE else Conditions()
        return Grant(
            scope=request.scope,
            conditions=once,
            app=self.manifest.holder,
            version=self.manifest.stamp,
            principal=request.principal,
            session="" if span is Span.ALWAYS else request.session,
            span=span,
            place=f"answer {number}",
        )


def _unwritten(request: Request, error: KernelRuntimeError) -> Decision:
    return Decision(
        effect=Effect.DENY,
        rule="the audit log",
        reason=f"what cannot be written down is not allowed: {error}",
        ask_for=str(request.scope),
    )


def _resource(scope: Scope) -> str:
    return str(scope).removeprefix(scope.kind).removeprefix(":")
