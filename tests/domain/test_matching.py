"""Which scopes hold which, and that the index finds what looking at each would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.matching import Index, covers, overlaps
from kernel_runtime.domain.rules import Ask
from kernel_runtime.domain.scopes import parse_request, parse_scope
from tests.domain import oracle
from tests.domain.cases import requests, scopes

CASES = [
    ("net:*.example.org", "net:a.b.example.org/GET", True),
    ("net:*.example.org", "net:example.org/GET", False),
    ("net:*.example.org", "net:evilexample.org/GET", False),
    ("net:example.org", "net:example.org.evil.com/GET", False),
    ("net:example.org", "net:example.org:80/GET", True),
    ("net:example.org", "net:example.org:8080/GET", False),
    ("net:example.org:*", "net:example.org:8080/GET", True),
    ("net:example.org/GET", "net:example.org/POST", False),
    ("net:*", "net:10.0.0.1/GET", False),
    ("net:*", "net:[2001:db8::1]/GET", False),
    ("net:[2001:db8::1]", "net:[2001:DB8:0::1]/GET", True),
    ("net:*.internal", "net:db.internal/GET", True),
    ("files:read:/data/**", "files:read:/data", True),
    ("files:read:/data/**", "files:read:/data/a/b", True),
    ("files:read:/data/**", "files:read:/database/a", False),
    ("files:read:/data/*", "files:read:/data/a/b", False),
    ("files:read:/data/*.csv", "files:read:/data/a.csv", True),
    ("files:read:/data/*.csv", "files:read:/data/a.csv.exe", False),
    ("files:read:/data/**", "files:write:/data/a", False),
    ("files:read:/**", "files:read:/", True),
    ("events:publish:orders.*", "events:subscribe:orders.new", False),
    ("secret:API_*", "secret:API_KEY", True),
    ("secret:API_*", "secret:api_key", False),
]


@pytest.mark.parametrize(("wide", "narrow", "held"), CASES)
def test_one_covers_the_other_or_not(wide: str, narrow: str, held: bool) -> None:
    request = parse_request(narrow)
    assert covers(parse_scope(wide), request) is held
    assert [one.scope for one in Index([Ask(scope=parse_scope(wide))]).covering(request)] == (
        [parse_scope(wide)] if held else []
    )


@given(scopes, requests)
def test_it_covers_what_the_oracle_says(wide: str, request: str) -> None:
    shown = str(parse_request(request))
    assert covers(parse_scope(wide), parse_request(request)) is oracle.matches(str(parse_scope(wide)), shown)


@given(st.lists(scopes, max_size=30), requests)
def test_the_index_finds_what_looking_at_each_finds(texts: list[str], request: str) -> None:
    items = [Ask(scope=parse_scope(text), place=str(number)) for number, text in enumerate(texts)]
    wanted = parse_request(request)
    found = Index(items).covering(wanted)
    assert sorted(one.place for one in found) == sorted(
        one.place for one in items if covers(one.scope, wanted)
    )
    assert found == sorted(found, key=lambda one: (one.scope, one.identity))


@given(scopes, scopes, requests)
def test_what_a_wide_scope_covers_covers_no_more_than_it(wide: str, narrow: str, request: str) -> None:
    outer, inner, wanted = parse_scope(wide), parse_scope(narrow), parse_request(request)
    if covers(outer, inner) and covers(inner, wanted):
        assert covers(outer, wanted)


@given(scopes, scopes, requests)
def test_what_both_cover_overlaps(one: str, other: str, request: str) -> None:
    mine, theirs, wanted = parse_scope(one), parse_scope(other), parse_request(request)
    if covers(mine, wanted) and covers(theirs, wanted):
        assert overlaps(mine, theirs)
        assert overlaps(theirs, mine)
