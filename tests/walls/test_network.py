"""Network: no address in any spelling, no socket of the host, no packet out."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.walls.conftest import FILE_WALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.walls.conftest import House

NET = ("net",)
#: This host, as people who were told "127.0.0.1 is blocked" write it.
SPELLINGS = [
    "127.0.0.1", "localhost", "127.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1",
    "127.255.255.254", "::1", "::", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:1", "[::1]",
]  # fmt: skip
GREET = """
import socket
def greeting(host, port):
    try:
        with socket.create_connection((host.strip("[]"), port), 3) as connection:
            return connection.recv(9).decode()
    except OSError as error:
        return type(error).__name__ if not error.errno else error.errno
"""
ECONNREFUSED, ENETUNREACH = 111, 101


def _addresses() -> list[str]:
    """This host's own addresses beside loopback."""
    found = [
        a.address for group in psutil.net_if_addrs().values() for a in group if a.family == socket.AF_INET
    ]
    return [address for address in found if not address.startswith("127.")]


@pytest.fixture(scope="module")
def greetings(house: House, listener: int) -> Callable[[tuple[str, ...]], dict[str, Any]]:
    """What each spelling leads to, by walls left out; asked once."""
    code = f"{GREET}\nhosts = {[*SPELLINGS, *_addresses()]!r}\n{{h: greeting(h, {listener}) for h in hosts}}"
    known: dict[tuple[str, ...], dict[str, Any]] = {}

    def ask(without: tuple[str, ...]) -> dict[str, Any]:
        if without not in known:
            known[without] = eval(str(house.run(code, without=without).result))
        return known[without]

    return ask


@pytest.mark.parametrize("host", SPELLINGS)
def test_net_no_service_of_the_host(greetings: Callable[..., dict[str, Any]], host: str) -> None:
    assert greetings(())[host] == ECONNREFUSED, "the guest's own loopback, where nobody listens"
    assert greetings(NET)[host] == "planted"


def test_net_no_own_address_of_the_host(greetings: Callable[..., dict[str, Any]]) -> None:
    for address in _addresses():
        assert greetings(())[address] == ENETUNREACH
        assert greetings(NET)[address] == "planted"


#: A datagram's socket that is connected sends nothing, and has a source address where there is a route.
SOURCE = """
import socket
def source(address, device):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.connect((address, 80, 0, device) if family == socket.AF_INET6 else (address, 80))
        return sender.getsockname()[0]
"""


def _device() -> int:
    """The host's device that has a link-local address of its own: whoever means another must name it."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address.startswith("fe80:") for address in addresses):
            return socket.if_nametoindex(name)
    return 0


def _has_route(address: str) -> bool:
    namespace: dict[str, Any] = {}
    exec(SOURCE, namespace)
    try:
        return bool(namespace["source"](address, _device()))
    except OSError:
        return False


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "192.0.2.1",
        "10.0.0.1",
        "2001:db8::1",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:192.0.2.1",
    ],
)
def test_net_no_route(attack: Callable[..., str], address: str) -> None:
    """No packet leaves: metadata services, private and documentation addresses."""
    code = f"import socket; socket.create_connection(({address!r}, 80), 2)"
    answer = attack(code)
    assert "Network is unreachable" in answer or "Invalid argument" in answer, answer
    code = f"{SOURCE}\nsource({address!r}, {_device()}) and 'routed'"
    answer = attack(code)
    assert re.match("OSError.*(Network is unreachable|Invalid argument|No such device)", answer), answer
    if not _has_route(address):
        pytest.skip(f"needs a host with a network device that leads to {address}")
    assert attack(code, without=NET) == "'routed'"


def test_net_no_interface_but_its_own_loopback(attack: Callable[..., str]) -> None:
    """The control of the test above: without the wall, the host's interfaces and routes are there."""
    code = "[line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]]"
    assert attack(code) == "['lo']"
    if len(socket.if_nameindex()) == 1:
        pytest.skip("needs a host with a network device")
    assert set(eval(attack(code, without=NET))) == {name for _, name in socket.if_nameindex()}


def test_net_routes_are_empty(attack: Callable[..., str]) -> None:
    code = "len(open('/proc/net/route').readlines()), len(open('/proc/net/arp').readlines())"
    assert attack(code) == "(1, 1)"
    routes = len(Path("/proc/net/route").read_text().splitlines())
    if routes == 1:
        pytest.skip("needs a host with a network device")
    assert attack("len(open('/proc/net/route').readlines())", without=NET) == str(routes)


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.5)
        yield receiver


def test_net_no_datagram(attack: Callable[..., str], datagrams: socket.socket) -> None:
    """As a tunnel by DNS would send them; names are not resolved either."""
    port = datagrams.getsockname()[1]
    code = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.sendto(b"secret.example.org", ("127.0.0.1", {port}))
"""
    attack(code)
    with pytest.raises(TimeoutError):
        datagrams.recv(99)
    attack(code, without=NET)
    assert datagrams.recv(99) == b"secret.example.org"


def test_net_no_names(attack: Callable[..., str]) -> None:
    """No name of the host's own table, and no server to ask for others."""
    own = Path("/etc/hosts").read_text()
    assert "gaierror" in attack("import socket; socket.getaddrinfo('example.org', 80)")
    read = "open('/etc/resolv.conf').read(), {!r} in open('/etc/hosts').read()"
    assert attack(read.format(own)) == "('', False)"
    resolv = Path("/etc/resolv.conf").read_text() if Path("/etc/resolv.conf").exists() else ""
    assert attack(read.format(own), without=FILE_WALLS) == str((resolv, True))


ABSTRACT = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0{name}'); 'connected'"


def test_abstract_sockets_are_covered_twice(attack: Callable[..., str]) -> None:
    """By the network namespace and by Landlock's scope: either alone holds, the control removes both."""
    name = f"kernel-runtime-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        code = ABSTRACT.format(name=name)
        assert "Error" in attack(code)
        assert "Error" in attack(code, without=NET)
        assert "Error" in attack(code, without=("landlock",))
        assert attack(code, without=("net", "landlock")) == "'connected'"


def test_mount_no_socket_of_the_host_by_its_path(attack: Callable[..., str]) -> None:
    path = f"/var/tmp/kernel-runtime-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        os.chmod(path, 0o777)
        server.listen()
        try:
            code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r}); 'connected'"
            assert "FileNotFoundError" in attack(code)
            assert attack(code, without=FILE_WALLS) == "'connected'"
        finally:
            os.unlink(path)


def test_net_two_guests_do_not_meet(house: House) -> None:
    """Not on loopback, not by an abstract name, on either side of one zygote."""
    serve = """
import socket
kept = [socket.create_server(("127.0.0.1", 4567)), socket.socket(socket.AF_UNIX)]
kept[1].bind("\\0meeting")
kept[1].listen()
"""
    meet = """
import socket
def met(family, address):
    try:
        socket.socket(family).connect(address)
    except OSError as error:
        return type(error).__name__
    return "met"
[met(socket.AF_INET, ("127.0.0.1", 4567)), met(socket.AF_UNIX, "\\0meeting")]
"""
    one, other = house.open(), house.open()
    one.run(serve)
    assert other.answer(meet) == "['ConnectionRefusedError', 'ConnectionRefusedError']"
    assert one.answer(meet) == "['met', 'met']", "the control: within one guest they meet"
    one.close()
    other.close()
