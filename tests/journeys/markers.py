"""Servers on 127.0.0.1 that note who calls: the proof that an attack got out of a page."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c000000000100010000020144003b")
_BODIES = {
    "image": ("image/gif", _GIF),
    "style": ("text/css", b"p{}"),
    "script": ("text/javascript", b"1"),
    "font": ("font/woff2", b""),
}


class Markers:
    """``called``: names of the attacks whose address was asked for. ``aims``: the addresses."""

    def __init__(self) -> None:
        self.called: set[str] = set()
        self.aims: dict[str, str] = {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        name = re.split(r"[/?.]", self.path.lstrip("/"))[0]
        self.server.called.add(name)
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        goal = self.headers.get("Sec-Fetch-Dest", "")
        # Nothing to show: who navigates a page here leaves it where it is, for the other attacks.
        kind, body = _BODIES.get(goal, ("", b""))
        self.send_response(200 if body else 204)
        self.send_header("Access-Control-Allow-Origin", self.headers.get("Origin") or "*")
        self.send_header("Access-Control-Allow-Credentials", "true")
        self.send_header("Cache-Control", "no-store")
        if body:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_HEAD = do_OPTIONS = do_GET  # noqa: N815 — the interface

    def log_message(self, *_: Any) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, called: set[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.called = called

    def handle_error(self, *_: Any) -> None:
        """A browser that hangs up early is none."""


#: Words that stand for a socket of their own, and the attack that is aimed at it.
SOCKETS = {
    "PRECONNECT": (socket.SOCK_STREAM, "fetch_preconnect"),
    "STUN": (socket.SOCK_DGRAM, "frame_script_webrtc"),
    "STUN_INNER": (socket.SOCK_DGRAM, "frame_script_inner_webrtc"),
    "STUN_SRCDOC": (socket.SOCK_DGRAM, "frame_script_srcdoc_webrtc"),
    "STUN_COPIED": (socket.SOCK_DGRAM, "frame_script_copied_webrtc"),
}


@contextlib.contextmanager
def markers() -> Iterator[Markers]:
    """An HTTP server, and sockets that note connections or datagrams."""
    found = Markers()
    with contextlib.ExitStack() as stack:
        http = stack.enter_context(_Server(found.called))
        for word, (kind, name) in SOCKETS.items():
            port = stack.enter_context(_noting(kind, name, found.called))
            found.aims[word] = f"127.0.0.1:{port}"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        found.aims["URL"] = f"http://127.0.0.1:{http.server_port}"
        found.aims["SCHEMELESS"] = f"//127.0.0.1:{http.server_port}"
        try:
            yield found
        finally:
            http.shutdown()


@contextlib.contextmanager
def _noting(kind: socket.SocketKind, name: str, called: set[str]) -> Iterator[int]:
    """The port of a socket; who comes there is noted under ``name``."""
    with socket.socket(socket.AF_INET, kind) as listening:
        listening.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            listening.listen()
        threading.Thread(target=_note, args=(listening, kind, name, called), daemon=True).start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            with contextlib.suppress(OSError):  # a datagram socket has nobody to say it to, but wakes up
                listening.shutdown(socket.SHUT_RDWR)


def _note(listening: socket.socket, kind: socket.SocketKind, name: str, called: set[str]) -> None:
    with contextlib.suppress(OSError):
        while True:
            if kind is socket.SOCK_STREAM:
                listening.accept()[0].close()
            elif not listening.recv(2048):
                return
            called.add(name)
