"""A proposed policy allows what nobody spoke against, and says what it leaves out."""

from __future__ import annotations

import tomllib

from kernel_runtime.domain.audit import Entry, Head, Record, sealed
from kernel_runtime.domain.manifest import Anchors
from kernel_runtime.domain.policy import parse_policy_file
from kernel_runtime.domain.rules import Layer
from kernel_runtime.domain.suggestion import suggest


def record(resource: str, decision: str, rule: str, capability: str = "net", **fields: str) -> Record:
    entry = Entry(
        event="decision",
        app="a",
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
