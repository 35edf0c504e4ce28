"""Contents of the requests the front reads itself; trusted clients, but typed all the same."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kernel_runtime.jupyter.messages import Message, MessageError


class Execute(msgspec.Struct):
    """``execute_request``."""

    code: str
    silent: bool = False
    store_history: bool | None = None
    allow_stdin: bool = False
    stop_on_error: bool = True

    @property
    def counts(self) -> bool:
        """Whether it takes an execution count: IPython counts what it stores and is not blank."""
        store = not self.silent if self.store_history is None else self.store_history
        return store and not self.silent and bool(self.code) and not self.code.isspace()


class Cursor(msgspec.Struct):
    """``complete_request`` as far as the front looks."""

    code: str = ""
    cursor_pos: int | None = None

    def word(self) -> str:
        """The word before the cursor, magics' ``%`` included."""
        return self.line().rpartition(" ")[2]

    def line(self) -> str:
        """The line up to the cursor."""
        return self.code[: self.cursor_pos].rpartition("\n")[2]


class Comm(msgspec.Struct):
    """``comm_open``, ``comm_msg``, ``comm_close`` of a client."""

    comm_id: str
    target_name: str = ""
    data: dict[str, Any] = {}


class CommInfo(msgspec.Struct):
    """``comm_info_request``."""

    target_name: str | None = None


class Shutdown(msgspec.Struct):
    """``shutdown_request``."""

    restart: bool = False


class Input(msgspec.Struct):
    """``input_reply``."""

    value: str = ""


class Debug(msgspec.Struct):
    """``debug_request``: a DAP request."""

    seq: int = 0
    command: str = ""
    arguments: dict[str, Any] | None = None


_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}
Shape = TypeVar("Shape")


def read(message: Message, shape: type[Shape]) -> Shape:
    """The message's content as ``shape``; ``MessageError`` when it is not."""
    decoder = _decoders.get(shape)
    if decoder is None:
        decoder = _decoders[shape] = msgspec.json.Decoder(shape)
    try:
        found: Shape = decoder.decode(message.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"malformed {message.kind}: {error}") from None
    return found
