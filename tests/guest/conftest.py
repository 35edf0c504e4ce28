"""The host's side of one live branch, for tests: frames in, frames out, with deadlines."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime import wire
from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.limits import Limits
from kernel_runtime.guest import values
from kernel_runtime.workers.cells import _WAKES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds after which something hangs.
PATIENCE = 90.0
_RUNNER = Path(__file__).with_name("branch.py")


class Outcome:
    """What one request led to."""

    def __init__(self, frames: list[Any]) -> None:
        self.frames = frames

    def text(self, name: str = "stdout") -> str:
        return "".join(f.text for f in self.frames if isinstance(f, wire.Stream) and f.name == name)

    def published(self, kind: str | None = None) -> list[Any]:
        found = [f for f in self.frames if isinstance(f, wire.Publish) and kind in (None, f.kind)]
        return [json.loads(f.content) for f in found]

    @property
    def reply(self) -> dict[str, Any]:
        (reply,) = [f for f in self.frames if isinstance(f, wire.Reply)]
        content: dict[str, Any] = json.loads(reply.content)
        return content

    @property
    def result(self) -> str | None:
        results = self.published("execute_result")
        return results[0]["data"]["text/plain"] if results else None

    @property
    def error(self) -> str | None:
        errors = self.published("error")
        return errors[0]["ename"] if errors else None

    @property
    def traceback(self) -> str:
        """As a person reads it."""
        (error,) = self.published("error")
        return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error["traceback"]))


class Host:
    """One guest process; closes with the test."""

    def __init__(
        self, cwd: str = "/tmp", limits: Limits | None = None, level: str = "moderate", **begin: Any
    ) -> None:
        ours, theirs = socket.socketpair()
        env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8"}
        first = wire.Begin(
            branch=1,
            cwd=str(cwd),
            env=env,
            limits=limits or Limits(memory=512 * MIB),
            level=level,
            **begin,
        )
        body = wire.pack(first)[4:]
        pid_read, pid_write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, str(_RUNNER), str(theirs.fileno()), body.hex(), str(pid_write)],
            pass_fds=[theirs.fileno(), pid_write],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        theirs.close()
        os.close(pid_write)
        self.sock = ours
        self.reader = wire.FrameReader(wire.decode_from_branch)
        self.frames: list[Any] = []
        self.number = 0
        with os.fdopen(pid_read) as file:
            self.pid = int(file.readline())
        try:
            self.ready = self.until(lambda f: isinstance(f, wire.Ready))[-1]
        except BaseException:
            self.close()
            raise
        self.info = json.loads(self.ready.info)

    def close(self) -> None:
        self.sock.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()

    def send(self, frame: wire.ToBranch) -> None:
        self.sock.sendall(wire.pack(frame))

    def until(self, wanted: Callable[[Any], bool], timeout: float = PATIENCE) -> list[Any]:
        """Frames up to and with the first wanted one."""
        taken: list[Any] = []
        deadline = time.monotonic() + timeout
        while True:
            while self.frames:
                taken.append(self.frames.pop(0))
                if wanted(taken[-1]):
                    return taken
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                self.frames = taken
                raise TimeoutError(f"waited {timeout} s; so far {taken}")
            data = self.sock.recv(1 << 18)
            if not data:
                raise EOFError(f"the branch ended; so far {taken}")
            self.reader.feed(data)
            self.frames.extend(self.reader.frames())

    def drain(self, seconds: float) -> list[Any]:
        """Frames that arrive within some time."""
        with pytest.raises(TimeoutError):
            self.until(lambda _: False, seconds)
        taken, self.frames = self.frames, []
        return taken

    def request(self, kind: str, content: dict[str, Any], **more: Any) -> str:
        """Send a request without waiting for its end; returns its id."""
        self.number += 1
        name = more.pop("name", f"r{self.number}")
        header = json.dumps({"msg_id": f"msg-{name}", "msg_type": kind, "session": "s", "username": "u"})
        self.send(
            wire.Request(
                id=name, kind=kind, content=json.dumps(content).encode(), header=header.encode(), **more
            )
        )
        return name

    def start(self, code: str, count: int = 1, **content: Any) -> str:
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "allow_stdin": True,
            "user_expressions": {},
            "stop_on_error": True,
        } | content
        return self.request("execute_request", content, count=count)

    def finish(self, name: str, timeout: float = PATIENCE) -> Outcome:
        frames = self.until(lambda f: isinstance(f, wire.Done) and f.parent == name, timeout)
        return Outcome([f for f in frames if getattr(f, "parent", None) == name])

    def run(self, code: str, count: int = 1, timeout: float = PATIENCE, **content: Any) -> Outcome:
        return self.finish(self.start(code, count, **content), timeout)

    def ask(self, kind: str, **content: Any) -> dict[str, Any]:
        return self.finish(self.request(kind, content)).reply

    def interrupt(self) -> None:
        """As the session does: what may have missed it is woken up afterwards."""
        os.killpg(self.pid, signal.SIGINT)
        for seconds in _WAKES:
            threading.Timer(seconds, self._wake).start()

    def _wake(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGURG)

    def piped(self, name: str = "stdout", timeout: float = PATIENCE) -> str:
        """What has come through the pipe of fd 1 or 2 (at least something)."""
        pipe = self.process.stdout if name == "stdout" else self.process.stderr
        assert pipe is not None
        if not select.select([pipe], [], [], timeout)[0]:
            return ""
        return os.read(pipe.fileno(), 1 << 16).decode()

    def get(self, name: str) -> Any:
        self.send(wire.Get(id="get", name=name))
        got = self.until(lambda f: isinstance(f, wire.Got))[-1]
        if got.error is not None:
            raise ValueError(got.error)
        return values.decode(got.value)

    def put(self, name: str, value: Any) -> None:
        self.send(wire.Put(id="put", name=name, value=values.encode(value)))
        got = self.until(lambda f: isinstance(f, wire.Got))[-1]
        assert got.error is None, got.error


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One guest for the tests of a module that leave it healthy."""
    host = Host(str(tmp_path_factory.mktemp("guest")))
    yield host
    host.close()


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Host]:
    """A guest of one test's own."""
    host = Host(str(tmp_path))
    yield host
    host.close()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """As ``shared``, at level strict."""
    host = Host(str(tmp_path_factory.mktemp("strict")), level="strict")
    yield host
    host.close()


@pytest.fixture(scope="session")
def new_guest() -> type[Host]:
    """For tests that begin a branch in their own way; they close it."""
    return Host
