"""How long the proxy waits, how much it carries, and how many it serves at a time."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker.flow import Bounds
from kernel_runtime.domain.limits import Limits
from kernel_runtime.workers.account import Account
from tests.broker.outside import Names, Server, gate
from tests.broker.proxy_server import heard, request, running

if TYPE_CHECKING:
    from kernel_runtime.state import State
    from kernel_runtime.workers.portal import Portal


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
    # The site answers from this very process: it has a second to begin.
    with running(portal, gate(state, "net:api.internal:*"), names, Bounds(quiet=1.0)) as run:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            run.get(f"http://api.internal:{site.port}/stall")
        assert run.hears(lambda told: any("too long" in error for _, _, error in told))


def test_a_silent_tunnel_ends(portal: Portal, state: State, names: Names, site: Server) -> None:
    with running(portal, gate(state, "net:api.internal:*"), names, Bounds(head=1.0)) as run:
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
