"""The proxy that guests' ordinary clients use, on an ordinary socket: decisions, tunnels, bounds, attacks."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.flow import Bounds, as_it_goes
from kernel_runtime.broker.proxy import Proxy
from kernel_runtime.domain.conditions import Conditions, Quota
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.rules import Effect, Rule
from kernel_runtime.domain.scopes import parse_scope
from kernel_runtime.workers.account import Account
from kernel_runtime.workers.portal import Portal
from tests.broker.outside import Certificates, Names, Server, demand_of, gate
from tests.broker.test_hello import made, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernel_runtime.broker.flow import Carry
    from kernel_runtime.broker.gate import Gate, Ticket
    from kernel_runtime.state import State

LOCAL = ["127.0.0.1"]


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    portal = Portal()
    yield portal
    portal.close()


class Running:
    """A proxy that is served, and what it told of allowed requests."""

    def __init__(self, portal: Portal, mine: Gate, names: Names, bounds: Bounds, carry: Carry) -> None:
        self.told: list[tuple[str, int, str]] = []
        self._heard = threading.Condition()
        self.portal = portal
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.proxy = Proxy(
            demand_of(mine), performed=self._performed, resolver=names.resolver(ttl=0), bounds=bounds
        )
        portal.call(self.proxy.serve(self.listener, carry))

    def _performed(self, ticket: Ticket, size: int, seconds: float, error: str) -> None:
        assert seconds >= 0
        with self._heard:
            self.told.append((str(ticket.request.scope), size, error))
            self._heard.notify_all()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def hears(self, what: Callable[[list[tuple[str, int, str]]], object]) -> bool:
        """Whether what was told comes to this: a guest may have its answer a moment before."""
        with self._heard:
            return self._heard.wait_for(lambda: bool(what(self.told)), 30)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def say(self, text: str | bytes) -> bytes:
        """Everything that comes back until the proxy hangs up."""
        with self.connect() as sock:
            sock.sendall(text if isinstance(text, bytes) else text.encode())
            return heard(sock)

    def opener(self, *handlers: Any) -> urllib.request.OpenerDirector:
        proxies = urllib.request.ProxyHandler({"http": self.url, "https": self.url})
        return urllib.request.build_opener(proxies, *handlers)

    def get(self, url: str, context: ssl.SSLContext | None = None) -> bytes:
        handlers = [urllib.request.HTTPSHandler(context=context)] if context else []
        with self.opener(*handlers).open(url, timeout=30) as answer:
            data: bytes = answer.read()
            return data

    def tunnel(self, authority: str) -> tuple[socket.socket, bytes]:
        sock = self.connect()
        sock.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n") and (byte := sock.recv(1)):
            head += byte
        return sock, head


def heard(sock: socket.socket) -> bytes:
    data = b""
    try:
        while piece := sock.recv(65_536):
            data += piece
    except ConnectionResetError:
        pass
    return data


@contextmanager
def running(
    portal: Portal, mine: Gate, names: Names, bounds: Bounds | None = None, carry: Carry = as_it_goes
) -> Iterator[Running]:
    run = Running(portal, mine, names, bounds or Bounds(), carry)
    try:
        yield run
    finally:
        portal.call(run.proxy.close())


@pytest.fixture
def names() -> Names:
    return Names(api_internal=LOCAL, other_internal=LOCAL, api_example_org=LOCAL)


@pytest.fixture
def served(portal: Portal, state: State, names: Names) -> Iterator[Running]:
    with running(portal, gate(state, "net:api.internal:*"), names) as run:
        yield run


def request(url: str, host: str, *lines: str) -> str:
    return "\r\n".join([f"GET {url} HTTP/1.1", f"Host: {host}", *lines, "", ""])


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


@pytest.mark.parametrize(
    "text",
    [
        "GET / HTTP/1.1\r\nHost: api.internal\r\n\r\n",
        "GET https://api.internal/ HTTP/1.1\r\nHost: api.internal\r\n\r\n",
        "GET ftp://api.internal/ HTTP/1.1\r\nHost: api.internal\r\n\r\n",
        "GET http://u:p@api.internal/ HTTP/1.1\r\nHost: api.internal\r\n\r\n",
        "GET http://2130706433/ HTTP/1.1\r\nHost: 2130706433\r\n\r\n",
        "GET http://api.internal/a/../b HTTP/1.1\r\nHost: api.internal\r\n\r\n",
        "TRACE http://api.internal/ HTTP/1.1\r\nHost: api.internal\r\n\r\n",
        "get http://api.internal/ HTTP/1.1\r\nHost: api.internal\r\n\r\n",
        "GET http://api.internal/ HTTP/1.1\r\n\r\n",
        "GET http://api.internal/ HTTP/1.1\r\nHost: api.internal\r\nHost: api.internal\r\n\r\n",
        "GET http://api.internal/ HTTP/1.1\r\nHost: api.internal\r\nX: a\rb\r\n\r\n",
        "GET http://api.internal/ HTTP/1.1\r\nHost: api.internal\r\nX : a\r\n\r\n",
        "GET http://api.internal/\tx HTTP/1.1\r\nHost: api.internal\r\n\r\n",
        "GET  http://api.internal/ HTTP/1.1\r\nHost: api.internal\r\n\r\n",
        "GET http://api.internal/ HTTP/2.0\r\nHost: api.internal\r\n\r\n",
        "POST http://api.internal/ HTTP/1.1\r\nHost: api.internal\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST http://api.internal/ HTTP/1.1\r\nHost: api.internal\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "POST http://api.internal/ HTTP/1.1\r\nHost: api.internal\r\nContent-Length: -1\r\n\r\n",
        "POST http://api.internal/ HTTP/1.1\r\nHost: api.internal\r\nTransfer-Encoding: gzip\r\n\r\n",
        "CONNECT api.internal HTTP/1.1\r\nHost: api.internal\r\n\r\n",
        "CONNECT api.internal:443 HTTP/1.1\r\nHost: other.internal:443\r\n\r\n",
        "CONNECT http://api.internal:443/ HTTP/1.1\r\nHost: api.internal:443\r\n\r\n",
        "CONNECT u@api.internal:443 HTTP/1.1\r\nHost: api.internal:443\r\n\r\n",
        "\x16\x03\x01\x00\x05hello\r\n\r\n",
        "SSH-2.0-x\r\n\r\n",
        f"GET http://api.internal/ HTTP/1.1\r\nHost: api.internal\r\nX: {'a' * 200_000}\r\n\r\n",
        f"GET http://api.internal/{'a' * 20_000} HTTP/1.1\r\nHost: api.internal\r\n\r\n",
    ],
)
def test_what_is_no_proper_request_is_refused(served: Running, text: str) -> None:
    first = served.say(text).splitlines()[0]
    assert first.split()[1] in (b"400", b"431", b"501")
    assert served.told == []


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


# -- tunnels ---------------------------------------------------------------------------------------


def test_tls_goes_through_to_the_name_that_was_granted(
    served: Running, safe_site: Server, certificates: Certificates
) -> None:
    url = f"https://api.internal:{safe_site.port}/bytes?n=300000"
    assert served.get(url, certificates.client) == bytes(300_000)
    assert served.hears(lambda told: told and told[0][0] == f"net:api.internal:{safe_site.port}/CONNECT")
    with pytest.raises(urllib.error.URLError, match=r"(?i)certificate"):
        served.get(url, ssl.create_default_context())  # the guest's client verifies, end to end


def test_a_refused_tunnel_says_why_in_its_first_line(
    served: Running, safe_site: Server, certificates: Certificates
) -> None:
    with pytest.raises(OSError, match=r"403 net:other\.internal:\d+/CONNECT: .*--allow"):
        served.get(f"https://other.internal:{safe_site.port}/", certificates.client)


def test_a_grant_of_one_method_opens_no_tunnel(
    portal: Portal, state: State, names: Names, safe_site: Server
) -> None:
    with running(portal, gate(state, "net:api.internal:*/GET"), names) as run:
        sock, head = run.tunnel(f"api.internal:{safe_site.port}")
        sock.close()
        assert b" 403 " in head


def test_a_rule_about_paths_opens_no_tunnel(
    portal: Portal, state: State, names: Names, safe_site: Server
) -> None:
    rule = Rule(
        effect=Effect.ALLOW,
        scope=parse_scope("net:api.internal:*"),
        conditions=Conditions(arguments=(("path", "*"),)),
        place="p:1",
    )
    with running(portal, gate(state, rules=(rule,)), names) as run:
        sock, head = run.tunnel(f"api.internal:{safe_site.port}")
        sock.close()
        assert b" 403 " in head


def shake(run: Running, port: int, certificates: Certificates, name: str) -> str:
    """The server's common name, seen through a tunnel to api.internal."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificates.file)
    sock, head = run.tunnel(f"api.internal:{port}")
    assert b" 200 " in head
    with sock, context.wrap_socket(sock, server_hostname=name or None) as tls:
        return str(tls.version())


def test_the_server_name_inside_is_the_one_that_was_granted(
    served: Running, safe_site: Server, certificates: Certificates
) -> None:
    assert shake(served, safe_site.port, certificates, "api.internal").startswith("TLS")
    assert shake(served, safe_site.port, certificates, "API.internal.").startswith("TLS")
    for name in ("other.internal", "api.internal.evil.example", ""):
        with pytest.raises(OSError, match=r"(?i)unrecognized.name"):
            shake(served, safe_site.port, certificates, name)
    assert served.hears(lambda told: sum("names another server" in error for _, _, error in told) == 2)
    assert served.hears(lambda told: sum("names no server" in error for _, _, error in told) == 1)


def test_an_address_needs_no_server_name(
    portal: Portal, state: State, names: Names, safe_site: Server, certificates: Certificates
) -> None:
    with running(portal, gate(state, "net:127.0.0.1:*"), names) as run:
        assert run.get(f"https://127.0.0.1:{safe_site.port}/bytes?n=3", certificates.client) == bytes(3)


@pytest.mark.parametrize(
    "words",
    [
        b"GET /admin HTTP/1.1\r\nHost: api.internal\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        made(named(b"api.internal"), (0xFE0D, b"hidden")),
        made(named(b"api.internal", b"other.internal")),
        made(named(b"other.internal")),
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(40_000),
    ],
)
def test_nothing_but_tls_for_that_name_goes_through(served: Running, site: Server, words: bytes) -> None:
    before = len(site.seen)
    sock, head = served.tunnel(f"api.internal:{site.port}")
    with sock:
        assert b" 200 " in head
        sock.sendall(words)
        assert heard(sock) == bytes([21, 3, 3, 0, 2, 2, 112])
    assert len(site.seen) == before
    assert served.hears(lambda told: told and told[0][2])


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_what_is_used_up_ends_a_tunnel_and_a_request(
    portal: Portal,
    state: State,
    names: Names,
    site: Server,
    safe_site: Server,
    certificates: Certificates,
    scheme: str,
) -> None:
    rule = Rule(
        effect=Effect.ALLOW,
        scope=parse_scope("net:api.internal:*"),
        conditions=Conditions(quota=Quota(bytes=200_000)),
        place="p:1",
    )
    mine = gate(state, rules=(rule,))
    with running(portal, mine, names, Bounds(slice=100_000)) as run:
        performed = run.proxy._performed

        def count(ticket: Ticket, size: int, seconds: float, error: str) -> None:
            performed(ticket, size, seconds, error)
            mine.performed(ticket, size=size, duration=seconds, error=error)

        run.proxy._performed = count
        port = safe_site.port if scheme == "https" else site.port
        url = f"{scheme}://api.internal:{port}/bytes?n="
        assert len(run.get(f"{url}1000", certificates.client)) == 1000
        with pytest.raises((OSError, http.client.IncompleteRead)):
            run.get(f"{url}5000000", certificates.client)
        with pytest.raises(OSError, match=r"403.*200000 bytes"):
            run.get(f"{url}10", certificates.client)
        assert 100_000 <= sum(size for _, size, _ in run.told) < 1_000_000


# -- bounds ----------------------------------------------------------------------------------------


def test_a_head_that_does_not_come_is_not_waited_for(portal: Portal, state: State, names: Names) -> None:
    with running(portal, gate(state, "net:api.internal:*"), names, Bounds(head=0.1)) as run:
        assert run.say("GET http://api.internal/ HTTP/1.1\r\nHost: api") == b""
        assert run.say("") == b""


def test_a_content_that_stops_coming_is_not_waited_for(
    portal: Portal, state: State, names: Names, site: Server
) -> None:
    with running(portal, gate(state, "net:api.internal:*"), names, Bounds(quiet=0.1)) as run:
        head = f"POST http://api.internal:{site.port}/ HTTP/1.1\r\nHost: api.internal:{site.port}\r\n"
        said = run.say(f"{head}Content-Length: 100\r\n\r\nabc")
        assert b" 502 the content of the request stopped coming" in said.splitlines()[0]


def test_an_answer_that_stops_coming_is_cut_off(
    portal: Portal, state: State, names: Names, site: Server
) -> None:
    with running(portal, gate(state, "net:api.internal:*"), names, Bounds(quiet=0.2)) as run:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            run.get(f"http://api.internal:{site.port}/stall")
        assert run.hears(lambda told: any("too long" in error for _, _, error in told))


def test_a_silent_tunnel_ends(portal: Portal, state: State, names: Names, site: Server) -> None:
    with running(portal, gate(state, "net:api.internal:*"), names, Bounds(head=0.1)) as run:
        sock, _ = run.tunnel(f"api.internal:{site.port}")
        with sock:
            assert heard(sock) == bytes([21, 3, 3, 0, 2, 2, 112])


def test_connections_are_bounded(portal: Portal, state: State, names: Names, site: Server) -> None:
    with running(portal, gate(state, "net:api.internal:*"), names, Bounds(connections=2)) as run:
        url = f"http://api.internal:{site.port}/"
        with run.connect(), run.connect():
            assert b" 503 2 connections are open already" in run.say(
                request(url, f"api.internal:{site.port}")
            )
        for _ in range(500):  # until the proxy has seen both hang up
            if b" 200 " in run.say(request(url, f"api.internal:{site.port}", "Connection: close")):
                break
        else:
            pytest.fail("the connections were not given back")


def test_a_guests_network_limit_holds(portal: Portal, state: State, names: Names, site: Server) -> None:
    account = Account(Limits(network=200_000))
    with running(portal, gate(state, "net:api.internal:*"), names, carry=account.carried) as run:
        assert run.get(f"http://api.internal:{site.port}/bytes?n=100000") == bytes(100_000)
        assert account.network >= 100_000
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            run.get(f"http://api.internal:{site.port}/bytes?n=300000")
        assert account.network <= 200_000


def test_a_guests_bandwidth_holds(portal: Portal, state: State, names: Names, site: Server) -> None:
    """No clock: what the account says has to be waited for, a bandwidth consists of that."""
    asked: list[int] = []

    def carry(size: int) -> float:
        asked.append(size)
        return 0.001

    with running(portal, gate(state, "net:api.internal:*"), names, carry=carry) as run:
        assert run.get(f"http://api.internal:{site.port}/bytes?n=100000") == bytes(100_000)
    assert sum(asked) == 100_000


def test_it_closes_with_connections_open(portal: Portal, state: State, names: Names, site: Server) -> None:
    with running(portal, gate(state, "net:api.internal:*"), names) as run:
        idle = run.connect()
        busy, _ = run.tunnel(f"api.internal:{site.port}")
        run.portal.call(run.proxy.close())
        with idle, busy:
            assert heard(idle) == b""
            assert b"x" not in heard(busy)
        with pytest.raises(ConnectionRefusedError):
            run.connect()


def test_nothing_that_takes_long_is_imported_before_it_is_needed() -> None:
    modules = "kernel_runtime.broker.http, kernel_runtime.broker.proxy, kernel_runtime.runtime"
    code = (
        f"import sys, {modules}; print(sorted({{'httpx', 'httpcore', 'h11', 'anyio'}} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


# -- clients ---------------------------------------------------------------------------------------


@pytest.fixture
def through(served: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    from kernel_runtime.workers.egress import PROXIED

    for name in PROXIED:
        monkeypatch.setenv(name, served.url if "no" not in name.lower() else "")
    return served


def by_requests(url: str, ca: str) -> bytes:
    import requests

    answer = requests.get(url, timeout=30, verify=ca)
    answer.raise_for_status()
    return answer.content


def by_httpx(url: str, ca: str) -> bytes:
    import httpx

    answer = httpx.get(url, verify=ssl.create_default_context(cafile=ca))
    answer.raise_for_status()
    return answer.content


def by_urllib(url: str, ca: str) -> bytes:
    with urllib.request.urlopen(url, context=ssl.create_default_context(cafile=ca), timeout=30) as answer:
        data: bytes = answer.read()
        return data


@pytest.mark.parametrize("client", [by_requests, by_httpx, by_urllib])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_ordinary_clients_work_unchanged(
    through: Running, site: Server, safe_site: Server, certificates: Certificates, client: Any, scheme: str
) -> None:
    port = {"http": site, "https": safe_site}[scheme].port
    assert client(f"{scheme}://api.internal:{port}/bytes?n=7", str(certificates.file)) == bytes(7)
    with pytest.raises(Exception, match=r"403.*net:other\.internal"):
        client(f"{scheme}://other.internal:{port}/", str(certificates.file))
