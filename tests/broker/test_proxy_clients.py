"""Clients that people use, through the proxy, unchanged."""

from __future__ import annotations

import ssl
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.broker.outside import Certificates, Server
    from tests.broker.proxy_server import Running


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
