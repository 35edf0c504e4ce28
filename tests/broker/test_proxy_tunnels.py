"""Tunnels through the proxy: TLS for the name that was granted, and nothing else."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker.flow import Bounds
from kernel_runtime.domain.conditions import Conditions, Quota
from kernel_runtime.domain.rules import Effect, Rule
from kernel_runtime.domain.scopes import parse_scope
from tests.broker.outside import Certificates, Names, Server, gate
from tests.broker.proxy_server import Running, heard, running
from tests.broker.test_hello import made, named

if TYPE_CHECKING:
    from kernel_runtime.broker.gate import Ticket
    from kernel_runtime.state import State
    from kernel_runtime.workers.portal import Portal


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
