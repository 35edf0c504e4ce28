"""What a run leaves behind: its outputs, collected from the guest's frames as they come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain.amounts import MESSAGE_OVERHEAD, show_bytes
from kernel_runtime.domain.errors import GuestCodeError, GuestLost, LimitExceeded, ProtocolViolation
from kernel_runtime.domain.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

Output = dict[str, Any]
_SHOWN = ("display_data", "execute_result", "update_display_data", "clear_output")
#: An error is part of no limit, so its lines are counted.
_MAX_LINES = 1000


class Result(msgspec.Struct, kw_only=True):
    """What a run left behind.

    ``outputs`` are dicts in the form of a notebook's outputs (``output_type`` stream,
    display_data, execute_result or error), in order. ``error`` is the exception that ended the
    code, ``verdict`` why the guest ended or was interrupted, or which limit is behind the error;
    both None when all went well.
    ``denied``: system calls that the sandbox refused meanwhile, like ``socket(AF_VSOCK)``. ``cell``: its number
    among the runs of the session, which snapshots name (0: it has none).
    """

    outputs: list[Output] = []
    error: GuestCodeError | None = None
    verdict: Verdict | None = None
    seconds: float = 0.0
    denied: list[str] = []
    cell: int = 0

    @property
    def ok(self) -> bool:
        return self.error is None and self.verdict is None

    def text(self, name: str = "stdout") -> str:
        """All text of a stream: ``stdout`` or ``stderr``."""
        return "".join(o["text"] for o in self.outputs if o["output_type"] == "stream" and o["name"] == name)

    @property
    def stdout(self) -> str:
        return self.text("stdout")

    @property
    def stderr(self) -> str:
        return self.text("stderr")

    @property
    def result(self) -> str | None:
        """The text of the last expression's value, as a notebook would show it."""
        texts = [o["data"].get("text/plain") for o in self.outputs if o["output_type"] == "execute_result"]
        return texts[-1] if texts and isinstance(texts[-1], str) else None

    def check(self) -> Result:
        """Itself; or raises what went wrong (``GuestCodeError``, ``LimitExceeded``, ``GuestLost``)."""
        if self.verdict is not None and not (self.verdict.raised and self.error is not None):
            raise LimitExceeded(self.verdict) if self.verdict.is_limit else GuestLost(self.verdict)
        if self.error is not None:
            raise self.error
        return self


class Collector:
    """Turns a run's frames into outputs. ``limit``: bytes of output that are kept; ``answer`` takes
    what ``on_input`` gave.
    """

    def __init__(
        self,
        answer: Callable[[wire.Answer], None],
        limit: int,
        on_output: Callable[[Output], None] | None,
        on_input: Callable[[str, bool], str | None] | None,
    ) -> None:
        self.result = Result()
        self._send_answer = answer
        self._texts: list[str] = []
        self._left = limit
        self._notice = f"\n[kernel_runtime: the output limit of {show_bytes(limit)} is reached]\n"
        self._on_output = on_output
        self._on_input = on_input
        self._asking: set[asyncio.Task[None]] = set()

    def end(self) -> None:
        """The run is over. An answer that comes later is nobody's: the next run counts its prompts anew."""
        self.settle()
        for task in self._asking:
            task.cancel()

    def take(self, frame: wire.FromGuest) -> None:
        if isinstance(frame, wire.Stream):
            if frame.name not in ("stdout", "stderr"):
                raise ProtocolViolation(f"no stream is called {frame.name[:80]!r}")
            self._admit({"output_type": "stream", "name": frame.name, "text": frame.text}, len(frame.text))
        elif isinstance(frame, wire.Publish):
            self._published(frame)
        elif isinstance(frame, wire.Ask):
            task = asyncio.get_running_loop().create_task(self._answer(frame))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        elif isinstance(frame, wire.Denied):
            self.result.denied.append(frame.call)
        elif isinstance(frame, wire.Reply):
            self._replied(frame)

    def _replied(self, frame: wire.Reply) -> None:
        """An error that was not shown as one: a magic that is not known, or an interrupt while it was being told."""
        content = wire.read_object("reply", frame.content)
        if content.get("status") == "error" and self.result.error is None:
            self._failed(content, len(frame.content))

    def _published(self, frame: wire.Publish) -> None:
        content = wire.read_object("message", frame.content)
        if frame.kind == "error":
            self._failed(content, len(frame.content))
        elif frame.kind in _SHOWN:
            if frame.kind != "clear_output" and not isinstance(content.get("data"), dict):
                raise ProtocolViolation(f"a {frame.kind} without data")
            self._admit({**content, "output_type": frame.kind}, len(frame.content) + MESSAGE_OVERHEAD)

    def _failed(self, content: dict[str, Any], size: int) -> None:
        said: dict[str, Any] = {
            "ename": str(content.get("ename", "")),
            "evalue": str(content.get("evalue", "")),
            "traceback": _lines(content.get("traceback")),
        }
        first = self.result.error is None  # is shown whatever was printed before it
        self.result.error = GuestCodeError(**said)
        self._admit({"output_type": "error", **said}, size + MESSAGE_OVERHEAD, always=first)

    def _admit(self, output: Output, size: int, always: bool = False) -> None:
        """What is within the limit; beyond it, one notice."""
        if always:
            self._add(output)
            return
        if self._left < 0:
            return
        self._left -= size
        if self._left < 0:
            output = {"output_type": "stream", "name": "stderr", "text": self._notice}
        self._add(output)

    def _add(self, output: Output) -> None:
        last = self.result.outputs[-1] if self.result.outputs else {}
        if output["output_type"] == "stream" == last.get("output_type") and last["name"] == output["name"]:
            self._texts.append(output["text"])
        else:
            self.settle()
            self.result.outputs.append(dict(output))
        if self._on_output is not None:
            self._on_output(output)

    def settle(self) -> None:
        """Put a stream's texts together, once: each for itself would be copied again and again."""
        if self._texts:
            last = self.result.outputs[-1]
            last["text"] = "".join((last["text"], *self._texts))
            self._texts.clear()

    async def _answer(self, frame: wire.Ask) -> None:
        text = None
        if self._on_input is not None:
            text = await asyncio.to_thread(self._on_input, frame.prompt, frame.password)
        self._send_answer(wire.Answer(id=frame.id, text=text))


def _lines(traceback: object) -> list[str]:
    return [str(line) for line in traceback[-_MAX_LINES:]] if isinstance(traceback, list) else []
