"""Words that frames are made of, and their bounds."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kernel_runtime.domain.amounts import KIB, MIB

#: Exit statuses by which a branch says why it cannot go on.
LOST_STATUS, DAMAGED_STATUS, EXHAUSTED_STATUS = 70, 71, 72
MAX_FRAME = 64 * MIB
MAX_DEPTH = 100
#: What 64 MiB of JSON may become in memory: an empty list takes 3 bytes there and 64 here.
MAX_PARTS = 4_000_000
MAX_CONTAINERS = 1_000_000
#: Ids are the front's own or short ones of the guest; they are echoed and remembered.
Id = Annotated[str, msgspec.Meta(max_length=1024)]
#: Message types, streams: words of a protocol.
Name = Annotated[str, msgspec.Meta(max_length=128)]
#: Most characters of a prompt or of an error in one sentence; most bytes of a branch's first words.
MAX_SAID, MAX_INFO = 64 * KIB, 64 * KIB
#: Bytes that a frozen branch tells of its state at once.
MAX_TOLD = 8 * MIB
#: Counted before any is decoded, for a buffer of two bytes takes sixty here.
Buffers = Annotated[list[bytes], msgspec.Meta(max_length=4096)]
#: A variable's name; why one was not saved or restored.
VariableName = Annotated[str, msgspec.Meta(max_length=256)]
Reason = Annotated[str, msgspec.Meta(max_length=2000)]
#: Names of packages and their versions.
Packages = Annotated[dict[Name, Name], msgspec.Meta(max_length=1000)]
#: What a guest says that something took.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**48)]
#: Chunks of a checkpoint: digests one after another, 16 bytes each.
Digests = Annotated[bytes, msgspec.Meta(max_length=32 * MIB)]
MAX_CHUNK, MAX_CHUNKS_DATA = 64 * KIB, 4 * MIB
#: Characters of a denied system call's name with its arguments.
MAX_CALL = 120
#: What a guest lists for people: descriptors, threads, mappings.
Names = Annotated[list[Annotated[str, msgspec.Meta(max_length=200)]], msgspec.Meta(max_length=64)]
#: The kernel numbers no process higher.
MAX_PID = 2**22
#: A process of the session that is not its first one.
Pid = Annotated[int, msgspec.Meta(gt=1, le=MAX_PID)]
#: Words by which a capability and what is done with it are named; calls are numbered upwards from 1.
Word = Annotated[str, msgspec.Meta(max_length=32, pattern=r"^[a-z][a-z0-9_]*$")]
CallNumber = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", forbid_unknown_fields=True):
    """Root of all frames; the tag is the class's name in small letters."""


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A value in a safe format: ``json`` (UTF-8), ``bytes``, ``npy`` (no pickle) or ``arrow``
    (IPC stream; ``meta`` says which pandas or pyarrow type it was).
    """

    format: str
    data: bytes
    meta: Annotated[dict[str, str], msgspec.Meta(max_length=16)] = {}
