"""Scopes and hosts: one spelling for each, and errors that name what is near."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.hosts import is_public_name, parse_host
from kernel_runtime.domain.scopes import FORMS, Kind, anchored, parse_request, parse_scope
from tests.domain.cases import requests, scopes

SPELLINGS = [
    ("net:API.Example.ORG.", "net:api.example.org"),
    ("net:api.example.org:8443/get", "net:api.example.org:8443/GET"),
    ("net:*.example.org:*", "net:*.example.org:*"),
    ("net:[::1]:80", "net:[::1]:80"),
    ("net:[::FFFF:10.0.0.1]", "net:10.0.0.1"),
    ("net:bücher.example", "net:xn--bcher-kva.example"),
    ("files:read:/data/", "files:read:/data"),
    ("files:write:/data/**", "files:write:/data/**"),
    ("files:read:/", "files:read:/"),
    ("db:sales:read", "db:sales:read"),
    ("events:publish:orders.*", "events:publish:orders.*"),
    ("call:billing.invoice", "call:billing.invoice"),
    ("secret:API_KEY", "secret:API_KEY"),
    ("cache", "cache"),
]


@pytest.mark.parametrize(("written", "shown"), SPELLINGS)
def test_a_scope_has_one_spelling(written: str, shown: str) -> None:
    assert str(parse_scope(written)) == shown
    assert parse_scope(shown) == parse_scope(written)


@given(scopes | requests)
def test_what_is_shown_is_read_back(text: str) -> None:
    assert parse_scope(str(parse_scope(text))) == parse_scope(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nett:example.org", "did you mean 'net'"),
        ("", "there are net, files"),
        ("net:", "no host name"),
        ("net:exa mple.org", "no host name"),
        ("net:user@example.org", "no host name"),
        ("net:a.*.org", "at the front"),
        ("net:*example.org", "at the front"),
        ("net:*.10.0.0.1", "no names below"),
        ("net:example.org:0", "no port"),
        ("net:example.org:65536", "no port"),
        ("net:example.org:", "no port"),
        ("net:example.org/", "no method"),
        ("net:example.org/GE T", "no method"),
        ("files:/data", "read, write"),
        ("files:execute:/data", "read, write"),
        ("files:read:data", "absolute"),
        ("files:read:/data/../etc", "detours"),
        ("files:read:/data//x", "detours"),
        ("files:read:/data/**/x", "last"),
        ("files:read:/data/a\x00b", "printable"),
        ("db:sales", "read, write"),
        ("db:sales:drop", "read, write"),
        ("cache:x", "nothing in particular"),
        ("call:billing", "no handler"),
        ("secret:a/b", "no name"),
        ("env:" + "x" * 200, "no name"),
    ],
)
def test_what_is_no_scope_is_told(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        parse_scope(text)


@pytest.mark.parametrize(
    "host",
    [
        "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "10.0.0.256", "1.2.3.4.5", "0x7f000001", "a..b", "-a.org", "a-.org",
        "exa%6dple.org", "example.org#", "example.org\\@evil.org", "fe80::1%eth0", "[::1", "faß.de", "a\u200d.org", "x" * 64 + ".org",
        ".example.org", "example.org..",
    ],
)  # fmt: skip
def test_hosts_that_readers_read_differently_are_none(host: str) -> None:
    with pytest.raises(Invalid):
        parse_host(host)


def test_a_name_that_looks_like_another_is_shown_as_what_it_is() -> None:
    cyrillic = "\u0430pple.com"
    assert parse_host(cyrillic) == "xn--pple-43d.com"
    assert not is_public_name("printer")
    assert is_public_name("example.org")


def test_a_request_is_one_thing() -> None:
    assert str(parse_request("net:example.org/get")) == "net:example.org:443/GET"
    for text in (
        "net:example.org",
        "net:*.example.org/GET",
        "net:example.org:*/GET",
        "files:read:/a/*",
        "secret:*",
    ):
        with pytest.raises(Invalid):
            parse_request(text)


def test_anchors_are_replaced_where_paths_stand() -> None:
    for text, meant in (
        ("files:read:./data/**", "files:read:/srv/app/data/**"),
        ("files:write:~/out", "files:write:/home/ann/out"),
        ("files:read:.", "files:read:/srv/app"),
        ("./x", "/srv/app/x"),
        ("secret:./x", "secret:./x"),
        ("files:read:/etc/~/x", "files:read:/etc/~/x"),
    ):
        assert anchored(text, "/srv/app", "/home/ann") == meant


def test_every_kind_has_a_form_that_begins_with_it() -> None:
    assert set(FORMS) == set(Kind)
    assert all(form.partition(":")[0] == kind for kind, form in FORMS.items())


@given(st.text(max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    try:
        scope = parse_scope(text)
    except Invalid:
        return
    assert parse_scope(str(scope)) == scope
