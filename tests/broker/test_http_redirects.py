"""Every hop of a request is decided again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.errors import CapabilityDenied, OutsideFailed
from tests.broker.fetching import echoed, fetch
from tests.broker.outside import Names, Server, gate

if TYPE_CHECKING:
    from kernel_runtime.broker.gate import Gate
    from kernel_runtime.state import State


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
