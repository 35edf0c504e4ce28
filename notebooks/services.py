"""What `03_permissions.ipynb` asks for: a small shop on this machine, its database, two secrets, a file.

    python notebooks/services.py jupyter lab          # or: make services

Runs a command beside the shop. State and policies are its own, in a directory that goes when the command ends: nothing
of yours is read or changed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: This machine by another name than the one that means the guest itself when the guest says it.
HOST = "127.0.0.2"
SECRETS = {"shop-token": "shop-7f3a9c21", "shop-voucher": "ten-percent-off"}
PRICES = [("apple", 0.4), ("bread", 3.2), ("coffee", 7.9)]
ORDERS = [("apple", 12), ("coffee", 2), ("apple", 3)]
KEPT = Path(__file__).with_name("out") / "report.txt"

POLICY = """\
allow = [
  "env:SHOP_URL",
  "env:SHOP_FILES",
  "cache",
  "db:shop:read",
  {{ scope = "secret:shop-token", arguments = {{ use = "http", host = "{host}" }} }},
]
deny = ["db:shop:write"]
"""


class Shop(BaseHTTPRequestHandler):
    """`/prices.csv` for everybody, `/orders` for who has the token, `/echo` says what it was sent."""

    def do_GET(self) -> None:
        sent = self.headers.get("Authorization", "")
        if self.path == "/prices.csv":
            rows = ["item,price", *(f"{item},{price}" for item, price in PRICES)]
            self._answer(200, "text/csv", "\n".join(rows) + "\n")
        elif self.path == "/orders" and sent != f"Bearer {SECRETS['shop-token']}":
            self._answer(401, "application/json", json.dumps({"error": "who are you?"}))
        elif self.path == "/orders":
            found = [{"item": item, "count": count} for item, count in ORDERS]
            self._answer(200, "application/json", json.dumps(found))
        elif self.path == "/echo":
            self._answer(200, "text/plain", f"you sent: {sent}")
        else:
            self._answer(404, "text/plain", "there is no such page")

    def _answer(self, status: int, kind: str, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """It says nothing in the terminal."""


@contextlib.contextmanager
def services() -> Iterator[dict[str, str]]:
    """The shop is open; the variables that lead a kernel to it."""
    place = Path(tempfile.mkdtemp(prefix="kernel-runtime-shop-"))
    server = ThreadingHTTPServer((HOST, 0), Shop)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield _furnished(place, f"http://{HOST}:{server.server_port}")
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
        shutil.rmtree(place)


def _furnished(place: Path, url: str) -> dict[str, str]:
    config = place / "config" / "kernel-runtime"
    config.mkdir(parents=True, mode=0o700)
    (config / "policy.toml").write_text(POLICY.format(host=HOST))
    (config / "databases.toml").write_text(f'[shop]\nurl = "sqlite:///{place / "shop.db"}"\n')
    for file in config.iterdir():
        file.chmod(0o600)
    _database(place / "shop.db")
    (place / "files").mkdir()
    (place / "files" / "terms.txt").write_text("Whoever buys ten of a thing pays for nine.\n")
    KEPT.unlink(missing_ok=True)  # of an earlier run
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    own = {"KERNEL_RUNTIME_STATE": str(place / "state"), "KERNEL_RUNTIME_MASTER_KEY": key}
    for name, value in SECRETS.items():
        _secret(name, value, own)
    return {
        **own,
        "XDG_CONFIG_HOME": str(place / "config"),
        "SHOP_URL": url,
        "SHOP_FILES": str(place / "files"),
    }


def _database(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE stock (item TEXT, count INTEGER)")
        connection.executemany(
            "INSERT INTO stock VALUES (?, ?)", [("apple", 40), ("bread", 5), ("coffee", 9)]
        )


def _secret(name: str, value: str, variables: dict[str, str]) -> None:
    """As in a terminal: `kernel-runtime secrets set NAME`."""
    command = [sys.executable, "-m", "kernel_runtime", "secrets", "set", name]
    given = {"input": value, "text": True, "stdout": subprocess.DEVNULL, "check": True}
    subprocess.run(command, env={**os.environ, **variables}, **given)


def main(command: list[str]) -> int:
    """Run a command beside the shop; its exit code."""
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    with services() as variables, contextlib.suppress(KeyboardInterrupt):
        return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode
    return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
