"""The outside world of these tests: a real HTTP server, certificates of its own, and names that lead where tests say."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import io
import ipaddress
import json
import ssl
import threading
import zipfile
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kernel_runtime.broker.resolver import Resolver
from kernel_runtime.domain.manifest import undeclared
from kernel_runtime.domain.policy import Policy, Source
from kernel_runtime.domain.rules import Effect, Grant, Layer, Rule
from kernel_runtime.domain.scopes import parse_scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kernel_runtime.broker.gate import Gate, Ticket
    from kernel_runtime.broker.handler import Demand
    from kernel_runtime.domain.decide import Request
    from kernel_runtime.state import State


WHEEL = "tiny-1.0-py3-none-any.whl"
LOCAL = ["127.0.0.1"]


class Site(BaseHTTPRequestHandler):
    """Answers by path; ``server.seen`` remembers what came, ``server.peers`` over which connections."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self._chunked() if self.headers.get("Transfer-Encoding") else self.rfile.read(length)
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.peers.add(self.client_address)
        self.server.seen.append((self.command, self.path, dict(self.headers.items())))
        getattr(self, f"on_{parts.path.strip('/').split('/')[0]}", self.on_echo)(query, body)

    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815 — the interface

    def on_echo(self, _: dict[str, str], body: bytes) -> None:
        said = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body.decode("latin-1"),
        }
        self.reply(json.dumps(said).encode())

    def on_redirect(self, query: dict[str, str], _: bytes) -> None:
        self.reply(b"moved", int(query.get("status", "302")), {"Location": query["to"]})

    def on_table(self, _: dict[str, str], __: bytes) -> None:
        self.reply(b"a,b\n1,2\n3,4\n")

    def on_simple(self, _: dict[str, str], __: bytes) -> None:
        """An index of packages, as pip asks for it."""
        self.reply(f'<a href="/wheel/{WHEEL}">{WHEEL}</a>'.encode(), 200, {"Content-Type": "text/html"})

    def on_wheel(self, _: dict[str, str], __: bytes) -> None:
        self.reply(wheel())

    def on_circle(self, _: dict[str, str], __: bytes) -> None:
        self.reply(b"moved", 302, {"Location": "/circle"})

    def on_bytes(self, query: dict[str, str], _: bytes) -> None:
        self.reply(bytes(int(query["n"])))

    def on_gzip(self, query: dict[str, str], _: bytes) -> None:
        self.reply(gzip.compress(bytes(int(query["n"]))), 200, {"Content-Encoding": "gzip"})

    def on_encoded(self, query: dict[str, str], _: bytes) -> None:
        self.reply(b"whatever", 200, {"Content-Encoding": query["as"]})

    def on_flaky(self, query: dict[str, str], _: bytes) -> None:
        self.server.tries[self.path] += 1
        failing = self.server.tries[self.path] <= int(query["times"])
        self.reply(b"tried", 503 if failing else 200)

    def on_drop(self, query: dict[str, str], _: bytes) -> None:
        self.server.tries[self.path] += 1
        if self.server.tries[self.path] <= int(query["times"]):
            self.close_connection = True
        else:
            self.reply(b"tried")

    def on_stall(self, _: dict[str, str], __: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x")
        self.wfile.flush()
        self.server.over.wait(60)
        self.close_connection = True

    def reply(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def wheel() -> bytes:
    """``tiny`` 1.0: a package of one line."""
    about, files = "tiny-1.0.dist-info", io.BytesIO()
    with zipfile.ZipFile(files, "w") as archive:
        archive.writestr("tiny.py", "SAID = 'fetched'\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "tiny.py,,\n")
    return files.getvalue()


class Server(ThreadingHTTPServer):
    """On loopback; ``tls`` makes it speak TLS."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), Site)
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.peers: set[tuple[str, int]] = set()
        self.tries: Counter[str] = Counter()
        self.over = threading.Event()
        self.tls = tls

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake in the connection's own thread: a client that never begins it keeps nobody waiting."""
        if self.tls is not None:
            request = self.tls.wrap_socket(request, server_side=True)
        with request:
            super().finish_request(request, client_address)

    def handle_error(self, *_: Any) -> None:
        """Clients hang up in these tests."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    with Server(tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


class Certificates:
    """A certificate for ``names`` that signs itself; ``server`` and ``client`` contexts."""

    def __init__(self, place: Path, *names: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
        now = dt.datetime.now(dt.UTC)
        day = dt.timedelta(days=1)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(
                x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.file = place / "certificate.pem"
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.file.write_bytes(private + certificate.public_bytes(pem))
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(self.file)
        self.client = ssl.create_default_context(cafile=str(self.file))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Names:
    """A resolver's answers: name → addresses, or a list of answers that are given in turn."""

    def __init__(self, **names: Any) -> None:
        self.answers: dict[str, Any] = {name.replace("_", "."): answer for name, answer in names.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        answer = self.answers.get(host, [])
        if answer and isinstance(answer[0], list):
            return list(answer.pop(0) if len(answer) > 1 else answer[0])
        return list(answer)

    def resolver(self, **options: Any) -> Resolver:
        return Resolver(self, **options)


def gate(state: State, *scopes: str, rules: tuple[Rule, ...] = (), deny: tuple[str, ...] = ()) -> Gate:
    """Nobody can be asked: what is granted here is all there is."""
    denials = tuple(Rule(effect=Effect.DENY, scope=parse_scope(text), place="p:1") for text in deny)
    policy = Policy([Source(name="p", layer=Layer.USER, rules=(*rules, *denials))])
    grants = [Grant(scope=parse_scope(text)) for text in scopes]
    return state.gate(undeclared("app"), policy, grants=grants, headless=True)


def demand_of(gate: Gate) -> Demand:
    async def demand(request: Request) -> Ticket:
        ticket = gate.ask(request)
        ticket.demand()
        return ticket

    return demand


def in_loop(work: Any) -> Any:
    """Run a coroutine to its end."""
    return asyncio.run(work)
