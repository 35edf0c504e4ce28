"""Policies: rules with their places, contradictions refused, the stricter of several files."""

from __future__ import annotations

import pytest

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.manifest import Anchors
from kernel_runtime.domain.policy import Policy, Source, given, parse_policy_file
from kernel_runtime.domain.rules import Effect, Layer

ANCHORS = Anchors("/srv", "/home/ann")
WHOLE = """\
default = "ask"
trusted_projects = ["~/work/forecast"]
allow = [
  "cache",
  { scope = "net:*.example.org/GET", rate = "60/min", when = "Mon-Fri 08:00-18:00", reason = "prices" },
  { scope = "secret:API_KEY", until = 2030-01-01T00:00:00Z, tenants = ["red"], quota = { calls = 5, per = "day" } },
]
deny = ["net:secret.example.org:*"]

[[ask]]
scope = "files:write:~/out/**"

[check]
allow = ["multiprocessing"]
"""


def read(text: str, layer: Layer = Layer.USER, *, trusted: bool = True) -> Source:
    return parse_policy_file(text, "policy.toml", layer, ANCHORS, trusted=trusted)


def test_everything_that_may_be_written_is_read() -> None:
    source = read(WHOLE)
    shown = [(str(rule.scope), rule.effect, rule.place) for rule in source.rules]
    assert shown == [
        ("net:secret.example.org:*", Effect.DENY, "policy.toml:8"),
        ("files:write:/home/ann/out/**", Effect.ASK, "policy.toml:11"),
        ("cache", Effect.ALLOW, "policy.toml:4"),
        ("net:*.example.org/GET", Effect.ALLOW, "policy.toml:5"),
        ("secret:API_KEY", Effect.ALLOW, "policy.toml:6"),
    ]
    assert source.rules[3].conditions.text == "mon,tue,wed,thu,fri 08:00-18:00, 60 in 60 s"
    assert source.rules[4].conditions.text == "until 1893456000, 5 calls per day, tenants red"
    said = "(until 2030-01-01 00:00:00 UTC, 5 calls per day, tenants red)"
    assert str(source.rules[4]).startswith(f"allow secret:API_KEY {said}, ")
    assert source.trusted_projects == ("/home/ann/work/forecast",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('allow = ["net:example.org", "nett:x"]', "policy.toml:1: allow[1]: scope: no scope begins with 'nett'; did you mean 'net'"),
        ('\nalow = ["cache"]', "policy.toml:2: alow: no key is called 'alow'; did you mean 'allow'"),
        ('allow = [{ scop = "cache" }]', "policy.toml:1: allow[0].scop: no key is called 'scop'; did you mean 'scope'"),
        ('allow = [{ rate = "1/s" }]', "policy.toml:1: allow[0]: the key 'scope' is missing"),
        ("allow = [3]", "policy.toml:1: allow[0]: is to be text or a table, not a whole number"),
        ('default = "allow"', "policy.toml:1: default: 'allow' is not known here; there are ask, deny"),
        ('allow = [\n  "cache",\n  { scope = "clock", when = "noon" },\n]', "policy.toml:3: allow[1].when: 'noon' is no time window"),
        ('allow = [{ scope = "cache", until = 2030-01-01T00:00:00 }]', "policy.toml:1: allow[0].until: write the time zone"),
        ('allow = [{ scope = "cache", quota = {} }]', "policy.toml:1: allow[0].quota: a quota names"),
        ('allow = [{ scope = "cache", rate = "0/min" }]', "policy.toml:1: allow[0].rate: '0/min' allows nothing"),
        ('deny = [{ scope = "cache", rate = "1/min" }]', "policy.toml:1: deny[0]: a rate or quota is for rules that allow"),
        ('allow = [{ scope = "net:x.org", arguments = { path = "********" } }]', "policy.toml:1: allow[0].arguments:"),
        ("[check]\nblok = []", "policy.toml:2: check: no key is called 'blok'"),
        ('allow = ["cache"]\nask = ["cache"]', "policy.toml:2: ask[0]: ask cache contradicts allow cache (policy.toml:1)"),
        ('deny = ["net:*"]\nallow = ["clock", "net:api.example.org"]',
         "policy.toml:2: allow[1]: allow net:api.example.org contradicts deny net:* (policy.toml:1)"),
        ("default = ", "policy.toml: not valid TOML"),
    ],
)  # fmt: skip
def test_a_mistake_is_placed(text: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(text)
    assert str(caught.value).startswith(said)


def test_a_denial_of_a_part_or_at_times_contradicts_nothing() -> None:
    read('deny = ["net:a.example.org"]\nallow = ["net:*.example.org"]')
    read('deny = [{ scope = "cache", when = "22:00-06:00" }]\nallow = ["cache"]')
    read('allow = ["cache", { scope = "cache", rate = "1/s" }]')


def test_the_strictest_default_holds() -> None:
    asks, denies = read('default = "ask"'), read('default = "deny"', Layer.PROJECT, trusted=False)
    assert Policy([asks]).default is Effect.ASK
    assert Policy([asks, denies]).default is Effect.DENY
    assert Policy([denies, asks]).default is Effect.DENY


def test_a_project_nobody_trusts_may_only_tighten() -> None:
    text = 'allow = ["net:*"]\nask = ["clock"]\ndeny = ["process"]'
    policy = Policy([read(text, Layer.PROJECT, trusted=False)])
    assert [str(rule.scope) for rule in policy.unheeded] == ["net:*"]
    assert {rule.effect for rule in policy.rules} == {Effect.ASK, Effect.DENY}
    trusted = Policy([read(text, Layer.PROJECT, trusted=True)])
    assert not trusted.unheeded
    assert len(trusted.rules) == 3


def test_a_project_cannot_trust_itself() -> None:
    with pytest.raises(Invalid, match=r"policy.toml:1: trusted_projects"):
        read('trusted_projects = ["."]', Layer.PROJECT)


def test_flags_grant_and_deny() -> None:
    said = given(["net:api.example.org/GET", "files:read:./x"], ["cache"], ANCHORS)
    assert [str(grant.scope) for grant in said.grants] == ["files:read:/srv/x", "net:api.example.org/GET"]
    assert [(rule.effect, str(rule.scope)) for rule in said.source.rules] == [(Effect.DENY, "cache")]
    with pytest.raises(Invalid, match="--allow: no scope begins with 'nett'"):
        given(["nett:x"])
