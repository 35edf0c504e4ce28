"""Requests on the host are decided by name and connected to checked addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.errors import CapabilityDenied, Invalid, OutsideFailed
from tests.broker.fetching import fetch, perform
from tests.broker.outside import LOCAL, Certificates, Names, Server, gate

if TYPE_CHECKING:
    from kernel_runtime.broker.gate import Gate
    from kernel_runtime.state import State


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
