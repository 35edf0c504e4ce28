"""Frames across the wall: messages and framing, no I/O.

A frame is a 4-byte big-endian length and that many bytes of MessagePack: one tagged
struct of this package. Structs are flat: whatever has depth (the content of a Jupyter
message) travels as JSON bytes inside and is bounded by ``check_json`` before it is decoded.
Every frame that comes from a guest is hostile: size and rate are bounded before decoding
(``FrameReader``), and a frame of the wrong shape is a ``ProtocolViolation``.
"""

from __future__ import annotations

import msgspec

from kernel_runtime.wire.branch import (
    Answer,
    Ask,
    Begin,
    Call,
    Called,
    Done,
    Freeze,
    Froze,
    Gated,
    Get,
    Go,
    Got,
    Hide,
    Interrupt,
    Limited,
    Publish,
    Put,
    Ready,
    Reply,
    Request,
    Revive,
    Stream,
    Withdraw,
)
from kernel_runtime.wire.checkpoint import (
    Chunks,
    Known,
    Load,
    Loaded,
    LoadEnded,
    LoadGroup,
    NotLoaded,
    Piece,
    Save,
    Saved,
    SavedGroup,
    SavedPart,
    Skipped,
    Spot,
    Unfit,
)
from kernel_runtime.wire.framing import FrameReader, check_json, decode, pack, read_object
from kernel_runtime.wire.frozen import Frozen, Level, Read, Spare, Thaw, Told, Touch, Weigh, Weighed, Write
from kernel_runtime.wire.words import (
    DAMAGED_STATUS,
    EXHAUSTED_STATUS,
    LOST_STATUS,
    MAX_CALL,
    MAX_CHUNK,
    MAX_CHUNKS_DATA,
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_FRAME,
    MAX_INFO,
    MAX_PARTS,
    MAX_PID,
    MAX_SAID,
    MAX_TOLD,
    Buffers,
    CallNumber,
    Count,
    Digests,
    Frame,
    Id,
    Name,
    Names,
    Packages,
    Pid,
    Reason,
    Value,
    VariableName,
    Word,
)
from kernel_runtime.wire.zygote import (
    Adopt,
    Boot,
    Booted,
    Born,
    Denied,
    Drop,
    End,
    Ended,
    Exited,
    Failed,
    Fork,
    Forked,
    Pause,
    Refused,
    Rest,
    Seclude,
    Signal,
    Spawn,
    Spawned,
    Wake,
)

ToZygote = Boot | Spawn
FromZygote = Booted | Spawned | Refused
ToInit = Fork | Signal | End | Rest | Wake | Drop | Adopt | Pause | Seclude
FromInit = Born | Failed | Forked | Exited | Ended | Denied
ToBranch = Begin | Request | Interrupt | Answer | Get | Put | Freeze | Revive | Called | Go | Hide
Said = Ready | Stream | Publish | Ask | Reply | Done | Got | Limited | Froze | Gated
FromBranch = Said | Call | Withdraw
ToFrozen = Thaw | Spare | Touch | Weigh | Read | Write
FromFrozen = Frozen | Weighed | Told
ToWriter = Save | Known
FromWriter = Chunks | SavedPart | SavedGroup | Skipped | Saved
ToLoader = Load | LoadGroup | Piece
FromLoader = Loaded | NotLoaded | Unfit | LoadEnded
#: What the sink of a request takes.
FromGuest = Said | Denied

decode_to_zygote = msgspec.msgpack.Decoder(ToZygote)
decode_from_zygote = msgspec.msgpack.Decoder(FromZygote)
decode_to_init = msgspec.msgpack.Decoder(ToInit)
decode_from_init = msgspec.msgpack.Decoder(FromInit)
decode_to_branch = msgspec.msgpack.Decoder(ToBranch)
decode_from_branch = msgspec.msgpack.Decoder(FromBranch)
decode_to_frozen = msgspec.msgpack.Decoder(ToFrozen)
decode_from_frozen = msgspec.msgpack.Decoder(FromFrozen)
decode_to_writer = msgspec.msgpack.Decoder(ToWriter)
decode_from_writer = msgspec.msgpack.Decoder(FromWriter)
decode_to_loader = msgspec.msgpack.Decoder(ToLoader)
decode_from_loader = msgspec.msgpack.Decoder(FromLoader)

__all__ = [
    "DAMAGED_STATUS",
    "EXHAUSTED_STATUS",
    "LOST_STATUS",
    "MAX_CALL",
    "MAX_CHUNK",
    "MAX_CHUNKS_DATA",
    "MAX_CONTAINERS",
    "MAX_DEPTH",
    "MAX_FRAME",
    "MAX_INFO",
    "MAX_PARTS",
    "MAX_PID",
    "MAX_SAID",
    "MAX_TOLD",
    "Adopt",
    "Answer",
    "Ask",
    "Begin",
    "Boot",
    "Booted",
    "Born",
    "Buffers",
    "Call",
    "CallNumber",
    "Called",
    "Chunks",
    "Count",
    "Denied",
    "Digests",
    "Done",
    "Drop",
    "End",
    "Ended",
    "Exited",
    "Failed",
    "Fork",
    "Forked",
    "Frame",
    "FrameReader",
    "Freeze",
    "FromBranch",
    "FromFrozen",
    "FromGuest",
    "FromInit",
    "FromLoader",
    "FromWriter",
    "FromZygote",
    "Froze",
    "Frozen",
    "Gated",
    "Get",
    "Go",
    "Got",
    "Hide",
    "Id",
    "Interrupt",
    "Known",
    "Level",
    "Limited",
    "Load",
    "LoadEnded",
    "LoadGroup",
    "Loaded",
    "Name",
    "Names",
    "NotLoaded",
    "Packages",
    "Pause",
    "Pid",
    "Piece",
    "Publish",
    "Put",
    "Read",
    "Ready",
    "Reason",
    "Refused",
    "Reply",
    "Request",
    "Rest",
    "Revive",
    "Said",
    "Save",
    "Saved",
    "SavedGroup",
    "SavedPart",
    "Seclude",
    "Signal",
    "Skipped",
    "Spare",
    "Spawn",
    "Spawned",
    "Spot",
    "Stream",
    "Thaw",
    "ToBranch",
    "ToFrozen",
    "ToInit",
    "ToLoader",
    "ToWriter",
    "ToZygote",
    "Told",
    "Touch",
    "Unfit",
    "Value",
    "VariableName",
    "Wake",
    "Weigh",
    "Weighed",
    "Withdraw",
    "Word",
    "Write",
    "check_json",
    "decode",
    "decode_from_branch",
    "decode_from_frozen",
    "decode_from_init",
    "decode_from_loader",
    "decode_from_writer",
    "decode_from_zygote",
    "decode_to_branch",
    "decode_to_frozen",
    "decode_to_init",
    "decode_to_loader",
    "decode_to_writer",
    "decode_to_zygote",
    "pack",
    "read_object",
]
