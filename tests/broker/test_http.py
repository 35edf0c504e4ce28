"""Requests on the host: decided, performed, bounded, tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.handler import Performed
from kernel_runtime.domain.conditions import Conditions, Quota
from kernel_runtime.domain.errors import CapabilityDenied, Invalid, OutsideFailed
from kernel_runtime.domain.rules import Effect, Rule
from kernel_runtime.domain.scopes import parse_scope
from tests.broker.fetching import echoed, fetch, perform, perform_together
from tests.broker.outside import Names, Server, gate, serving

if TYPE_CHECKING:
    from kernel_runtime.broker.gate import Gate
    from kernel_runtime.state import State


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
