"""The proxy that guests' ordinary clients use, on an ordinary socket: requests decided, addresses checked, attacks."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import urllib.error
from typing import TYPE_CHECKING, Any

import pytest

from tests.broker.outside import LOCAL, Names, Server, gate
from tests.broker.proxy_server import Running, heard, request, running

if TYPE_CHECKING:
    from kernel_runtime.state import State
    from kernel_runtime.workers.portal import Portal

# -- plain requests --------------------------------------------------------------------------------


def test_a_granted_request_passes(served: Running, site: Server) -> None:
    said = json.loads(served.get(f"http://api.internal:{site.port}/echo/x?y=z"))
    assert (said["path"], said["headers"]["host"]) == ("/echo/x?y=z", f"api.internal:{site.port}")
    assert served.hears(len)
    [(scope, size, error)] = served.told
    assert (scope, size > 0, error) == (f"net:api.internal:{site.port}/GET", True, "")


def test_a_refused_one_says_why(served: Running, site: Server) -> None:
    before = len(site.seen)
    with pytest.raises(urllib.error.HTTPError, match=r"403.*--allow net:other\.internal") as caught:
        served.get(f"http://other.internal:{site.port}/")
    assert b"nobody can be asked here" in caught.value.read()
    caught.value.close()
    assert len(site.seen) == before


def test_every_request_of_a_kept_connection_is_decided(served: Running, site: Server) -> None:
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    try:
        for number in range(3):
            client.request("GET", f"http://api.internal:{site.port}/{number}")
            assert client.getresponse().read()
        sock = client.sock
        client.request("GET", f"http://other.internal:{site.port}/")
        assert client.sock is sock
        answer = client.getresponse()
        assert (answer.status, answer.reason.startswith("net:other.internal")) == (403, True)
    finally:
        client.close()


def test_a_head_has_no_content(served: Running, site: Server) -> None:
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    try:
        for _ in range(2):
            client.request("HEAD", f"http://api.internal:{site.port}/bytes?n=9")
            answer = client.getresponse()
            assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "9", b"")
        client.request("HEAD", f"http://other.internal:{site.port}/")
        refused = client.getresponse()
        assert (refused.status, refused.read()) == (403, b"")
    finally:
        client.close()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_content_goes_both_ways(served: Running, site: Server, framing: str) -> None:
    client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    try:
        body = b"x" * 300_000 if framing == "length" else iter([b"x" * 1000] * 300)
        client.request(
            "POST", f"http://api.internal:{site.port}/echo", body=body, encode_chunked=framing == "chunked"
        )
        answer = client.getresponse()
        assert len(json.loads(answer.read())["body"]) == 300_000
        client.request("GET", f"http://api.internal:{site.port}/bytes?n=500000")
        assert client.getresponse().read() == bytes(500_000)
        assert served.hears(lambda told: sum(size for _, size, _ in told) > 800_000)
    finally:
        client.close()


def test_a_redirect_is_left_to_the_client_and_decided_again(served: Running, site: Server) -> None:
    here = f"http://api.internal:{site.port}"
    assert json.loads(served.get(f"{here}/redirect?to=/echo"))["path"] == "/echo"
    with pytest.raises(urllib.error.HTTPError, match=r"403.*other\.internal") as caught:
        served.get(f"{here}/redirect?to=http://other.internal:{site.port}/")
    caught.value.close()


@pytest.mark.parametrize(
    "host", ["other.internal:{}", "api.internal", "api.internal:1", "", "api.internal:{}, x"]
)
def test_the_host_header_is_the_target(served: Running, site: Server, host: str) -> None:
    url = f"http://api.internal:{site.port}/"
    before = len(site.seen)
    assert b" 400 " in served.say(request(url, host.format(site.port))).splitlines()[0]
    assert len(site.seen) == before
    assert (
        b" 200 "
        in served.say(request(url, f"API.internal.:{site.port}", "Connection: close")).splitlines()[0]
    )


_END = "Connection: close\r\n\r\n"
GET = f"GET http://SITE/a/b HTTP/1.1\r\nHost: SITE\r\nX: ab\r\n{_END}"
POST = f"POST http://SITE/ HTTP/1.1\r\nHost: SITE\r\nContent-Length: 1\r\n{_END}x"
CHUNKED = f"POST http://SITE/ HTTP/1.1\r\nHost: SITE\r\nTransfer-Encoding: chunked\r\n{_END}0\r\n\r\n"
TUNNEL = "CONNECT SITE HTTP/1.1\r\nHost: SITE\r\n\r\n"
#: A proper request, and the one thing in it that is written otherwise.
IMPROPER = [
    (GET, "http://SITE/", "/"),
    (GET, "http://", "https://"),
    (GET, "http://", "ftp://"),
    (GET, "//SITE", "//u:p@SITE"),
    (GET, "SITE", "2130706433:PORT"),
    (GET, "/a/b", "/a/../b"),
    (GET, "GET", "TRACE"),
    (GET, "GET", "get"),
    (GET, "Host: SITE\r\n", ""),
    (GET, "Host: SITE", "Host: SITE\r\nHost: SITE"),
    (GET, "X: ab", "X: a\rb"),
    (GET, "X: ab", "X : ab"),
    (GET, "/a/b", "/a\tb"),
    (GET, "GET ", "GET  "),
    (GET, "HTTP/1.1", "HTTP/2.0"),
    (CHUNKED, "Transfer-", "Content-Length: 1\r\nTransfer-"),
    (POST, "Length: 1", "Length: 1\r\nContent-Length: 2"),
    (POST, "Length: 1", "Length: -1"),
    (CHUNKED, "chunked", "gzip"),
    (TUNNEL, "SITE", "api.internal"),
    (TUNNEL, "Host: SITE", "Host: other.internal:PORT"),
    (TUNNEL, "CONNECT SITE", "CONNECT http://SITE/"),
    (TUNNEL, "CONNECT ", "CONNECT u@"),
    (GET, GET, "\x16\x03\x01\x00\x05hello\r\n\r\n"),
    (GET, GET, "SSH-2.0-x\r\n\r\n"),
    (GET, "X: ab", f"X: {'a' * 200_000}"),
    (GET, "/a/b", f"/{'a' * 20_000}"),
]


@pytest.mark.parametrize(("proper", "old", "new"), IMPROPER, ids=range(len(IMPROPER)))
def test_what_is_no_proper_request_is_refused(
    served: Running, site: Server, proper: str, old: str, new: str
) -> None:
    """The control is the proper one, which differs in that alone."""
    assert old in proper
    wrong, right = (
        text.replace("SITE", "api.internal:PORT").replace("PORT", str(site.port))
        for text in (proper.replace(old, new), proper)
    )
    before = len(site.seen)
    first = served.say(wrong).splitlines()[0]
    assert first.split()[1] in (b"400", b"431", b"501")
    assert (served.told, len(site.seen)) == ([], before)
    with served.connect() as sock, sock.makefile("rb") as answer:
        sock.sendall(right.encode())
        assert b" 200 " in answer.readline()


def test_what_is_for_one_hop_stays_there(served: Running, site: Server) -> None:
    url, host = f"http://api.internal:{site.port}/", f"api.internal:{site.port}"
    own = (
        "Proxy-Authorization: Basic x",
        "Connection: close, X-Mine",
        "X-Mine: 1",
        "X-Theirs: 2",
        "Upgrade: h2c",
    )
    assert b" 200 " in served.say(request(url, host, *own)).splitlines()[0]
    received = {name.lower() for name in site.seen[-1][2]}
    assert "x-theirs" in received
    assert not {"proxy-authorization", "x-mine", "upgrade"} & received


def test_a_client_that_waits_to_be_asked_for_its_content_is_asked(served: Running, site: Server) -> None:
    with served.connect() as sock:
        head = f"POST http://api.internal:{site.port}/echo HTTP/1.1\r\nHost: api.internal:{site.port}\r\n"
        sock.sendall(f"{head}Expect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n".encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 100")
        sock.sendall(b"body")
        assert b'"body": "body"' in heard(sock)


def test_a_fault_of_the_host_is_an_answer_too(
    served: Running, site: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("what the host looks like")

    monkeypatch.setattr(served.proxy, "_reach", broken)
    said = served.say(request(f"http://api.internal:{site.port}/", f"api.internal:{site.port}"))
    assert b" 500 " in said.splitlines()[0]
    assert b"looks like" not in said
    assert "looks like" in caplog.text


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "say", ["GET http://api.example.org:{0}/ HTTP/1.1", "CONNECT api.example.org:{0} HTTP/1.1"]
)
def test_a_public_name_leads_into_no_private_network(
    portal: Portal, state: State, names: Names, site: Server, say: str
) -> None:
    text = f"{say}\r\nHost: api.example.org:{{0}}\r\nConnection: close\r\n\r\n".format(site.port)
    with running(portal, gate(state, "net:api.example.org:*"), names) as run:
        assert (
            b" 403 api.example.org leads to 127.0.0.1, this machine itself" in run.say(text).splitlines()[0]
        )
    with running(portal, gate(state, "net:api.example.org:*", "net:127.0.0.1:*"), names) as run:
        if say.startswith("GET"):
            assert b" 200 " in run.say(text).splitlines()[0]
        else:
            sock, head = run.tunnel(f"api.example.org:{site.port}")
            sock.close()
            assert b" 200 " in head


def test_a_name_that_leads_elsewhere_the_second_time_is_refused_then(
    portal: Portal, state: State, site: Server
) -> None:
    rebinding = Names(api_example_org=[LOCAL, ["169.254.169.254"]])
    with running(portal, gate(state, "net:api.example.org:*", "net:127.0.0.1:*"), rebinding) as run:
        client = http.client.HTTPConnection("127.0.0.1", run.port, timeout=30)
        statuses = []
        for _ in range(2):
            client.request("GET", f"http://api.example.org:{site.port}/")
            answer = client.getresponse()
            statuses.append(answer.status)
            answer.read()
        client.close()
    assert statuses == [200, 403]


def test_nothing_that_takes_long_is_imported_before_it_is_needed() -> None:
    modules = "kernel_runtime.broker.http, kernel_runtime.broker.proxy, kernel_runtime.runtime"
    code = (
        f"import sys, {modules}; print(sorted({{'httpx', 'httpcore', 'h11', 'anyio'}} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
