"""Credentials of requests: added on the host, seen by nobody but whom they are for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.domain.conditions import Conditions
from kernel_runtime.domain.errors import CapabilityDenied, Invalid, OutsideFailed
from kernel_runtime.domain.redaction import Redactor
from kernel_runtime.domain.rules import Effect, Rule
from kernel_runtime.domain.scopes import parse_scope
from tests.broker.fetching import echoed, fetch
from tests.broker.outside import Names, Server, gate

if TYPE_CHECKING:
    from kernel_runtime.state import State

TOKEN = "s3cr3t-t0ken-value"


def holding(value: str) -> Any:
    """Every secret has this value."""

    async def secret(_: str) -> bytes:
        return value.encode()

    return secret


@pytest.mark.parametrize(
    ("value", "header", "sent"),
    [
        (TOKEN, "authorization", f"Bearer {TOKEN}"),
        (f"bearer {TOKEN}", "authorization", f"Bearer {TOKEN}"),
        (f"basic ann:{TOKEN}", "authorization", "Basic "),
        (f"X-Api-Key: {TOKEN}", "x-api-key", TOKEN),
    ],
)
def test_a_credential_is_added_here_and_never_seen(
    state: State, names: Names, site: Server, value: str, header: str, sent: str
) -> None:
    mine = gate(state, "net:api.internal:*", "secret:key")
    answer = fetch(mine, names, f"http://api.internal:{site.port}/", credential="key", secrets=holding(value))
    received = next(v for name, v in site.seen[-1][2].items() if name.lower() == header)
    assert received.startswith(sent)
    said = echoed(answer)["headers"][header]  # the site told it, and it was taken out
    assert "[secret key]" in said
    assert received not in answer["content"].decode()
    assert TOKEN not in repr(answer)


def test_an_answer_is_searched_for_secrets_beside_the_loop(
    state: State, names: Names, site: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    search = Redactor.bytes

    def seen(redactor: Redactor, data: bytes) -> bytes:
        threads.append(threading.current_thread())
        return search(redactor, data)

    monkeypatch.setattr(Redactor, "bytes", seen)
    mine = gate(state, "net:api.internal:*", "secret:key")
    answer = fetch(mine, names, f"http://api.internal:{site.port}/", credential="key", secrets=holding(TOKEN))
    assert b"[secret key]" in answer["content"]
    assert threads
    assert threading.current_thread() not in threads


def test_a_credential_is_granted_by_name(state: State, names: Names, site: Server) -> None:
    with pytest.raises(CapabilityDenied, match="secret:key"):
        fetch(
            gate(state, "net:api.internal:*"),
            names,
            f"http://api.internal:{site.port}/",
            credential="key",
            secrets=holding(TOKEN),
        )


def test_a_credential_may_be_bound_to_a_host(state: State, names: Names, site: Server) -> None:
    rule = Rule(
        effect=Effect.ALLOW,
        scope=parse_scope("secret:key"),
        conditions=Conditions(arguments=(("host", "api.internal"), ("use", "http"))),
        place="p:1",
    )
    mine = gate(state, "net:api.internal:*", "net:other.internal:*", rules=(rule,))
    options = {"credential": "key", "secrets": holding(TOKEN)}
    assert fetch(mine, names, f"http://api.internal:{site.port}/", **options)["status"] == 200
    with pytest.raises(CapabilityDenied, match="secret:key"):
        fetch(mine, names, f"http://other.internal:{site.port}/", **options)


def test_a_credential_follows_no_redirect_elsewhere(state: State, names: Names, site: Server) -> None:
    mine = gate(state, "net:api.internal:*", "net:other.internal:*", "secret:key")
    options = {"credential": "key", "secrets": holding(TOKEN)}
    url = f"http://api.internal:{site.port}/redirect"
    said = echoed(fetch(mine, names, url, params={"to": f"http://other.internal:{site.port}/"}, **options))
    assert "authorization" not in said["headers"]
    said = echoed(fetch(mine, names, url, params={"to": "/"}, **options))
    assert "authorization" in said["headers"]


def test_a_credential_leaves_through_no_location(state: State, names: Names, site: Server) -> None:
    mine = gate(state, "net:api.internal:*", "net:other.internal:*", "secret:key")
    options = {"credential": "key", "secrets": holding(TOKEN)}
    to = f"http://other.internal:{site.port}/take/{TOKEN}"
    with pytest.raises(OutsideFailed):
        fetch(mine, names, f"http://api.internal:{site.port}/redirect", params={"to": to}, **options)
    assert not any(path.startswith("/take/") for _, path, _ in site.seen)


def test_no_credential_crosses_the_internet_in_the_open(state: State, names: Names) -> None:
    mine = gate(state, "net:api.example.org:*", "net:127.0.0.1:*", "secret:key")
    with pytest.raises(Invalid, match="unencrypted"):
        fetch(mine, names, "http://api.example.org/", credential="key", secrets=holding(TOKEN))


def test_an_answer_that_cannot_be_searched_is_not_told(state: State, names: Names, site: Server) -> None:
    mine = gate(state, "net:api.internal:*", "secret:key")
    url = f"http://api.internal:{site.port}/encoded?as=br"
    assert fetch(mine, names, url)["headers"]["content-encoding"] == "br"
    with pytest.raises(OutsideFailed, match="encoded as"):
        fetch(mine, names, url, credential="key", secrets=holding(TOKEN))


def test_a_secret_that_is_no_header_is_told_without_its_value(
    state: State, names: Names, site: Server
) -> None:
    mine = gate(state, "net:api.internal:*", "secret:key")
    url = f"http://api.internal:{site.port}/"
    with pytest.raises(Invalid, match="no credential") as caught:
        fetch(mine, names, url, credential="key", secrets=holding(f"{TOKEN}\r\nHost: evil"))
    assert TOKEN not in str(caught.value)
