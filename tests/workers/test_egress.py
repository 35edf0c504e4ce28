"""A whole guest: its ordinary clients reach what was granted, through the socket in its own network."""

from __future__ import annotations

import ast
import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.proxy import Proxy
from kernel_runtime.client import AsyncSession, Result
from kernel_runtime.domain.limits import Limits
from kernel_runtime.runtime import Runtime, Settings
from kernel_runtime.sandbox.plan import EGRESS
from kernel_runtime.state import State
from kernel_runtime.workers.portal import Portal
from tests.broker.outside import Certificates, Names, Server, demand_of, gate, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOCAL = ["127.0.0.1"]


class Guest:
    """A guest with a proxy, and the sites outside."""

    def __init__(self, portal: Portal, runtime: Runtime, proxy: Proxy | None, **options: Any) -> None:
        self.portal = portal
        self.client = AsyncSession(limits=Limits())
        self.client._runtime = runtime
        self.proxy = proxy
        portal.call(self._open(runtime, options))

    async def _open(self, runtime: Runtime, options: dict[str, Any]) -> None:
        self.client._session = runtime.open_session(automatic=False, egress=self.proxy, **options)
        await self.client._session.ready()

    def run(self, code: str) -> Result:
        return self.portal.call(self.client.run(code, check=False))

    def answer(self, code: str) -> str:
        result = self.run(code)
        return str(result.error or result.verdict or result.result)


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    portal = Portal()
    yield portal
    portal.close()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    with State(tmp_path_factory.mktemp("state")) as state:
        yield state


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"), "api.internal")


@pytest.fixture(scope="module")
def sites(certificates: Certificates) -> Iterator[tuple[Server, Server]]:
    with serving() as plain, serving(certificates.server) as safe:
        yield plain, safe


@pytest.fixture(scope="module")
def open_guest(portal: Portal, state: State) -> Iterator[Callable[..., Guest]]:
    async def make() -> Runtime:
        return Runtime(Settings(warm=()))

    runtime = portal.call(make())

    def open_one(*scopes: str, **options: Any) -> Guest:
        names = Names(api_internal=LOCAL, other_internal=LOCAL)
        proxy = Proxy(demand_of(gate(state, *scopes)), resolver=names.resolver(ttl=0))
        return Guest(portal, runtime, proxy, **options)

    yield open_one
    portal.call(runtime.close())


@pytest.fixture(scope="module")
def guest(
    open_guest: Callable[..., Guest], sites: tuple[Server, Server], certificates: Certificates
) -> Guest:
    guest = open_guest("net:api.internal:*")
    plain, safe = sites
    mark = "-----BEGIN CERTIFICATE"
    certificate = mark + certificates.file.read_text().partition(mark)[2]
    put = f"HTTP, HTTPS, CA = {plain.port}, {safe.port}, '/tmp/ca.pem'\nopen(CA, 'w').write({certificate!r})"
    assert guest.run(put).error is None
    return guest


CLIENTS = {
    "requests": "import requests\ndef get(url): r = requests.get(url, verify=CA); r.raise_for_status(); return r.content",
    "httpx": "import httpx, ssl\n"
    "def get(url): r = httpx.get(url, verify=ssl.create_default_context(cafile=CA)); r.raise_for_status(); return r.content",
    "urllib": "import ssl, urllib.request\n"
    "def get(url): return urllib.request.urlopen(url, context=ssl.create_default_context(cafile=CA)).read()",
    "aiohttp": "import aiohttp, ssl\n"
    "async def get(url):\n"
    "    async with aiohttp.ClientSession(raise_for_status=True) as session:\n"
    "        async with session.get(url, ssl=ssl.create_default_context(cafile=CA)) as r: return await r.read()",
}


@pytest.mark.parametrize("client", ["requests", "httpx", "urllib", "aiohttp"])
def test_ordinary_clients_work_unchanged(guest: Guest, client: str) -> None:
    assert guest.run(CLIENTS[client]).error is None
    get = "await get" if client == "aiohttp" else "get"
    for where in ("http://api.internal:{HTTP}", "https://api.internal:{HTTPS}"):
        assert guest.answer(f"{get}(f'{where}/bytes?n=5')") == repr(bytes(5))
        refused = guest.answer(f"{get}(f'{where}/'.replace('api', 'other'))")
        assert "403" in refused
        assert "net:other.internal" in refused


def test_an_ordinary_client_may_open_as_many_connections_as_it_wants(guest: Guest) -> None:
    """By itself: up to 100."""
    code = (
        "import aiohttp, asyncio\n"
        "async with aiohttp.ClientSession() as session:\n"
        "    async def size(n):\n"
        "        async with session.get(f'http://api.internal:{HTTP}/bytes?n={n}') as r: return len(await r.read())\n"
        "    sizes = await asyncio.gather(*map(size, range(200)))\n"
        "sizes == [*range(200)]"
    )
    assert guest.answer(code) == "True"


def test_pandas_reads_a_url_or_says_why_not(guest: Guest) -> None:
    read = "import pandas\nint(pandas.read_csv(f'http://{}.internal:{{HTTP}}/table').sum().sum())"
    assert guest.answer(read.format("api")) == "10"
    refused = guest.answer(read.format("other"))
    assert "403" in refused
    assert "net:other.internal" in refused


def pip(guest: Guest, host: str) -> str:
    """Have pip install ``tiny`` from an index, as ``%pip install`` does; what it says of errors."""
    return guest.run(
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'pip', 'install', '--no-input', '--disable-pip-version-check', '--retries', '1',"
        f" '--cert', CA, '--index-url', f'https://{host}:{{HTTPS}}/simple', 'tiny']\n"
        "print(subprocess.run(command, capture_output=True, text=True).stderr)"
    ).text()


def test_pip_installs_what_may_be_fetched_and_is_told_why_not(guest: Guest) -> None:
    refused = pip(guest, "other.internal")
    assert "403" in refused
    assert "net:other.internal" in refused
    looked = "try: import tiny\nexcept ImportError as error: print(type(error).__name__)"
    assert guest.run(looked).text() == "ModuleNotFoundError\n", "looked for before it is there"
    said = pip(guest, "api.internal")
    assert guest.answer("import tiny\ntiny.SAID") == "'fetched'", said


#: What each does with ``HOST`` and ``HTTP``, and what comes of it.
BYPASSES = {
    "a raw socket": (
        "import socket\nsocket.create_connection(('127.0.0.1', HTTP), 5).close()",
        "ConnectionRefusedError",
    ),
    "no proxy": (
        "import httpx\nhttpx.get(f'http://127.0.0.1:{HTTP}/bytes?n=1', trust_env=False)",
        "ConnectError: .*refused",
    ),
    "aiohttp that is told": (
        (
            "import aiohttp\n"
            "async with aiohttp.ClientSession(trust_env=False) as s: await (await s.get(f'http://{HOST}:{HTTP}/bytes?n=1')).read()"
        ),
        "ClientConnectorDNSError: .*Cannot connect to host api.internal",
    ),
    "no_proxy": (
        (
            "import os, urllib.request\nbefore, os.environ['no_proxy'] = os.environ.get('no_proxy', ''), '*'\n"
            "try: urllib.request.urlopen(f'http://127.0.0.1:{HTTP}/bytes?n=1', timeout=5).close()\n"
            "finally: os.environ['no_proxy'] = before"
        ),
        "URLError: .*refused",
    ),
    "an address": (
        "import requests\nrequests.get(f'http://127.0.0.1:{HTTP}/bytes?n=1', timeout=5)",
        "ConnectionError: .*refused",
    ),
    "a resolver": ("import socket\nsocket.getaddrinfo(HOST, 80)", "gaierror"),
}


def on_the_host(code: str, port: int) -> None:
    """Run it here, as a cell."""
    cell = compile(code, "<control>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(cell, {"HOST": "localhost", "HTTP": port})
    if waiting is not None:
        asyncio.run(waiting)


@pytest.mark.parametrize("way", BYPASSES)
def test_without_the_proxy_there_is_nothing(guest: Guest, sites: tuple[Server, Server], way: str) -> None:
    """The control is the same on the host, where the site is."""
    code, said = BYPASSES[way]
    before = len(sites[0].seen)
    answer = guest.answer(f"HOST = 'api.internal'\n{code}")
    assert re.match(said, answer), answer
    assert len(sites[0].seen) == before
    on_the_host(code, sites[0].port)


RELAY = """
import http.server, threading, urllib.request
class Relay(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try: body, status = urllib.request.urlopen(self.path[1:]).read(), 200
        except Exception as error: body, status = str(error).encode(), 502
        self.send_response(status); self.send_header('Content-Length', str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 8000), Relay)
threading.Thread(target=server.serve_forever, daemon=True).start()
def relayed(url):
    try: return urllib.request.urlopen('http://localhost:8000/' + url).read().decode()
    except urllib.error.HTTPError as error: return error.read().decode()
"""


def test_a_relay_inside_reaches_what_the_guest_may_reach(guest: Guest) -> None:
    assert guest.run(RELAY).error is None
    assert "api.internal" in guest.answer("relayed(f'http://api.internal:{HTTP}/echo')")
    assert "403" in guest.answer("relayed(f'http://other.internal:{HTTP}/echo')")
    guest.run("server.shutdown(); server.server_close()")


LISTENING = """
import os, socket
def listening():
    found = []
    for fd in map(int, os.listdir('/proc/self/fd')):
        try: sock = socket.socket(fileno=os.dup(fd))
        except OSError: continue
        with sock:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN): found.append(sock.getsockname())
    return found
"""


def test_the_listener_is_not_the_guests(guest: Guest) -> None:
    """No descriptor of it is inside, and its place is taken."""
    assert guest.answer(f"{LISTENING}listening()") == "[]"
    assert guest.answer("with socket.create_server(('127.0.0.1', 0)): found = listening()\nlen(found)") == "1"
    taken = f"import socket\nsocket.create_server({EGRESS!r}, reuse_port=True)"
    assert "Address already in use" in guest.answer(taken)


def test_it_is_there_after_a_restart_and_after_a_kill(guest: Guest) -> None:
    get = f"{CLIENTS['urllib']}\nget('http://api.internal:{{}}/bytes?n=2')"
    port = guest.answer("HTTP")
    guest.run("import os; os.kill(os.getpid(), 9)")
    assert guest.answer(f"CA = None\n{get.format(port)}") == repr(bytes(2))
    guest.portal.call(guest.client.restart())
    assert guest.answer(f"CA = None\n{get.format(port)}") == repr(bytes(2))


def test_a_new_first_process_has_a_new_listener(
    open_guest: Callable[..., Guest], sites: tuple[Server, Server]
) -> None:
    guest = open_guest("net:api.internal:*")
    get = f"CA = None\n{CLIENTS['urllib']}\nget('http://api.internal:{sites[0].port}/bytes?n=2')"
    assert guest.answer(get) == repr(bytes(2))
    inner: Any = guest.client._session

    async def lose() -> None:
        inner.init.kill()

    guest.portal.call(lose())
    guest.run("the cell that meets the end, if it is not noticed yet")
    assert guest.answer(get) == repr(bytes(2))
    guest.portal.call(inner.close())
    assert guest.proxy is not None
    assert guest.proxy._servers == []


def test_the_network_limit_ends_a_cell_with_its_verdict(
    open_guest: Callable[..., Guest], sites: tuple[Server, Server]
) -> None:
    get = f"CA = None\n{CLIENTS['urllib']}\nlen(get('http://api.internal:{sites[0].port}/bytes?n=600000'))"
    guest = open_guest("net:api.internal:*", limits=Limits(network=1_000_000))
    assert guest.answer(get) == "600000"
    result = guest.run(get)
    assert result.error is not None
    assert result.verdict is not None
    assert (result.verdict.reason, result.verdict.limit) == ("network", 1_000_000)
    assert "moved more over the network than its limit" in result.verdict.explain()
    control = open_guest("net:api.internal:*")
    assert [control.answer(get) for _ in range(2)] == ["600000"] * 2


def test_a_guest_that_was_given_no_proxy_has_none(portal: Portal, open_guest: Callable[..., Guest]) -> None:
    bare = Guest(portal, open_guest("net:api.internal:*").client._runtime, None)
    assert bare.answer("import os\n[n for n in os.environ if 'proxy' in n.lower()]") == "[]"
    assert "refused" in bare.answer(f"import socket\nsocket.create_connection({EGRESS!r}, 5)")
