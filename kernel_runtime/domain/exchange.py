"""What crosses to the guest of a called app, and what comes back: plain data, packed, both ways bounded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from kernel_runtime.domain import packed
from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.errors import ProtocolViolation

#: Bytes of the arguments of one call, and of what a handler answers.
MAX_ARGUMENTS, MAX_REPLY = 8 * MIB, 8 * MIB
#: Characters of what went wrong.
MAX_TEXT = 2000
#: The variables of the called guest that they travel in.
ASKED, REPLY = "__kernel_runtime_asked__", "__kernel_runtime_reply__"
#: Where a packed reply has its packed value: room for the rest of it.
_AROUND = 16 * 1024

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To the guest: which function of which module of the app in ``directory``; ``arguments``: a packed map. ``source``:
    of the module, for a guest that sees no files."""

    directory: str
    module: str
    function: str
    path: str
    arguments: bytes
    source: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From the guest: a packed ``value``; or ``text`` on what went wrong, and by whose ``fault``: that of the
    ``caller``, whose arguments do not fit, or of the ``app``."""

    value: bytes = b"\xc0"
    fault: Literal["", "caller", "app"] = ""
    text: Text = ""

    @classmethod
    def failed(cls, fault: Literal["caller", "app"], text: str) -> Reply:
        """With as much of the text as may cross."""
        return cls(fault=fault, text=text.encode(errors="replace").decode()[:MAX_TEXT])


def read_reply(data: bytes) -> tuple[Reply, Any]:
    """A reply and its value; ``ProtocolViolation`` for anything else. Hostile: nothing is made of it before it is
    bounded."""
    try:
        reply = msgspec.convert(packed.unpack(data, MAX_REPLY + _AROUND), Reply)
    except msgspec.ValidationError as error:
        raise ProtocolViolation(f"no reply: {error}") from None
    return reply, packed.unpack(reply.value, MAX_REPLY)
