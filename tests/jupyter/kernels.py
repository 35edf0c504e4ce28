"""Kernels for tests: the real one and one with a scripted guest, started by jupyter_client."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_client.blocking.client import BlockingKernelClient

REAL = "kernel_runtime.jupyter.kernel"
SCRIPTED = str(Path(__file__).with_name("scripted.py"))
MEMORY_HISTORY = "--HistoryManager.hist_file=:memory:"
Message = dict[str, Any]
#: Seconds after which something hangs; how fast it is belongs to the benchmarks.
PATIENCE = 90.0


def manager(module: str = SCRIPTED, *arguments: str, **options: Any) -> KernelManager:
    """A manager whose kernel is ``module``, history in memory unless told otherwise."""
    found = KernelManager(**options)
    extra = arguments if any("hist_file" in word for word in arguments) else (MEMORY_HISTORY, *arguments)
    how = [module] if module.endswith(".py") else ["-P", "-m", module]
    argv = [sys.executable, *how, "-f", "{connection_file}", *extra]
    found._kernel_spec = KernelSpec(
        argv=argv, display_name="test", language="python", interrupt_mode="message"
    )
    return found


class Kernel:
    """A running kernel and one client of it."""

    def __init__(self, km: KernelManager, kc: BlockingKernelClient) -> None:
        self.km = km
        self.kc = kc

    def run(self, code: str, timeout: float = PATIENCE, **options: Any) -> tuple[Message, list[Message]]:
        """Execute; the reply and the messages from busy to idle (without both)."""
        return self.finish(self.kc.execute(code, **options), timeout)

    def begin(self, code: str, **options: Any) -> str:
        """Start a cell that says something first; once that has come, it runs for certain."""
        msg_id = self.kc.execute(code, **options)
        self.until(msg_id, "stream")
        return msg_id

    def until(self, msg_id: str, kind: str, timeout: float = PATIENCE) -> Message:
        """The first message of this kind that the request led to."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with contextlib.suppress(Empty):
                message = self.kc.get_iopub_msg(timeout=0.5)
                if message["parent_header"].get("msg_id") == msg_id and message["msg_type"] == kind:
                    return message
        raise TimeoutError(f"no {kind} of {msg_id}")

    def finish(self, msg_id: str, timeout: float = PATIENCE) -> tuple[Message, list[Message]]:
        reply = self.reply(msg_id, timeout)
        return reply, self.outputs(msg_id, timeout)

    def reply(self, msg_id: str, timeout: float = PATIENCE) -> Message:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with contextlib.suppress(Empty):
                message = self.kc.get_shell_msg(timeout=0.5)
                if message["parent_header"].get("msg_id") == msg_id:
                    return message
        raise TimeoutError(f"no reply to {msg_id}")

    def outputs(self, msg_id: str, timeout: float = PATIENCE) -> list[Message]:
        end = time.monotonic() + timeout
        found = []
        while time.monotonic() < end:
            with contextlib.suppress(Empty):
                message = self.kc.get_iopub_msg(timeout=0.5)
                if message["parent_header"].get("msg_id") != msg_id:
                    continue
                if message["msg_type"] != "status":
                    found.append(message)
                elif message["content"]["execution_state"] == "idle":
                    return found
        raise TimeoutError(f"no idle for {msg_id}; {len(found)} messages came")

    def ask(
        self, channel: str, kind: str, content: Message | None = None, timeout: float = PATIENCE
    ) -> Message:
        """Send a request on shell or control; its reply's content."""
        message = self.kc.session.msg(kind, content or {})
        socket = getattr(self.kc, f"{channel}_channel")
        socket.send(message)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            with contextlib.suppress(Empty):
                reply = socket.get_msg(timeout=0.5)
                if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                    return reply["content"]
        raise TimeoutError(f"no reply to {kind}")


@contextlib.contextmanager
def running(module: str = SCRIPTED, *arguments: str, **options: Any) -> Iterator[Kernel]:
    """A kernel, ready; shut down at the end."""
    env = {**os.environ, **options.pop("env", {})}
    with served(manager(module, *arguments, **options), env=env) as kernel:
        yield kernel


@contextlib.contextmanager
def served(km: KernelManager, **options: Any) -> Iterator[Kernel]:
    """The manager's kernel, started with ``options``, ready; shut down at the end."""
    km.start_kernel(**options)
    kc = km.client()
    kc.start_channels()
    try:
        kc.wait_for_ready(timeout=PATIENCE)
        yield Kernel(km, kc)
    finally:
        kc.stop_channels()
        km.shutdown_kernel(now=not km.is_alive())


def text_of(outputs: list[Message], name: str = "stdout") -> str:
    """All text of a stream."""
    return "".join(
        m["content"]["text"] for m in outputs if m["msg_type"] == "stream" and m["content"]["name"] == name
    )


def kinds(outputs: list[Message]) -> list[str]:
    """The message types, without execute_input."""
    return [m["msg_type"] for m in outputs if m["msg_type"] != "execute_input"]
