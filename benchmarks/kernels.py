"""Kernels under measurement, ours and plain ipykernel, each through the same jupyter_client."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

import ipykernel.kernelspec
import zmq
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from benchmarks.bars import IPYKERNEL
from benchmarks.figures import OURS
from benchmarks.processes import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_client.blocking.client import BlockingKernelClient

SUBJECTS = (OURS, IPYKERNEL)
_OUR_SPEC = {
    "argv": [sys.executable, "-m", "kernel_runtime.jupyter.kernel", "-f", "{connection_file}"],
    "display_name": OURS,
    "language": "python",
    "interrupt_mode": "message",
}
_TIMEOUT = 120.0


@contextlib.contextmanager
def house() -> Iterator[Path]:
    """A place of our own for kernelspecs, connection files and history while kernels run."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as path:
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            os.environ[name] = f"{path}/{name.lower()}"
        specs = Path(os.environ["JUPYTER_DATA_DIR"], "kernels")
        (specs / OURS).mkdir(parents=True)
        (specs / OURS / "kernel.json").write_text(json.dumps(_OUR_SPEC))
        ipykernel.kernelspec.write_kernel_spec(specs / IPYKERNEL)
        try:
            yield Path(path)
        finally:
            os.environ.clear()
            os.environ.update(before)


class Kernel:
    """A kernel and one client. ``begun``: the moment before its start."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.begun = time.perf_counter()
        specs = KernelSpecManager(ensure_native_kernel=False)
        self.manager = KernelManager(kernel_name=subject, kernel_spec_manager=specs)
        # A client that finds the port closed tries again after 100 ms by default: too coarse here.
        self.manager.context.setsockopt(zmq.RECONNECT_IVL, 2)
        self.manager.start_kernel(stderr=subprocess.DEVNULL)
        self.client = self._connect()

    def _connect(self) -> BlockingKernelClient:
        client = self.manager.client()
        client.start_channels(hb=False, stdin=False)
        return client

    @property
    def pids(self) -> list[int]:
        """The kernel and all below it."""
        return tree(self.manager.provisioner.pid)

    def info(self) -> None:
        """Ask for kernel info and wait for the reply."""
        self.reply(self.client.kernel_info())

    def ready(self) -> None:
        """Wait until output is heard, too: a subscription takes effect some time after it is made."""
        for _ in range(100):
            asked = self.client.execute("pass", silent=True)
            self.reply(asked)
            with contextlib.suppress(TimeoutError):
                self.idle(asked, timeout=0.2)
                return
        raise TimeoutError(f"{self.subject}: its output is not heard")

    def reply(self, asked: str, timeout: float = _TIMEOUT) -> dict[str, Any]:
        """The reply on shell; an error in it is raised, and ``TimeoutError`` when none comes."""
        while True:
            try:
                message = self.client.get_shell_msg(timeout=timeout)
            except Empty:
                raise TimeoutError(f"{self.subject}: no reply") from None
            if message["parent_header"].get("msg_id") == asked:
                content: dict[str, Any] = message["content"]
                if content["status"] != "ok":
                    raise RuntimeError(f"{self.subject}: {content.get('ename')}: {content.get('evalue')}")
                return content

    def idle(self, asked: str, timeout: float = _TIMEOUT) -> list[dict[str, Any]]:
        """The output up to idle."""
        return list(self.stream(asked, timeout))

    def stream(self, asked: str, timeout: float = _TIMEOUT) -> Iterator[dict[str, Any]]:
        """The output up to idle, as it comes; ``TimeoutError`` when nothing more comes before that."""
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=timeout)
            except Empty:
                raise TimeoutError(f"{self.subject}: no idle") from None
            if message["parent_header"].get("msg_id") != asked:
                continue
            if message["msg_type"] != "status":
                yield message
            elif message["content"]["execution_state"] == "idle":
                return

    def run(self, code: str) -> list[dict[str, Any]]:
        """Run a cell; its output messages. Waits for reply and idle."""
        asked = self.client.execute(code)
        self.reply(asked)
        return self.idle(asked)

    def seconds(self, code: str) -> float:
        """How long a cell takes, from the request to reply and idle."""
        begun = time.perf_counter()
        self.run(code)
        return time.perf_counter() - begun

    def close(self) -> None:
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self.manager.context.destroy(linger=0)


@contextlib.contextmanager
def kernel(subject: str) -> Iterator[Kernel]:
    """A kernel just started; nothing is awaited."""
    started = Kernel(subject)
    try:
        yield started
    finally:
        started.close()


@contextlib.contextmanager
def pair(idle: float) -> Iterator[list[Kernel]]:
    """Both kernels, ready and left alone for ``idle`` seconds."""
    with kernel(SUBJECTS[0]) as ours, kernel(SUBJECTS[1]) as theirs:
        ours.ready()
        theirs.ready()
        time.sleep(idle)
        yield [ours, theirs]
