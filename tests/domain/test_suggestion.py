"""A proposed policy allows what nobody spoke against, and says what it leaves out."""

from __future__ import annotations

import tomllib

from kernel_runtime.domain.audit import Entry, Head, Record, sealed
from kernel_runtime.domain.manifest import Anchors
from kernel_runtime.domain.policy import parse_policy_file
from kernel_runtime.domain.rules import Layer
from kernel_runtime.domain.suggestion import suggest


def record(
    resource: str, decision: str, rule: str, capability: str = "net", event: str = "decision", **fields: str
) -> Record:
    entry = Entry(
        event=event,
        app=fields.pop("app", "a"),
        capability=capability,
        resource=resource,
        decision=decision,
        rule=rule,
        **fields,
    )
    return sealed(entry, 0.0, Head())


LOG = [
    record("api.example.org:443/GET", "ask", "the policy's default"),
    record("api.example.org:80/GET", "deny", "the policy's default"),
    record("api.example.org:8443/GET", "ask", "the policy's default"),
    record("other.example.org:443/GET", "allow", "grant"),
    record("evil.example.org:443/GET", "deny", "deny net:evil.example.org, policy.toml:3"),
    record("new.example.org:443/GET", "deny", "the manifest"),
    record("", "ask", 'ask cache, x"\n]\nallow = ["net:*:*"]', capability="cache"),
]


def test_what_was_asked_in_vain_is_proposed() -> None:
    found = suggest(LOG)
    assert {(wish.scope, wish.times) for wish in found.allow} == {
        ("net:api.example.org/GET", 2),
        ("net:api.example.org:8443/GET", 1),
        ("cache", 1),
    }
    assert [wish.scope for wish in found.refused] == ["net:evil.example.org/GET"]
    assert [wish.scope for wish in found.undeclared] == ["net:new.example.org/GET"]


def test_the_proposal_is_a_policy_and_holds_no_more_than_it_lists() -> None:
    """A record's text, which a guest can influence, adds no line."""
    text = suggest(LOG).toml()
    assert set(tomllib.loads(text)) == {"allow"}
    source = parse_policy_file(text, "policy.toml", Layer.USER, Anchors())
    assert {str(rule.scope) for rule in source.rules} == {
        "net:api.example.org/GET",
        "net:api.example.org:8443/GET",
        "cache",
    }
    assert "# " in text
    assert "evil.example.org" in text


def test_records_of_other_events_and_foreign_words_are_passed_over() -> None:
    changed = sealed(Entry(event="changed", capability="secret", resource="X"), 0.0, Head())
    assert (
        suggest([changed, record("x y", "ask", "?"), record("x", "ask", "?", capability="nett")]).allow == ()
    )


def asked(name: str, app: str = "a") -> Record:
    return record(name, "ask", "the policy's default", capability="env", app=app)


def answered(name: str, decision: str, event: str = "answered") -> Record:
    return record(name, decision, "the person", capability="env", event=event)


def test_what_the_person_granted_or_denied_is_not_proposed() -> None:
    log = [
        *(asked("GRANTED"), answered("GRANTED", "allow")),
        *(asked("DENIED"), answered("DENIED", "deny"), asked("DENIED")),
        *(asked("LATER"), answered("LATER", "deny"), answered("LATER", "allow", "granted")),
        *(asked("RULED"), record("RULED", "allow", "allow env:RULED, p:1", capability="env")),
        *(asked("AGAIN"), answered("AGAIN", "allow"), asked("AGAIN")),
        *(asked("OTHERS"), answered("OTHERS", "allow"), asked("OTHERS", app="b")),
        asked("OPEN"),
    ]
    found = suggest(log)
    assert [(wish.scope, wish.times, wish.apps) for wish in found.allow] == [
        ("env:AGAIN", 1, ("a",)),
        ("env:OPEN", 1, ("a",)),
        ("env:OTHERS", 1, ("b",)),
    ]
    assert [(wish.scope, wish.times, wish.reason) for wish in found.refused] == [
        ("env:DENIED", 2, "you denied it when you were asked")
    ]


def test_no_proposal_leads_to_the_clouds_own_services() -> None:
    found = suggest(
        [
            record(f"{host}:80/GET", "ask", "the policy's default")
            for host in (
                "169.254.169.254",
                "169.254.7.7",
                "[fd00:ec2::254]",
                "[fe80::1]",
                "127.0.0.1",
                "10.0.0.8",
            )
        ]
    )
    assert [wish.scope for wish in found.allow] == ["net:10.0.0.8/GET", "net:127.0.0.1/GET"]
    assert len(found.refused) == 4
    assert "metadata service" in found.toml()
