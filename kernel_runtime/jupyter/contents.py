"""Contents a guest may send, one typed struct a message type; anything else is refused.

Decoding here is the gate: JSON is bounded in depth first, values are rebuilt from Python
objects (no raw bytes of the guest reach a client), fields a struct does not name are dropped.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.wire import check_json

MAX_NAME = 1024
#: Ids and target names of comms are remembered as long as the comm is open.
Short = Annotated[str, msgspec.Meta(max_length=256)]
Object = dict[str, Any]


class Content(msgspec.Struct, kw_only=True, omit_defaults=False):
    """Root of the contents."""


class Transient(msgspec.Struct, omit_defaults=True, frozen=True):
    """What is not stored: the id by which a display is updated."""

    display_id: str | None = None


class Display(Content):
    """``display_data`` and ``update_display_data``."""

    data: Object
    metadata: Object = {}
    transient: Transient = Transient()


class Result(Display):
    """``execute_result``; the front sets the count."""

    execution_count: int = 0


class Clear(Content):
    """``clear_output``."""

    wait: bool = False


class Trouble(Content):
    """``error``."""

    ename: str
    evalue: str
    traceback: list[str] = []


class CommOpen(Content):
    """``comm_open``."""

    comm_id: Short
    target_name: Short
    data: Object = {}
    target_module: str | None = None


class CommData(Content):
    """``comm_msg`` and ``comm_close``."""

    comm_id: Short
    data: Object = {}


class ExecuteReply(Content):
    """``execute_reply``: the results, or with ``status`` error the error."""

    status: Literal["ok", "error"]
    execution_count: int = 0
    user_expressions: Object = {}
    payload: list[Object] = []
    ename: str | msgspec.UnsetType = msgspec.UNSET
    evalue: str | msgspec.UnsetType = msgspec.UNSET
    traceback: list[str] | msgspec.UnsetType = msgspec.UNSET


class Fault(Content):
    """A reply that says only that it failed."""

    status: Literal["error"] = "error"
    ename: str = "Error"
    evalue: str = ""
    traceback: list[str] = []


class CompleteReply(Content):
    """``complete_reply``."""

    status: Literal["ok"] = "ok"
    matches: list[str] = []
    cursor_start: int = 0
    cursor_end: int = 0
    metadata: Object = {}


class InspectReply(Content):
    """``inspect_reply``."""

    status: Literal["ok"] = "ok"
    found: bool = False
    data: Object = {}
    metadata: Object = {}


class IsCompleteReply(Content, omit_defaults=True):
    """``is_complete_reply``."""

    status: Literal["complete", "incomplete", "invalid", "unknown"]
    indent: str = ""


class _Status(msgspec.Struct):
    status: str = ""


#: IOPub messages a guest may publish (streams have a frame of their own; a status, an
#: execute_input or a reply in the guest's name would be a lie and is refused).
PUBLISHED: dict[str, type[Content]] = {
    "display_data": Display,
    "update_display_data": Display,
    "execute_result": Result,
    "clear_output": Clear,
    "error": Trouble,
    "comm_open": CommOpen,
    "comm_msg": CommData,
    "comm_close": CommData,
}
REPLIES: dict[str, type[Content]] = {
    "execute_reply": ExecuteReply,
    "complete_reply": CompleteReply,
    "inspect_reply": InspectReply,
    "is_complete_reply": IsCompleteReply,
}
_decoders = {kind: msgspec.json.Decoder(shape) for kind, shape in (PUBLISHED | REPLIES).items()}
_status = msgspec.json.Decoder(_Status)
_fault = msgspec.json.Decoder(Fault)
encode = msgspec.json.encode


def read_published(kind: str, content: bytes) -> Content:
    """A guest's IOPub content; ``ProtocolViolation`` names the type and the trouble."""
    if kind not in PUBLISHED:
        raise ProtocolViolation(f"the guest may not publish {kind[:MAX_NAME]!r}")
    found: Content = _decode(_decoders[kind], kind, content)
    if isinstance(found, Display):
        _check_mime(kind, found)
    return found


def read_reply(kind: str, content: bytes) -> Content:
    """A guest's reply; one that failed is a ``Fault`` whatever its type."""
    if kind not in REPLIES:
        raise ProtocolViolation(f"the guest may not reply {kind[:MAX_NAME]!r}")
    if kind in ("complete_reply", "inspect_reply"):
        state: _Status = _decode(_status, kind, content)
        if state.status == "error":
            fault: Fault = _decode(_fault, kind, content)
            return fault
    found: Content = _decode(_decoders[kind], kind, content)
    return found


def _decode(decoder: msgspec.json.Decoder[Any], what: str, content: bytes) -> Any:
    try:
        check_json(content)
        return decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolViolation(f"a malformed {what}: {error}") from None


def _check_mime(kind: str, display: Display) -> None:
    for mime in display.data:
        if len(mime) > MAX_NAME or mime.count("/") != 1 or not mime.isprintable():
            raise ProtocolViolation(f"a {kind} with a mime type {mime[:80]!r}")
