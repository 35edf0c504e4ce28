"""A Redis or Valkey server of a test's own: a directory, a socket in it, no port."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "the server's own password"


def program() -> str:
    """The server; the test is skipped aloud where there is none."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        pytest.skip("needs Redis (redis-server); on Debian: apt-get install redis-server")
    return found


class RedisServer:
    """It can be ended and started again, at the same place, with nothing in it."""

    def __init__(self, place: Path) -> None:
        self.socket = place / "socket"
        self.url = f"unix://{self.socket}"
        self._place = place
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self._place),
            "save": "",
            "requirepass": PASSWORD,
        }
        config = "".join(f'{name} "{value}"\n' for name, value in options.items())
        self._process = subprocess.Popen(
            [program(), "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._process.stdin as file:
            file.write(config)
        said = []
        for line in self._process.stdout:
            said.append(line)
            if "ready to accept connections" in line:
                return
        raise AssertionError("".join(said))

    def end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It takes connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def client(self) -> Any:
        """What the operator sees."""
        import redis

        return redis.Redis.from_url(self.url, password=PASSWORD)


@contextlib.contextmanager
def running() -> Iterator[RedisServer]:
    program()
    with tempfile.TemporaryDirectory(prefix="kr-redis-") as place:
        server = RedisServer(Path(place))
        try:
            server.start()
            yield server
        finally:
            server.end()
