"""What one app may do, as a person sees it: what it asked, how that stands, and what can be changed.

Plain objects do the work: a gate that decides, the audit log beside it, and policy files.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from kernel_runtime.domain.audit import Record
from kernel_runtime.domain.decide import Request, decide
from kernel_runtime.domain.errors import Conflict, Invalid, StorageFailed
from kernel_runtime.domain.matching import Index
from kernel_runtime.domain.outlook import prospect
from kernel_runtime.domain.rules import Ask, Effect, Grant, Span
from kernel_runtime.domain.scopes import Kind, parse_scope
from kernel_runtime.domain.suggestion import Suggestion, suggest, usual
from kernel_runtime.jupyter.spent import in_session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

    from kernel_runtime.broker.broker import Use
    from kernel_runtime.domain.clock import Clock
    from kernel_runtime.domain.counters import Count
    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.domain.policy import Policy
    from kernel_runtime.domain.scopes import Scope

#: Records that are looked through, the newest; rights that are listed.
MOST_RECORDS, MOST_RIGHTS = 2000, 100
#: Who decides what was denied when it was asked.
BY_PERSON = "the person, for this session"
_NOTHING = parse_scope("clock")


class Gate(Protocol):
    """The part of ``broker.gate.Gate`` that is used."""

    manifest: Manifest
    policy: Policy
    grants: Index[Grant]

    def grant(self, request: Request, span: Span) -> None: ...
    def changed(self, things: Iterable[tuple[str, str]], rule: str, principal: str = "") -> None: ...
    def standing(self, request: Request) -> tuple[Index[Grant], dict[str, Count]]: ...
    def renew(self) -> None: ...


class Trail(Protocol):
    """The part of ``store.audit.AuditLog`` that is used."""

    def records(
        self, equal: Mapping[str, str] | None = None, *, since: float = 0.0, last: int | None = None
    ) -> Iterable[Record]: ...


class Right(msgspec.Struct, frozen=True, kw_only=True):
    """One scope: how it stands, by which rule. ``why``: the manifest's words; ``times``: how often it was
    requested lately, ``bytes``, ``seconds`` and ``failed``: what came of that; ``declared``: no manifest leaves it out; ``granted``: by a person, who may revoke it; ``grantable``: a grant would allow it.
    """

    scope: str
    effect: Effect
    rule: str
    why: str = ""
    times: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failed: int = 0
    declared: bool = False
    granted: bool = False
    grantable: bool = False


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """All that the panel shows, of one moment. ``records``: the newest first."""

    rights: list[Right] = []
    records: list[Record] = []
    suggestion: Suggestion = Suggestion(allow=(), undeclared=(), refused=())


class Came(NamedTuple):
    """What requests of one scope came to."""

    bytes: int = 0
    seconds: float = 0.0
    failed: int = 0

    def and_of(self, record: Record) -> Came:
        """With one more of them."""
        failed = self.failed + bool(record.reason)
        return Came(self.bytes + record.bytes, self.seconds + record.duration, failed)


class _Now(NamedTuple):
    """What decides at one moment: grants that hold, what was counted, what the person has denied this session."""

    grants: Index[Grant]
    counts: Mapping[str, Count]
    denied: frozenset[Scope]


class Rights:
    """The rights of one app. What reads may block on the disk: call it beside the loop. ``grant``, ``renew``
    and ``revoke`` belong into the loop, where the broker changes the gate, too."""

    def __init__(
        self,
        gate: Gate,
        trail: Callable[[], Trail],
        clock: Callable[[float], Clock],
        *,
        revoke: Callable[[Scope], Awaitable[int]],
        principal: str = "",
        session: str = "",
        files: Mapping[str, Path] | None = None,
        approve: Callable[[str, list[str]], Policy] | None = None,
        denied: Callable[[], Iterable[str]] = tuple,
        usage: Callable[[], Mapping[str, Use]] = dict,
    ) -> None:
        """``revoke`` takes back grants, in all sessions of the app. ``files``: policy files that may be written to, by
        name; ``approve`` writes scopes to one and gives the policy that holds then. ``denied``: the scopes that the
        person has denied this session; ``usage``: what its calls came to, by capability."""
        self.gate = gate
        self.files = dict(files or {})
        self._trail = trail
        self._clock = clock
        self._revoke = revoke
        self._principal = principal
        self._session = session
        self._approve = approve
        self._denied = denied
        self._usage = usage

    @property
    def app(self) -> str:
        return self.gate.manifest.title

    def used(self) -> str:
        """What its calls came to in this session, in words."""
        return in_session(self._usage())

    def newest(self) -> int:
        """The number of the newest record."""
        return max((record.number for record in self._trail().records(last=1)), default=0)

    def read(self) -> Reading:
        """How it all stands now."""
        newest_first = self.records()
        records = newest_first[::-1]
        return Reading(rights=self.rights(records), records=newest_first, suggestion=suggest(records))

    def records(self) -> list[Record]:
        """Its audit trail, the newest first; not that of others which call themselves the same."""
        equal = {"holder": self.gate.manifest.holder}
        return list(self._trail().records(equal, last=MOST_RECORDS))[::-1]

    def rights(self, records: Iterable[Record]) -> list[Right]:
        """What is declared, granted or was requested."""
        requested: Counter[Scope] = Counter()
        came: dict[Scope, Came] = {}
        for record in records:
            scope = _scope(record) if record.event in ("decision", "performed") else None
            if scope is not None and record.event == "decision":
                requested[scope] += 1
            elif scope is not None:
                came[scope] = came.get(scope, Came()).and_of(record)
        now = self._now()
        asks: dict[Scope, Ask | None] = {ask.scope: ask for ask in self.gate.manifest.asks or ()}
        for scope in (*(grant.scope for grant in now.grants), *(s for s, _ in requested.most_common())):
            asks.setdefault(scope, None)
        listed = list(asks.items())[:MOST_RIGHTS]
        return [
            self._right(scope, ask, requested[scope], came.get(scope, Came()), now) for scope, ask in listed
        ]

    def grant(self, scope: str, span: Span) -> str:
        """Grant it; ``Conflict`` where that would not help."""
        parsed = parse_scope(scope)
        now = self._now()
        if not self._grantable(parsed, now):
            _, rule = self._stands(parsed, now)
            raise Conflict(f"a grant would not help: {rule} decides")
        self.gate.grant(self._request(parsed), span)
        span_text = "for this session" if span is Span.SESSION else "always, for this version"
        return f"granted {span_text}: {scope}"

    def renew(self) -> None:
        """Take in what was revoked in other sessions, if the state can be read just now."""
        with contextlib.suppress(StorageFailed):
            self.gate.renew()

    async def revoke(self, scope: str) -> str:
        """Take back what a person granted."""
        count = await self._revoke(parse_scope(scope))
        return (
            f"revoked: {scope}, in every session of this app"
            if count
            else f"no person has granted it: {scope}"
        )

    def approve(self, file: str, scopes: list[str]) -> str:
        """Write scopes to a policy file; they hold from now on."""
        if self._approve is None or file not in self.files:
            raise Conflict("there is no policy file to write to here")
        if not scopes:
            raise Conflict("tick what is to be allowed first")
        self.gate.policy = self._approve(file, scopes)
        self.gate.changed(
            [("policy", scope) for scope in scopes], f"allowed in {self.files[file]}", self._principal
        )
        lines = "1 line" if len(scopes) == 1 else f"{len(scopes)} lines"
        return f"{lines} written to {self.files[file]}: they hold from now on, also for other apps"

    def _right(self, scope: Scope, ask: Ask | None, times: int, came: Came, now: _Now) -> Right:
        effect, rule = self._stands(scope, now)
        return Right(
            scope=str(scope),
            effect=effect,
            rule=rule,
            why=ask.reason if ask else "",
            times=times,
            **came._asdict(),
            declared=ask is not None or self.gate.manifest.asks is None,
            granted=any(grant.scope == scope for grant in now.grants),
            grantable=effect is not Effect.ALLOW and self._grantable(scope, now),
        )

    def _now(self) -> _Now:
        grants, counts = self.gate.standing(
            Request(scope=_NOTHING, principal=self._principal, session=self._session)
        )
        denied = {usual(parse_scope(scope)) for scope in self._denied()}
        return _Now(grants, counts, frozenset(denied))

    def _grantable(self, scope: Scope, now: _Now) -> bool:
        """Whether a grant would make it allowed."""
        mine = Index((*now.grants, Grant(scope=scope)))
        return self._stands(scope, now._replace(grants=mine))[0] is Effect.ALLOW

    def _stands(self, scope: Scope, now: _Now) -> tuple[Effect, str]:
        """What would become of it now, and what decides; nothing is counted or written down."""
        gate = self.gate
        if scope.is_concrete and not (scope.kind is Kind.NET and not scope.port):
            request = self._request(scope)
            decision = decide(gate.manifest, now.grants, gate.policy, request, self._clock(0.0), now.counts)
            effect, rule = decision.effect, decision.rule
        else:
            found = prospect(Ask(scope=scope), now.grants, gate.policy)
            effect, rule = found.effect, f"{found.rule}{'; but ' + '; '.join(found.but) if found.but else ''}"
        if effect is Effect.ASK and usual(scope) in now.denied:
            return Effect.DENY, BY_PERSON
        return effect, rule

    def _request(self, scope: Scope) -> Request:
        return Request(scope=scope, principal=self._principal, session=self._session)


def _scope(record: Record) -> Scope | None:
    """What was decided on, as a rule would say it. A wildcard that was asked for is none: it
    was refused, and granted here it would be more than anybody can ask."""
    try:
        scope = parse_scope(
            f"{record.capability}:{record.resource}" if record.resource else record.capability
        )
    except Invalid:
        return None
    if not scope.is_concrete:
        return None
    return usual(scope)


def matching(records: Iterable[Record], text: str, event: str = "") -> list[Record]:
    """Those whose words hold every word of ``text``, in any case."""
    words = text.casefold().split()
    return [
        record
        for record in records
        if (not event or record.event == event) and all(word in _words(record) for word in words)
    ]


def _words(record: Record) -> str:
    fields = (record.event, record.principal, record.tenant, record.app, record.decision, record.rule)
    return " ".join(
        (*fields, record.reason, f"{record.capability}:{record.resource}", str(record.number))
    ).casefold()
