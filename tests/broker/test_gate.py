"""The gate: decided, counted and written down together, or denied."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker import gate as module
from kernel_runtime.broker.gate import Gate, host_clock
from kernel_runtime.domain.clock import Clock
from kernel_runtime.domain.conditions import Conditions, Quota, Rate
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import CapabilityDenied, StorageFailed
from kernel_runtime.domain.manifest import undeclared
from kernel_runtime.domain.policy import Policy, Source
from kernel_runtime.domain.redaction import Redactor
from kernel_runtime.domain.rules import Effect, Grant, Layer, Rule, Span
from kernel_runtime.domain.scopes import parse_request, parse_scope
from kernel_runtime.state import State

if TYPE_CHECKING:
    from pathlib import Path


def request(text: str = "cache", **fields: Any) -> Request:
    return Request(scope=parse_request(text), principal="ann", session="s1", **fields)


def policy(**conditions: Any) -> Policy:
    rule = Rule(
        effect=Effect.ALLOW, scope=parse_scope("cache"), conditions=Conditions(**conditions), place="p:1"
    )
    return Policy([Source(name="p", layer=Layer.USER, rules=(rule,))])


def gate(state: State, rules: Policy | None = None, **options: Any) -> Gate:
    return state.gate(undeclared("app"), rules or Policy(), **options)


def written(state: State) -> list[tuple[str, str, str]]:
    return [(record.event, record.capability, record.decision) for record in state.audit.records()]


def test_every_decision_is_written_down(state: State) -> None:
    mine = gate(state, policy())
    assert mine.ask(request()).decision.allowed
    assert mine.ask(request("clock")).decision.effect is Effect.ASK
    assert written(state) == [("decision", "cache", "allow"), ("decision", "clock", "ask")]
    record = next(iter(state.audit.records()))
    assert (record.principal, record.app, record.rule) == ("ann", "app", "allow cache, p:1")
    assert state.audit.verify().troubles == ()


def test_what_was_performed_is_written_down_with_bytes_and_seconds(state: State) -> None:
    mine = gate(state, policy(quota=Quota(bytes=100)))
    ticket = mine.ask(request())
    mine.performed(ticket, size=100, duration=0.5)
    last = list(state.audit.records())[-1]
    assert (last.event, last.of, last.bytes, last.duration) == ("performed", ticket.number, 100, 0.5)
    assert not mine.ask(request()).decision.allowed


def test_a_denied_request_raises_what_to_ask_for(state: State) -> None:
    ticket = gate(state, headless=True).ask(request("net:api.example.org/GET"))
    assert ticket.decision.effect is Effect.DENY
    with pytest.raises(CapabilityDenied, match=r"--allow net:api.example.org:443/GET"):
        ticket.demand()
    gate(state, policy()).ask(request()).demand()


def test_what_cannot_be_written_down_is_denied(state: State, tmp_path: Path) -> None:
    mine = gate(state, policy())
    other = sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ticket = mine.ask(request())
    assert ticket.decision.effect is Effect.DENY
    assert "locked" in ticket.decision.reason
    with pytest.raises(StorageFailed):
        mine.performed(ticket)
    other.execute("ROLLBACK")
    other.close()
    assert mine.ask(request()).decision.allowed


def test_a_full_log_denies(state: State) -> None:
    mine = gate(state, policy())
    with state.ledger.database.reading() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    tickets = [mine.ask(request()) for _ in range(200)]
    denied = [ticket for ticket in tickets if not ticket.decision.allowed]
    assert denied
    assert all("full" in ticket.decision.reason for ticket in denied)
    assert len(written(state)) == len(tickets) - len(denied)
    assert state.audit.verify().troubles == ()


def test_counts_survive_the_process(state: State, tmp_path: Path) -> None:
    rules = policy(quota=Quota(calls=2))
    assert gate(state, rules).ask(request()).decision.allowed
    with State(tmp_path / "state") as later:
        assert gate(later, rules).ask(request()).decision.allowed
        assert not gate(later, rules).ask(request()).decision.allowed


def test_a_quota_holds_when_many_ask_at_once(tmp_path: Path) -> None:
    """Each with a connection of its own, as processes have."""
    allowed: list[bool] = []

    def ask_often() -> None:
        with State(tmp_path / "state", patience=60.0) as own:
            mine = gate(own, policy(quota=Quota(calls=10)))
            allowed.extend(mine.ask(request()).decision.allowed for _ in range(10))

    threads = [threading.Thread(target=ask_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(allowed), sum(allowed)) == (40, 10)
    with State(tmp_path / "state") as state:
        assert state.audit.verify().troubles == ()


def test_a_rate_is_counted_with_a_clock_nobody_sets(state: State) -> None:
    ticks = [0.0]
    mine = gate(
        state,
        policy(rate=Rate(1, 10.0)),
        clock=lambda latest: Clock(now=5.0, latest=latest, monotonic=ticks[0]),
    )
    assert mine.ask(request()).decision.allowed
    assert not mine.ask(request()).decision.allowed
    ticks[0] = 10.0
    assert mine.ask(request()).decision.allowed


def test_the_clock_that_went_back_is_known_from_the_log(state: State) -> None:
    now = [1000.0]

    def clock(latest: float) -> Clock:
        return Clock(now=now[0], latest=latest)

    grants = [Grant(scope=parse_scope("cache"), conditions=Conditions(until=2000.0))]
    mine = gate(state, grants=grants, clock=clock)
    assert mine.ask(request()).decision.allowed
    now[0] = 2500.0
    assert not mine.ask(request()).decision.allowed
    now[0] = 1000.0
    assert not mine.ask(request()).decision.allowed


@pytest.mark.parametrize(
    ("span", "again", "elsewhere"),
    [(Span.ONCE, False, False), (Span.SESSION, True, False), (Span.ALWAYS, True, True)],
)
def test_an_answer_holds_for_its_span(state: State, span: Span, again: bool, elsewhere: bool) -> None:
    mine = gate(state)
    asked = mine.ask(request())
    assert asked.decision.effect is Effect.ASK
    assert mine.answer(asked, span).decision.allowed
    assert mine.ask(request()).decision.allowed is again
    other = Request(scope=parse_request("cache"), principal="ann", session="s2")
    assert mine.ask(other).decision.allowed is elsewhere
    assert ("answered", "cache", "allow") in written(state)


def test_once_may_be_given_again(state: State) -> None:
    mine = gate(state)
    for _ in range(3):
        assert mine.answer(mine.ask(request()), Span.ONCE).decision.allowed
        assert not mine.ask(request()).decision.allowed


def test_an_answer_of_no_denies_and_is_written_down(state: State) -> None:
    mine = gate(state)
    assert mine.answer(mine.ask(request()), None).decision.effect is Effect.DENY
    assert written(state)[-1] == ("answered", "cache", "deny")


def test_an_answer_does_not_lift_a_denial(state: State) -> None:
    denial = Rule(effect=Effect.DENY, scope=parse_scope("cache"))
    mine = gate(state, Policy([Source(name="p", layer=Layer.USER, rules=(denial,))]))
    assert not mine.answer(mine.ask(request()), Span.ALWAYS).decision.allowed


@pytest.mark.parametrize(("span", "elsewhere"), [(Span.SESSION, False), (Span.ALWAYS, True)])
def test_what_is_given_in_advance_is_written_down_and_holds(
    state: State, span: Span, elsewhere: bool
) -> None:
    mine = gate(state)
    wide = Request(scope=parse_scope("net:*.example.org"), principal="ann", session="s1")
    mine.grant(wide, span)
    assert written(state) == [("granted", "net", "allow")]
    assert mine.ask(request("net:api.example.org/GET")).decision.allowed
    other = Request(scope=parse_request("net:api.example.org/GET"), principal="ann", session="s2")
    assert mine.ask(other).decision.allowed is elsewhere
    assert mine.revoke(wide.scope) == 1
    assert not mine.ask(request("net:api.example.org/GET")).decision.allowed


def test_a_quota_is_the_holders_whatever_it_calls_itself_now(state: State) -> None:
    """Another place with the same id counts for itself; a new version, or another id in the same place, goes on."""

    def of(holder: str, name: str, version: str) -> Gate:
        manifest = replace(undeclared(name), holder=holder, version=version, stamp=version)
        return state.gate(manifest, policy(quota=Quota(calls=2)))

    assert of("here", "app", "1").ask(request()).decision.allowed
    assert of("here", "app", "2").ask(request()).decision.allowed
    assert not of("here", "app", "3").ask(request()).decision.allowed
    assert not of("here", "renamed", "1").ask(request()).decision.allowed
    assert of("there", "app", "1").ask(request()).decision.allowed


@pytest.mark.parametrize("span", [Span.SESSION, Span.ALWAYS])
def test_what_is_revoked_in_one_session_is_gone_in_all_of_the_app(state: State, span: Span) -> None:
    mine, other = gate(state), gate(state)
    elsewhere = Request(scope=parse_request("cache"), principal="ann", session="s2")
    kept = Request(scope=parse_request("clock"), principal="ann", session="s2")
    for each in (elsewhere, kept):
        other.answer(other.ask(each), span)
    assert other.ask(elsewhere).decision.allowed
    mine.revoke(parse_scope("cache"))
    assert other.ask(elsewhere).decision.effect is Effect.ASK
    assert other.ask(kept).decision.allowed


def test_another_apps_revocation_takes_nothing(state: State) -> None:
    mine = gate(state, grants=[Grant(scope=parse_scope("cache"))])
    other = state.gate(replace(undeclared("app"), holder="elsewhere"), Policy())
    other.answer(other.ask(request()), Span.ALWAYS)
    other.revoke(parse_scope("cache"))
    assert mine.ask(request()).decision.allowed
    assert other.ask(request()).decision.effect is Effect.ASK


def test_what_is_granted_after_it_was_revoked_holds(state: State) -> None:
    mine, other = gate(state), gate(state)
    mine.revoke(parse_scope("cache"))
    assert other.answer(other.ask(request()), Span.SESSION).decision.allowed
    mine.revoke(parse_scope("cache"))
    other.grant(request(), Span.SESSION)
    assert other.ask(request()).decision.allowed


@pytest.mark.parametrize(("began", "allowed"), [(50.0, False), (150.0, True)])
def test_a_session_that_asks_late_begins_without_what_was_revoked_since(
    state: State, began: float, allowed: bool
) -> None:
    gate(state, clock=lambda latest: Clock(now=100.0, latest=latest)).revoke(parse_scope("cache"))
    late = gate(state, grants=[Grant(scope=parse_scope("cache"))])
    late.recall(began)
    assert late.ask(request()).decision.allowed is allowed


def test_with_a_clock_that_went_back_every_revocation_counts(state: State) -> None:
    gate(state, clock=lambda latest: Clock(now=1000.0, latest=latest)).revoke(parse_scope("cache"))
    late = gate(
        state,
        grants=[Grant(scope=parse_scope("cache"))],
        clock=lambda latest: Clock(now=500.0, latest=latest),
    )
    late.recall(1500.0)
    assert not late.ask(request()).decision.allowed


def test_looking_for_revocations_asks_nothing_of_the_database_while_there_are_none(state: State) -> None:
    mine = gate(state, policy())
    gate(state).revoke(parse_scope("clock"))
    mine.ask(request())
    said: list[str] = []
    with state.ledger.database.reading() as connection:
        connection.set_trace_callback(said.append)
    mine.ask(request())
    assert said, "the control: it is listened to"
    assert not [statement for statement in said if "revocations" in statement]


def test_what_cannot_be_written_down_is_not_given(state: State) -> None:
    mine = gate(state)
    state.close()
    with pytest.raises(StorageFailed):
        mine.grant(request(), Span.ALWAYS)
    assert len(mine.grants) == 0


def test_what_is_revoked_is_gone_even_if_the_log_is_not_there(state: State) -> None:
    mine = gate(state, grants=[Grant(scope=parse_scope("cache"))])
    assert mine.ask(request()).decision.allowed
    assert mine.revoke(parse_scope("cache")) == 1
    assert written(state)[-1] == ("revoked", "cache", "deny")
    assert not mine.ask(request()).decision.allowed
    other = gate(state, grants=[Grant(scope=parse_scope("cache"))])
    state.close()
    with pytest.raises(StorageFailed):
        other.revoke(parse_scope("cache"))
    assert len(other.grants) == 0


def test_no_secret_is_written_down(state: State) -> None:
    mine = gate(state, redact=Redactor([("KEY", b"hunter2hunter2")]).text)
    ticket = mine.ask(request("net:hunter2hunter2.example.org/GET"))
    mine.performed(ticket, error="refused: hunter2hunter2")
    text = str(list(state.audit.records()))
    assert "hunter2" not in text
    assert text.count("[secret KEY]") == 3


def test_who_reads_the_log_keeps_no_gate_waiting(state: State) -> None:
    mine = gate(state, policy())
    mine.ask(request())
    reading = state.audit.records()
    next(reading)
    assert mine.ask(request()).decision.allowed
    reading.close()
    assert len(list(state.audit.records())) == 2


def test_what_holds_is_asked_again_each_second_and_at_once_when_anything_changes(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, ticks = [1000.0], [5.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: ticks[0])
    grants = [Grant(scope=parse_scope("cache"), conditions=Conditions(until=2000.0))]
    mine = gate(state, grants=grants, clock=lambda latest: Clock(now=now[0], latest=latest))
    asked = request()
    assert mine.holds(asked)
    assert not mine.holds(request("clock"))
    now[0], ticks[0] = 2500.0, 6.0
    assert not mine.holds(asked)
    now[0] = 1000.0
    assert mine.holds(asked)
    gate(state).revoke(parse_scope("cache"))
    assert not mine.holds(asked)


def test_to_look_waits_for_nobody_who_writes(state: State, tmp_path: Path) -> None:
    mine = gate(state, policy())
    writer = sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert mine.holds(request())
    mine.renew()
    assert not mine.ask(request()).decision.allowed  # what writes does wait, in vain
    writer.execute("ROLLBACK")
    writer.close()


def test_the_hosts_clock_tells_what_it_was_told() -> None:
    clock = host_clock(123.0)
    assert clock.latest == 123.0
    assert clock.now > 1_700_000_000
