"""A front end with a debugger."""

from __future__ import annotations

import time
from queue import Empty
from typing import Any

from tests.jupyter.kernels import PATIENCE, Kernel, text_of

Body = dict[str, Any]

FUNCTION = "def f(a, b):\n    c = a + b\n    return c\n\nf(2, 3)"


class Client:
    """A front end with a debugger."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.seq = 0

    def ask(self, command: str, timeout: float = PATIENCE, /, **arguments: Any) -> Body:
        self.seq += 1
        content = {"type": "request", "seq": self.seq, "command": command, "arguments": arguments}
        reply = self.kernel.ask("control", "debug_request", content, timeout)
        assert (reply["type"], reply["command"], reply["request_seq"]) == ("response", command, self.seq)
        return reply

    def body(self, command: str, **arguments: Any) -> Body:
        reply = self.ask(command, **arguments)
        assert reply["success"], reply
        return reply["body"]

    def start(self) -> None:
        assert self.initialize()["success"]
        self.body("attach")

    def initialize(self) -> Body:
        return self.ask(
            "initialize",
            clientID="test-client",
            clientName="testClient",
            adapterID="",
            pathFormat="path",
            linesStartAt1=True,
            columnsStartAt1=True,
            supportsVariableType=True,
            supportsVariablePaging=True,
            supportsRunInTerminalRequest=True,
            locale="en",
        )

    def break_at(self, code: str, *lines: int) -> str:
        path = self.body("dumpCell", code=code)["sourcePath"]
        found = self.body(
            "setBreakpoints",
            source={"path": path},
            breakpoints=[{"line": line} for line in lines],
            sourceModified=False,
        )
        assert [each["verified"] for each in found["breakpoints"]] == [True] * len(lines)
        return path

    def event(self, name: str, timeout: float = PATIENCE) -> Body:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                message = self.kernel.kc.get_iopub_msg(timeout=0.5)
            except Empty:
                continue
            if message["msg_type"] == "debug_event" and message["content"]["event"] == name:
                assert message["content"]["type"] == "event"
                return message["content"].get("body")
        raise TimeoutError(f"no event {name}")

    def frames(self, thread: int) -> list[Body]:
        return self.body("stackTrace", threadId=thread)["stackFrames"]

    def stop(self, code: str, *lines: int) -> tuple[str, int, list[Body]]:
        """Run a cell up to its first breakpoint: the request, the thread, its frames."""
        self.break_at(code, *lines)
        cell = self.kernel.kc.execute(code)
        thread = self.event("stopped")["threadId"]
        return cell, thread, self.frames(thread)

    def go_on(self, thread: int, cell: str) -> Body:
        self.body("continue", threadId=thread)
        return self.kernel.finish(cell)[0]["content"]


def named(variables: list[Body], name: str) -> Body:
    return next(each for each in variables if each["name"] == name)


def threads(kernel: Kernel) -> str:
    return text_of(kernel.run("import os; print(len(os.listdir('/proc/self/task')))")[1]).strip()
