"""Requests on the host: decided by name, connected to checked addresses, every hop again."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.handler import Call, Performed
from kernel_runtime.broker.http import Http
from kernel_runtime.domain.conditions import Conditions, Quota
from kernel_runtime.domain.errors import CapabilityDenied, Invalid, OutsideFailed
from kernel_runtime.domain.redaction import Redactor
from kernel_runtime.domain.rules import Effect, Rule
from kernel_runtime.domain.scopes import parse_scope
from tests.broker.outside import Certificates, Names, Server, demand_of, gate, in_loop, serving

if TYPE_CHECKING:
    from kernel_runtime.broker.gate import Gate
    from kernel_runtime.state import State

LOCAL = ["127.0.0.1"]
TOKEN = "s3cr3t-t0ken-value"


def perform(mine: Gate, names: Names, *calls: dict[str, Any], **options: Any) -> list[Performed]:
    """The calls one after another, through one handler."""

    async def run() -> list[Performed]:
        handler = Http(resolver=names.resolver(ttl=0), backoff=0.001, **options)
        try:
            return [
                await handler.perform(
                    Call(capability="http", action="request", arguments=arguments, session="s1"),
                    demand_of(mine),
                )
                for arguments in calls
            ]
        finally:
            await handler.close()

    found: list[Performed] = in_loop(run())
    return found


def perform_together(mine: Gate, names: Names, *calls: dict[str, Any]) -> list[Performed | BaseException]:
    """The calls at the same time, and then the last one."""
    *others, last = [Call(capability="http", action="request", arguments=arguments) for arguments in calls]

    async def run() -> list[Performed | BaseException]:
        handler = Http(resolver=names.resolver(ttl=0))
        performing = (handler.perform(call, demand_of(mine)) for call in others)
        try:
            found = await asyncio.gather(*performing, return_exceptions=True)
            return [*found, await handler.perform(last, demand_of(mine))]
        finally:
            await handler.close()

    found: list[Performed | BaseException] = in_loop(run())
    return found


def fetch(mine: Gate, names: Names, url: str, **arguments: Any) -> dict[str, Any]:
    options = {name: arguments.pop(name) for name in ("secrets", "context") if name in arguments}
    [performed] = perform(mine, names, {"url": url, **arguments}, **options)
    value: dict[str, Any] = performed.value
    return value


def echoed(answer: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(answer["content"])
    return said


def holding(value: str) -> Any:
    """Every secret has this value."""

    async def secret(_: str) -> bytes:
        return value.encode()

    return secret


@pytest.fixture
def names() -> Names:
    return Names(api_internal=LOCAL, other_internal=LOCAL, api_example_org=LOCAL)


@pytest.fixture
def mine(state: State) -> Gate:
    return gate(state, "net:api.internal:*")


def test_a_granted_request_is_performed(mine: Gate, names: Names, site: Server) -> None:
    url = f"http://api.internal:{site.port}/echo/x"
    [performed] = perform(
        mine,
        names,
        {
            "method": "post",
            "url": url,
            "params": {"q": "a b"},
            "headers": {"X-Mine": "1"},
            "content": b"body",
        },
    )
    said = echoed(performed.value)
    assert (said["method"], said["path"], said["body"]) == ("POST", "/echo/x?q=a+b", "body")
    assert said["headers"]["x-mine"] == "1"
    assert said["headers"]["host"] == f"api.internal:{site.port}"
    assert performed.value["status"] == 200
    assert performed.value["url"] == f"{url}?q=a+b"
    assert performed.size == len(performed.value["content"]) + len(b"body")


def test_what_was_not_granted_is_denied_and_not_sent(mine: Gate, names: Names, site: Server) -> None:
    before = len(site.seen)
    with pytest.raises(CapabilityDenied, match=r"--allow net:other\.internal"):
        fetch(mine, names, f"http://other.internal:{site.port}/")
    assert len(site.seen) == before


def test_method_port_and_path_are_decided(state: State, names: Names, site: Server) -> None:
    rule = Rule(
        effect=Effect.ALLOW,
        scope=parse_scope(f"net:api.internal:{site.port}/GET"),
        conditions=Conditions(arguments=(("path", "/open/*"),)),
        place="p:1",
    )
    mine = gate(state, rules=(rule,))
    url = f"http://api.internal:{site.port}"
    assert fetch(mine, names, f"{url}/open/x?y")["status"] == 200
    assert fetch(mine, names, f"{url}/%6fpen/x")["status"] == 200
    for refused in (
        f"{url}/shut",
        f"{url}/open%2f..%2fshut",
        f"{url}/open/%252e%252e/shut",
        "http://api.internal/open/x",
    ):
        with pytest.raises((CapabilityDenied, Invalid)):
            fetch(mine, names, refused)
    with pytest.raises(CapabilityDenied):
        fetch(mine, names, f"{url}/open/x", method="POST")


def test_rates_and_quotas_hold_for_each_request(state: State, names: Names, site: Server) -> None:
    rule = Rule(
        effect=Effect.ALLOW,
        scope=parse_scope("net:api.internal:*"),
        conditions=Conditions(quota=Quota(calls=2)),
        place="p:1",
    )
    mine = gate(state, rules=(rule,))
    url = f"http://api.internal:{site.port}/"
    with pytest.raises(CapabilityDenied, match="2 calls"):
        perform(mine, names, {"url": url}, {"url": url}, {"url": url})


@pytest.mark.parametrize(
    ("given", "body", "kind"),
    [
        ({"json": {"a": [1]}}, '{"a":[1]}', "application/json"),
        ({"data": [["a", "1"], ["a", "x y"]]}, "a=1&a=x+y", "application/x-www-form-urlencoded"),
        ({"data": b"raw"}, "raw", None),
        ({"content": "text", "headers": {"content-type": "text/x"}}, "text", "text/x"),
        ({"json": 1, "headers": {"Content-Type": "text/x"}}, "1", "text/x"),
    ],
)
def test_contents(mine: Gate, names: Names, site: Server, given: Any, body: str, kind: str | None) -> None:
    said = echoed(fetch(mine, names, f"http://api.internal:{site.port}/", method="POST", **given))
    assert (said["body"], said["headers"].get("content-type")) == (body, kind)


# -- addresses -------------------------------------------------------------------------------------


def test_a_public_name_leads_into_no_private_network(state: State, names: Names, site: Server) -> None:
    url = f"http://api.example.org:{site.port}/"
    before = len(site.seen)
    with pytest.raises(
        CapabilityDenied, match=r"api\.example\.org leads to 127\.0\.0\.1, this machine itself"
    ):
        fetch(gate(state, "net:*:*", "net:api.example.org:*"), names, url)
    assert len(site.seen) == before
    both = gate(state, "net:api.example.org:*", f"net:127.0.0.1:{site.port}")
    assert fetch(both, names, url)["status"] == 200


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fe80::1%lo",
        "junk",
    ],
)
def test_every_address_of_an_answer_is_looked_at(state: State, address: str) -> None:
    names = Names(api_example_org=["93.184.216.34", address])
    with pytest.raises(CapabilityDenied, match=r"api\.example\.org leads to"):
        fetch(gate(state, "net:api.example.org:*"), names, "http://api.example.org/")


def test_a_local_name_reaches_no_metadata_service(state: State) -> None:
    names = Names(metadata_internal=["169.254.169.254"])
    with pytest.raises(CapabilityDenied, match="metadata"):
        fetch(gate(state, "net:metadata.internal:*"), names, "http://metadata.internal/")


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.1", "0x7f.1"])
def test_other_spellings_of_an_address_are_refused(state: State, site: Server, host: str) -> None:
    with pytest.raises(Invalid):
        fetch(gate(state, "net:127.0.0.1:*"), Names(), f"http://{host}:{site.port}/")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "127.0.0.1."])
def test_an_address_is_granted_by_itself_alone(state: State, site: Server, host: str) -> None:
    url = f"http://{host}:{site.port}/"
    assert fetch(gate(state, "net:127.0.0.1:*"), Names(), url)["status"] == 200
    with pytest.raises(CapabilityDenied):
        fetch(gate(state, "net:*:*"), Names(), url)


def test_a_name_that_leads_elsewhere_the_second_time_is_refused_then(state: State, site: Server) -> None:
    mine = gate(state, "net:api.example.org:*", "net:127.0.0.1:*")
    url = f"http://api.example.org:{site.port}/"
    steady = Names(api_example_org=[LOCAL])
    assert len(perform(mine, steady, {"url": url}, {"url": url})) == 2
    rebinding = Names(api_example_org=[LOCAL, ["10.0.0.1"]])
    with pytest.raises(CapabilityDenied, match=r"10\.0\.0\.1"):
        perform(mine, rebinding, {"url": url}, {"url": url})


def test_a_name_is_resolved_once_a_request(mine: Gate, site: Server) -> None:
    names = Names(api_internal=[LOCAL, ["192.0.2.1"]])
    assert fetch(mine, names, f"http://api.internal:{site.port}/")["status"] == 200
    assert names.asked == ["api.internal"]


def test_spellings_of_a_name_are_one_name(mine: Gate, names: Names, site: Server) -> None:
    assert fetch(mine, names, f"http://API.Internal.:{site.port}/")["status"] == 200
    with pytest.raises(CapabilityDenied, match="xn--"):
        fetch(mine, names, f"http://аpi.internal:{site.port}/")  # a Cyrillic а
    with pytest.raises(Invalid, match="user name"):
        fetch(mine, names, f"http://api.internal@other.internal:{site.port}/")


def test_a_name_without_an_address_is_told(mine: Gate) -> None:
    with pytest.raises(OutsideFailed, match="has no address"):
        fetch(mine, Names(), "http://api.internal:1/")


def test_no_proxy_of_the_environment_is_used(
    mine: Gate, names: Names, site: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch(mine, names, f"http://api.internal:{site.port}/")["status"] == 200


# -- redirects -------------------------------------------------------------------------------------


def test_a_redirect_is_followed_where_it_is_granted(mine: Gate, names: Names, site: Server) -> None:
    url = f"http://api.internal:{site.port}"
    answer = fetch(mine, names, f"{url}/redirect?to=/echo/there", headers={"X-Mine": "1"})
    assert (answer["url"], echoed(answer)["headers"]["x-mine"]) == (f"{url}/echo/there", "1")


def test_a_redirect_is_a_request_of_its_own(state: State, names: Names, site: Server) -> None:
    url = f"http://api.internal:{site.port}/redirect?to=http://other.internal:{site.port}/echo/there"
    with pytest.raises(CapabilityDenied, match=r"a redirect leads to net:other\.internal"):
        fetch(gate(state, "net:api.internal:*"), names, url)
    both = gate(state, "net:api.internal:*", "net:other.internal:*")
    assert fetch(both, names, url)["status"] == 200


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "http://127.1/", "http://u:p@api.internal/", "http://[::1%25lo]/"]
)
def test_a_redirect_to_no_proper_url_is_refused(mine: Gate, names: Names, site: Server, to: str) -> None:
    with pytest.raises(OutsideFailed, match="nobody may go"):
        fetch(mine, names, f"http://api.internal:{site.port}/redirect", params={"to": to})


def test_what_says_who_asks_stays_with_its_origin(state: State, names: Names, site: Server) -> None:
    mine = gate(state, "net:api.internal:*", "net:other.internal:*")
    sent = {"Authorization": "Bearer mine", "Cookie": "a=b", "X-Api-Key": "k", "Accept": "text/x"}
    url = f"http://api.internal:{site.port}/redirect"
    away = echoed(fetch(mine, names, url, params={"to": f"http://other.internal:{site.port}/"}, headers=sent))
    assert not {"authorization", "cookie", "x-api-key"} & away["headers"].keys()
    assert away["headers"]["accept"] == "text/x"
    home = echoed(fetch(mine, names, url, params={"to": "/"}, headers=sent))
    assert {"authorization", "cookie", "x-api-key"} <= home["headers"].keys()


@pytest.mark.parametrize(
    ("status", "method", "body"), [(303, "GET", ""), (302, "GET", ""), (307, "POST", "body")]
)
def test_redirects_keep_or_change_the_method(
    mine: Gate, names: Names, site: Server, status: int, method: str, body: str
) -> None:
    url = f"http://api.internal:{site.port}/redirect?status={status}&to=/echo"
    said = echoed(fetch(mine, names, url, method="POST", content="body"))
    assert (said["method"], said["body"]) == (method, body)


def test_redirects_end(mine: Gate, names: Names, site: Server) -> None:
    url = f"http://api.internal:{site.port}/redirect?to=/redirect%3Fto%3D/"
    assert fetch(mine, names, url)["status"] == 200
    with pytest.raises(OutsideFailed, match="more than 10 redirects"):
        fetch(mine, names, f"http://api.internal:{site.port}/circle")


# -- bounds ----------------------------------------------------------------------------------------


def test_a_larger_answer_is_cut_off(mine: Gate, names: Names, site: Server) -> None:
    url = f"http://api.internal:{site.port}/bytes?n=100000"
    assert len(fetch(mine, names, url, max_bytes=100_000)["content"]) == 100_000
    with pytest.raises(OutsideFailed, match="larger than 99999 bytes"):
        fetch(mine, names, url, max_bytes=99_999)


def test_what_is_packed_counts_unpacked(mine: Gate, names: Names, site: Server) -> None:
    url = f"http://api.internal:{site.port}/gzip?n=5000000"
    answer = fetch(mine, names, url, max_bytes=5_000_000)
    assert answer["content"] == bytes(5_000_000)
    assert "content-encoding" not in answer["headers"]
    with pytest.raises(OutsideFailed, match="larger than 4999999 bytes"):
        fetch(mine, names, url, max_bytes=4_999_999)


def test_many_requests_at_a_time_share_a_few_connections(mine: Gate, names: Names) -> None:
    with serving() as site:
        calls = [{"url": f"http://api.internal:{site.port}/bytes?n={n}"} for n in range(200)]
        found = perform_together(mine, names, *calls)
        sizes = [len(one.value["content"]) for one in found if isinstance(one, Performed)]
        assert sizes == [*range(200)]
        assert len(site.peers) <= 16


def test_who_gives_up_gives_the_connection_back(mine: Gate, names: Names, site: Server) -> None:
    where = f"http://api.internal:{site.port}"
    *given_up, last = perform_together(
        mine, names, *[{"url": f"{where}/stall", "timeout": 0.2}] * 40, {"url": f"{where}/bytes?n=3"}
    )
    assert [type(error) for error in given_up] == [OutsideFailed] * 40
    assert isinstance(last, Performed)
    assert last.value["content"] == bytes(3)


def test_a_slow_answer_is_given_up(mine: Gate, names: Names, site: Server) -> None:
    with pytest.raises(OutsideFailed, match=r"longer than 0\.2 s"):
        fetch(mine, names, f"http://api.internal:{site.port}/stall", timeout=0.2)


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": 1},
        {"url": "http://api.internal/", "method": "CONNECT"},
        {"url": "http://api.internal/", "method": "GET X"},
        {"url": "http://api.internal/", "timeout": 1e9},
        {"url": "http://api.internal/", "timeout": float("nan")},
        {"url": "http://api.internal/", "max_bytes": -1},
        {"url": "http://api.internal/", "content": ["x"]},
        {"url": "http://api.internal/", "data": "x", "json": 1},
        {"url": "http://api.internal/", "data": [["a"]]},
        {"url": "http://api.internal/", "params": 7},
        {"url": "http://api.internal/", "headers": [["a"]]},
        {"url": "http://api.internal/", "verify": False},
        {"url": "http://api.internal/", "credential": 7},
    ],
)
def test_what_is_no_request_is_told(mine: Gate, names: Names, arguments: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        perform(mine, names, arguments)


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nHost: evil"},
        {"X": "a\nb"},
        {"X": "a\x00b"},
        {"X\r\nHost": "evil"},
        {"X ": "a"},
        {"": "a"},
        {"Host": "evil"},
        {"hOST": "evil"},
        {"Transfer-Encoding": "chunked"},
        {"Content-Length": "0"},
        {"Connection": "close"},
        {"Proxy-Authorization": "x"},
        {"Upgrade": "h2c"},
        {"X": "ł"},
        {"X": "a" * 40_000},
        {f"X{number}": "a" for number in range(101)},
    ],
)
def test_headers_that_change_the_message_are_refused(
    mine: Gate, names: Names, site: Server, headers: dict[str, str]
) -> None:
    url = f"http://api.internal:{site.port}/"
    assert fetch(mine, names, url, headers={"X": "a"})["status"] == 200
    with pytest.raises(Invalid):
        fetch(mine, names, url, headers=headers)


def test_headers_of_other_bytes_than_ascii_are_sent_as_they_are(
    mine: Gate, names: Names, site: Server
) -> None:
    answer = fetch(mine, names, f"http://api.internal:{site.port}/echo", headers={"X-Town": "Köln"})
    assert answer["status"] == 200
    assert "K\\u00f6ln" in answer["content"].decode() or "Köln" in answer["content"].decode()


# -- attempts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["flaky", "drop"])
def test_only_what_may_be_repeated_is_tried_again(mine: Gate, names: Names, site: Server, path: str) -> None:
    url = f"http://api.internal:{site.port}/{path}?times=2&of="
    assert fetch(mine, names, f"{url}get")["content"] == b"tried"
    if path == "flaky":
        assert fetch(mine, names, f"{url}post", method="POST")["status"] == 503
    else:
        with pytest.raises(OutsideFailed):
            fetch(mine, names, f"{url}post", method="POST")
    assert site.tries[f"/{path}?times=2&of=get"] == 3
    assert site.tries[f"/{path}?times=2&of=post"] == 1


def test_what_takes_no_connection_is_told(mine: Gate, names: Names) -> None:
    with serving() as gone:
        url = f"http://api.internal:{gone.port}/"
    with pytest.raises(OutsideFailed, match=r"http://api\.internal:\d+: "):
        fetch(mine, names, url)


# -- TLS and credentials ---------------------------------------------------------------------------


def test_tls_is_verified_on_the_name(
    state: State, names: Names, safe_site: Server, certificates: Certificates
) -> None:
    mine = gate(state, "net:api.internal:*", "net:other.internal:*")
    context = certificates.client
    assert fetch(mine, names, f"https://api.internal:{safe_site.port}/", context=context)["status"] == 200
    with pytest.raises(OutsideFailed, match=r"other\.internal"):
        fetch(mine, names, f"https://other.internal:{safe_site.port}/", context=context)
    with pytest.raises(OutsideFailed, match=r"(?i)certificate"):
        fetch(mine, names, f"https://api.internal:{safe_site.port}/")


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
