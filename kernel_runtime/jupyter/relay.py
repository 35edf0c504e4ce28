"""From the guest's frames to Jupyter messages: one ``Relay`` for each request in flight.

Everything a frame says is checked here before it is published in the request's name:
its type, its content's shape, what the level admits, the output's budget. A frame that
fails raises ``ProtocolViolation`` into the session, which ends the branch with that verdict.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.jupyter import contents
from kernel_runtime.jupyter.budget import OutputBudget
from kernel_runtime.jupyter.outgoing import Outgoing, stream
from kernel_runtime.jupyter.page_text import Terminal
from kernel_runtime.jupyter.policy import CONTROL_TARGET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernel_runtime.jupyter.comms import Comms
    from kernel_runtime.jupyter.messages import Message
    from kernel_runtime.jupyter.panels.sources import Sources
    from kernel_runtime.jupyter.panels.stage import Stage
    from kernel_runtime.jupyter.policy import Gate
    from kernel_runtime.jupyter.prompts import Prompts
    from kernel_runtime.jupyter.publisher import Publisher

#: Requests whose background output still finds its cell.
REMEMBERED = 1000


class Desk:
    """What all relays share."""

    def __init__(
        self,
        publisher: Publisher,
        comms: Comms,
        prompts: Prompts,
        gate: Gate,
        output: int,
        stage: Stage,
        sources: Sources,
    ) -> None:
        self.publisher = publisher
        self.comms = comms
        self.prompts = prompts
        self.gate = gate
        self.output = output
        self.stage = stage
        self.sources = sources

    def guest_died(self) -> None:
        """What the guest had open is gone with it."""
        self.comms.guest_died()
        self.gate.guest_died()

    def publish(self, kind: str, content: object, parent: bytes, metadata: object = None) -> None:
        """Publish the front's own words; text has ``note``."""
        if kind == "stream":
            raise ValueError("a stream is text that grows: ``note`` publishes it")
        extra = contents.encode(metadata) if metadata else b"{}"
        self.publisher.publish(Outgoing(kind, contents.encode(content), parent, extra))

    def note(self, text: str, parent: bytes) -> None:
        """A line of the front's own on a cell's stderr."""
        self.publisher.publish(stream("stderr", [f"[kernel_runtime: {text}]\n"], parent))


def request_of(message: Message, count: int = 0) -> wire.Request:
    """A client's message as it goes to the guest; ``count``: the execution count of a cell."""
    return wire.Request(
        id=message.id,
        kind=message.kind,
        content=message.content,
        metadata=message.metadata,
        header=message.raw,
        buffers=message.buffers,
        count=count,
    )


class Relay:
    """The sink of one request: publishes its frames, keeps its reply. ``captured``: a widget has taken output."""

    def __init__(
        self, desk: Desk, message: Message, *, count: int = 0, allow_stdin: bool = False, output: int = 0
    ) -> None:
        self.message = message
        self.reply: contents.Content | None = None
        self.denied: list[str] = []
        self.captured = False
        self._desk = desk
        self._count = count
        self._allow_stdin = allow_stdin
        self._budget = OutputBudget(output or desk.output)
        self._terminal = Terminal()
        self._expected = message.kind.removesuffix("_request") + "_reply"

    def __call__(self, frame: wire.FromGuest) -> None:
        if isinstance(frame, wire.Stream):
            self._stream(frame)
        elif isinstance(frame, wire.Publish):
            self._published(frame)
        elif isinstance(frame, wire.Reply):
            self._replied(frame)
        elif isinstance(frame, wire.Ask):
            self._asked(frame)
        elif isinstance(frame, wire.Denied):
            self.denied.append(frame.call)

    def finish(self) -> None:
        """The request is over: close its prompts, publish what its budget held back."""
        self._desk.prompts.withdraw(self.message.id)
        for out in self._budget.finish():
            self._desk.publisher.publish(out)

    def _send(self, out: Outgoing) -> None:
        for admitted in self._budget.admit(out):
            self._desk.publisher.publish(admitted)

    def _stream(self, frame: wire.Stream) -> None:
        if frame.name not in ("stdout", "stderr"):
            raise ProtocolViolation(f"no stream is called {frame.name[:80]!r}")
        if text := self._terminal.feed(frame.name, frame.text):
            self._desk.sources.logs.stream(frame.name, text, self._count)
            self._send(stream(frame.name, [text], self.message.raw))

    def _published(self, frame: wire.Publish) -> None:
        content = contents.read_published(frame.kind, frame.content)
        metadata = wire.read_object("metadata", frame.metadata)
        buffers = list(frame.buffers)
        target = self._desk.comms.target_of(content)
        admitted = self._desk.gate.admit(frame.kind, content, buffers, target)
        if admitted is None or not self._desk.comms.of_guest(admitted):
            return
        if isinstance(admitted, contents.Result):
            admitted.execution_count = self._count
        elif isinstance(admitted, contents.Trouble):
            said = f"{admitted.ename}: {admitted.evalue}".rstrip(": ")
            self._desk.sources.logs.record("error", said, self._count, source="stderr")
        if target == CONTROL_TARGET and isinstance(admitted, contents.CommData) and "states" in admitted.data:
            self._desk.comms.guest_told(admitted.data["states"])
            admitted.data = self._desk.stage.add_states(admitted.data)
        self._send(self._outgoing(frame.kind, admitted, metadata, buffers))
        if isinstance(admitted, contents.CommData):
            state = admitted.data.get("state")
            self.captured |= isinstance(state, dict) and "msg_id" in state
        if frame.kind == "comm_close" and isinstance(admitted, contents.CommData):
            self._desk.comms.guest_closed(admitted.comm_id)

    def _outgoing(
        self, kind: str, content: contents.Content, metadata: contents.Object, buffers: Sequence[bytes]
    ) -> Outgoing:
        extra = contents.encode(metadata) if metadata else b"{}"
        return Outgoing(kind, contents.encode(content), self.message.raw, extra, buffers)

    def _replied(self, frame: wire.Reply) -> None:
        if frame.kind != self._expected or self.reply is not None:
            raise ProtocolViolation(f"a {frame.kind[:80]!r} where one {self._expected} was due")
        content = contents.read_reply(frame.kind, frame.content)
        self.reply = self._desk.gate.admit(frame.kind, content, [])

    def _asked(self, frame: wire.Ask) -> None:
        if self._allow_stdin:
            self._desk.prompts.ask(frame, self.message)
        else:
            self._desk.prompts.refuse(frame)


class Strays:
    """Output in the name of requests that are over: background threads and tasks of a cell."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._relays: OrderedDict[str, Relay] = OrderedDict()

    def remember(self, relay: Relay) -> None:
        """Keep a finished request's relay, the oldest give way."""
        self._relays[relay.message.id] = relay
        self._relays.move_to_end(relay.message.id)
        if len(self._relays) > REMEMBERED:
            self._relays.popitem(last=False)

    def __call__(self, frame: wire.FromGuest) -> None:
        """Frames of a known request in its name, of none in the last one's; the rest is lost."""
        if not isinstance(frame, wire.Stream | wire.Publish | wire.Ask) or not self._relays:
            return
        relay = self._relays.get(frame.parent) or next(reversed(self._relays.values()))
        if isinstance(frame, wire.Ask):
            self._desk.prompts.refuse(frame)
        else:
            relay(frame)
