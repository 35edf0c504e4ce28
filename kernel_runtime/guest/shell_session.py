"""What ipykernel takes for its ZMQ session: messages become frames."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec
from jupyter_client.session import Session, json_packer

from kernel_runtime import wire
from kernel_runtime.guest.stdio import request_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernel_runtime.guest.connection import Connection
    from kernel_runtime.guest.stdio import Console

#: The "sockets" handlers are given; a message is a reply or a publication by where it is sent.
SHELL, IOPUB = "shell", "iopub"
_encode = msgspec.json.Encoder(enc_hook=None).encode


class FrameSession(Session):
    """``send`` with ipykernel's signature and a frame as its effect."""

    connection: Connection | None = None
    console: Console | None = None
    replied = ""

    def __init__(self, **traits: Any) -> None:
        super().__init__(key=b"", **traits)
        self._numbers = itertools.count(1)

    def msg(
        self,
        msg_type: str,
        content: dict[str, Any] | None = None,
        parent: dict[str, Any] | None = None,
        header: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A message; its header is only for hooks in here, the front makes the real one."""
        if header is None:
            header = {
                "msg_id": f"guest-{next(self._numbers)}",
                "msg_type": msg_type,
                "username": "guest",
                "session": "",
                "version": "5.4",
            }
        return {
            "header": header,
            "msg_id": header["msg_id"],
            "msg_type": header["msg_type"],
            "parent_header": parent or {},
            "content": content or {},
            "metadata": metadata or {},
        }

    def send(
        self,
        stream: Any,
        msg_or_type: dict[str, Any] | str,
        content: dict[str, Any] | None = None,
        parent: dict[str, Any] | None = None,
        ident: Any = None,
        buffers: Iterable[Any] | None = None,
        track: bool = False,
        header: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        if isinstance(msg_or_type, str):
            message = self.msg(msg_or_type, content, parent, header, metadata)
        else:
            message = msg_or_type
            buffers = buffers or message.get("buffers")
        self._emit(stream, message, [bytes(buffer) for buffer in buffers or ()])
        return message

    def _emit(self, stream: Any, message: dict[str, Any], buffers: list[bytes]) -> None:
        kind = message["header"]["msg_type"]
        content, metadata = to_json(message["content"]), to_json(message.get("metadata") or {})
        wire.check_json(content)
        parent = request_of(message["parent_header"])
        if self.connection is None or self.console is None:
            return
        self.console.flush()
        if kind == "stream":
            self._emit_stream(parent, message["content"])
        elif stream is SHELL:
            reply = wire.Reply(parent=parent, kind=kind, content=content, metadata=metadata, buffers=buffers)
            self.connection.send(reply, more=True)  # Done follows
            self.replied = parent
        else:
            self.connection.send(
                wire.Publish(parent=parent, kind=kind, content=content, metadata=metadata, buffers=buffers)
            )

    def _emit_stream(self, parent: str, content: dict[str, Any]) -> None:
        if self.console is not None:
            token = self.console.set_parent(parent, everywhere=False)
            self.console.write(
                "stderr" if content.get("name") == "stderr" else "stdout", str(content["text"])
            )
            self.console.reset_parent(token)


def to_json(value: Any) -> bytes:
    """JSON bytes; what msgspec does not know is done as jupyter_client does it."""
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return json_packer(value)


def from_json(data: bytes) -> Any:
    """The Python value of JSON bytes the host has sent."""
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        import json  # NaN and Infinity, which some front ends send

        return json.loads(data)
