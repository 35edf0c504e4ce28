"""Frames across the wall: messages and framing, no I/O.

A frame is a 4-byte big-endian length and that many bytes of MessagePack: one tagged
struct of this module. Structs are flat: whatever has depth (the content of a Jupyter
message) travels as JSON bytes inside and is bounded by ``check_json`` before it is decoded.
Every frame that comes from a guest is hostile: size and rate are bounded before decoding
(``FrameReader``), and a frame of the wrong shape is a ``ProtocolViolation``.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from kernel_runtime.domain import packed
from kernel_runtime.domain.amounts import KIB, MIB
from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.domain.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

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
_LENGTH = struct.Struct(">I")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_AS_PARENS = bytes.maketrans(b"[]{}", b"()()")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", forbid_unknown_fields=True):
    """Root of all frames; the tag is the class's name in small letters."""


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A value in a safe format: ``json`` (UTF-8), ``bytes``, ``npy`` (no pickle) or ``arrow``
    (IPC stream; ``meta`` says which pandas or pyarrow type it was).
    """

    format: str
    data: bytes
    meta: Annotated[dict[str, str], msgspec.Meta(max_length=16)] = {}


# -- host → zygote (trusted, but framed alike) ---------------------------------------------


class Boot(Frame, frozen=True, tag="boot"):
    """First frame of a zygote; ``image`` is a packed ``sandbox.plan.ImagePlan``."""

    image: bytes


class Spawn(Frame, frozen=True, tag="spawn"):
    """Fork a session's first process; fds beside: its control socket, where the plan says ``egress`` one that
    the socket listening in its network is passed by, then cgroup files."""

    id: int
    plan: bytes


# -- zygote → host --------------------------------------------------------------------------


class Booted(Frame, frozen=True, tag="booted"):
    """The stage stands; spawns are taken. ``preloaded`` names what is imported by now."""

    preloaded: list[str]


class Spawned(Frame, frozen=True, tag="spawned"):
    """The child exists; a pidfd of it lies beside the frame."""

    id: int


class Refused(Frame, frozen=True, tag="refused"):
    """The zygote could not boot (``id`` -1) or spawn: the wall and the error."""

    id: int
    wall: str
    error: str


# -- host → the session's pid 1 (with descriptors beside the frame) ------------------------


class Fork(Frame, frozen=True, tag="fork"):
    """Fork a live branch; fds beside: its socket, stdout, stderr. ``begin`` opens its life."""

    branch: int
    begin: bytes


class Signal(Frame, frozen=True, tag="signal"):
    """Send a signal to the live branch's process group."""

    branch: int
    number: int


class End(Frame, frozen=True, tag="end"):
    """Kill every process of the session but pid 1, its frozen branches, and the branches to ``spare``;
    answered by ``Ended``. ``number`` tells one order from another."""

    number: int = 0
    spare: list[int] = []


class Rest(Frame, frozen=True, tag="rest"):
    """This process is a frozen branch: it is stopped, and spared when others are killed."""

    pid: Pid


class Wake(Frame, frozen=True, tag="wake"):
    """Let a stopped frozen branch run: an order for it is on its way."""

    pid: Pid


class Drop(Frame, frozen=True, tag="drop"):
    """End a frozen branch."""

    pid: Pid


class Adopt(Frame, frozen=True, tag="adopt"):
    """The process, frozen until now, is the live branch of this number."""

    branch: int
    pid: Pid


class Pause(Frame, frozen=True, tag="pause"):
    """Stop every process of the session but pid 1 (answered by ``Ended``), or let all but the frozen
    ones go on."""

    paused: bool
    number: int = 0


# -- the session's pid 1 → host ------------------------------------------------------------


class Born(Frame, frozen=True, tag="born"):
    """Pid 1 stands behind its walls; ``walls`` names the ones entered, ``missing`` (level
    permissive only) those that could not be, with the reason. ``names_denied``: denied system
    calls will be named (the kernel gave a listener). ``layer``: two descriptors lie beside, of the layer over the
    directory and of the directory with it; none does later."""

    walls: list[str]
    missing: dict[str, str] = {}
    names_denied: bool = False
    layer: bool = False


class Failed(Frame, frozen=True, tag="failed"):
    """A wall could not be entered: the guest is not started (it fails closed)."""

    wall: str
    error: str
    fix: str = ""


class Forked(Frame, frozen=True, tag="forked"):
    """The live branch exists. No descriptor lies beside: how many are on their way is counted
    over all guests of a user, so that one of them could keep pid 1 of another from speaking.
    """

    branch: int
    pid: int


class Exited(Frame, frozen=True, tag="exited"):
    """A branch ended: ``status`` as ``os.waitstatus_to_exitcode`` gives it."""

    branch: int
    status: int


class Ended(Frame, frozen=True, tag="ended"):
    """The order ``End`` or ``Pause`` of this number is carried out."""

    number: int


class Denied(Frame, frozen=True, tag="denied"):
    """A system call was answered with EPERM: its name. In a flood, repeats go unsaid."""

    call: Annotated[str, msgspec.Meta(max_length=MAX_CALL, pattern=r"^[A-Za-z0-9_|,() ]+$")]


# -- host → live branch -----------------------------------------------------------------------


class Begin(Frame, frozen=True, tag="begin"):
    """First frame of a live branch: who it is and what it lives with. ``blocked``: what strict's
    language refuses beside its own rules, as kind, pattern and suggestion.
    """

    branch: int
    cwd: str
    env: dict[str, str]
    limits: Limits
    level: str
    execution_count: int = 0
    arguments: list[str] = []
    blocked: list[tuple[str, str, str]] = []


class Request(Frame, frozen=True, tag="request"):
    """A Jupyter message for the shell: ``kind`` is its msg_type, ``content``, ``metadata`` and
    ``header`` JSON. ``count`` is the execution count the front gave an execute_request.
    """

    id: str
    kind: str
    content: bytes
    metadata: bytes = b"{}"
    header: bytes = b"{}"
    buffers: list[bytes] = []
    count: int = 0


class Answer(Frame, frozen=True, tag="answer"):
    """What the person typed at a prompt; ``text`` None: the prompt was withdrawn."""

    id: str
    text: str | None


class Get(Frame, frozen=True, tag="get"):
    """Ask for the variable ``name`` as a safe ``Value``."""

    id: str
    name: str


class Put(Frame, frozen=True, tag="put"):
    """Set the variable ``name`` from a safe ``Value``."""

    id: str
    name: str
    value: Value


class Freeze(Frame, frozen=True, tag="freeze"):
    """Fork a frozen copy of this process, to wait at the socket that lies beside. ``refuse``: not
    while it holds what a copy cannot have (sockets, child processes). ``gate``: the answer to the
    ``Gated`` of this id, to be made where the code has stopped."""

    id: str
    refuse: bool = False
    gate: str = ""


class Revive(Frame, frozen=True, tag="revive"):
    """Load a checkpoint from the socket that lies beside; answered by ``Got``."""

    id: str


class Called(Frame, frozen=True, tag="called"):
    """Answer to ``Call``: a packed ``value``, or the name of an ``error`` and its ``text``. ``descriptor``:
    one lies beside."""

    id: int
    value: bytes = b""
    error: str = ""
    text: str = ""
    descriptor: bool = False


class Go(Frame, frozen=True, tag="go"):
    """To a branch that was thawed and said ``Ready``: the one before it has ended."""


# -- host → frozen branch ---------------------------------------------------------------------


class Thaw(Frame, frozen=True, tag="thaw"):
    """Leave a frozen copy and become the live branch; fds beside as for ``Fork``. ``token`` is to be
    repeated in ``Ready``; ``reseed``: random generators begin anew; ``edits``: local variables at the
    gate that it was made at, and the expressions to set them to."""

    branch: int
    token: str
    reseed: bool = False
    edits: dict[str, str] = {}


class Write(Frame, frozen=True, tag="write"):
    """Fork a writer of a checkpoint, which serves the socket that lies beside."""


class Weigh(Frame, frozen=True, tag="weigh"):
    """Measure the memory of this frozen process."""


class Read(Frame, frozen=True, tag="read"):
    """Tell of its state (in a child, so that it stays as it is): ``variables``, ``parts`` of some,
    ``files`` written since, ``stack`` or ``evaluate`` at a gate; ``arguments`` is JSON."""

    what: str
    arguments: bytes = b"{}"


# -- live branch → host -----------------------------------------------------------------------


class Ready(Frame, frozen=True, tag="ready"):
    """The shell stands and takes requests; ``info`` is JSON (python, ipython, threads). A thawed
    branch says its ``pid`` within the session, and repeats its ``token``."""

    branch: int
    info: Annotated[bytes, msgspec.Meta(max_length=MAX_INFO)]
    pid: Annotated[int, msgspec.Meta(ge=0, le=MAX_PID)] = 0
    token: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Froze(Frame, frozen=True, tag="froze"):
    """Answer to ``Freeze``: seconds that this branch stood still, and of CPU time that it ``spent``, which
    is what a busy machine does not make longer. ``threads``: what runs beside and
    makes the copy worthless; ``external``: why there is none (a shared mapping, or what ``refuse``
    refuses); ``error``: what else prevented it.
    """

    parent: Id
    pause: float = 0.0
    spent: float = 0.0
    threads: Names = []
    external: Names = []
    error: Annotated[str, msgspec.Meta(max_length=MAX_SAID)] = ""


class Stream(Frame, frozen=True, tag="stream"):
    """Text of ``stdout`` or ``stderr``, for the request ``parent`` ("" for none)."""

    parent: Id
    name: Name
    text: str


class Publish(Frame, frozen=True, tag="publish"):
    """An IOPub message (display_data, execute_result, error, clear_output, comm_*, …)."""

    parent: Id
    kind: Name
    content: bytes
    metadata: bytes = b"{}"
    buffers: Buffers = []


class Ask(Frame, frozen=True, tag="ask"):
    """``input()`` or ``getpass()`` waits for an ``Answer`` with this ``id``."""

    id: Id
    parent: Id
    prompt: Annotated[str, msgspec.Meta(max_length=MAX_SAID)]
    password: bool


class Reply(Frame, frozen=True, tag="reply"):
    """The shell's reply to the request ``parent`` (content JSON, without the header)."""

    parent: Id
    kind: Name
    content: bytes
    metadata: bytes = b"{}"
    buffers: Buffers = []


class Done(Frame, frozen=True, tag="done"):
    """The request ``parent`` is over: nothing more is sent in its name by the shell itself."""

    parent: Id


class Got(Frame, frozen=True, tag="got"):
    """Answer to ``Get`` and ``Put``: the value (``Put``: none), or the error that prevented it."""

    parent: Id
    value: Value | None = None
    error: Annotated[str, msgspec.Meta(max_length=MAX_SAID)] | None = None


class Gated(Frame, frozen=True, tag="gated"):
    """The cell ``parent`` has reached a gate in ``function`` and waits for a ``Freeze`` of this id, or
    an ``Answer`` that says why there is none. ``wait``: the cell ends there."""

    parent: Id
    id: Annotated[str, msgspec.Meta(max_length=64)]
    function: Name
    line: int
    wait: bool = False


class Call(Frame, frozen=True, tag="call"):
    """Ask a capability of the host; ``arguments`` is a packed map (``domain/packed.py``). Each call of a
    branch has a higher number than all before it. ``parent``: the request in whose name."""

    id: CallNumber
    capability: Word
    action: Word
    arguments: Annotated[bytes, msgspec.Meta(max_length=packed.MAX_ARGUMENTS)] = b"\x80"
    parent: Id = ""


class Withdraw(Frame, frozen=True, tag="withdraw"):
    """Nobody waits for the answer to this call any more: it is to be stopped."""

    id: CallNumber


class Limited(Frame, frozen=True, tag="limited"):
    """The cell's error is what a limit looks like from inside: the limit's name, and the errno."""

    parent: Id
    name: Annotated[str, msgspec.Meta(max_length=32)]
    errno: int = 0


# -- frozen branch → host -----------------------------------------------------------------------


class Frozen(Frame, frozen=True, tag="frozen"):
    """A frozen copy waits (again). ``external``: what it does not have that the original had."""

    pid: Pid
    external: Names = []


class Weighed(Frame, frozen=True, tag="weighed"):
    """Bytes of this process: pages that several hold divided among them (PSS), and its own alone."""

    shared_out: Annotated[int, msgspec.Meta(ge=0, le=2**48)]
    private: Annotated[int, msgspec.Meta(ge=0, le=2**48)]


class Told(Frame, frozen=True, tag="told"):
    """Answer to ``Read``: JSON, or why there is none."""

    data: Annotated[bytes, msgspec.Meta(max_length=MAX_TOLD)] = b""
    error: Annotated[str, msgspec.Meta(max_length=MAX_SAID)] = ""


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One call on the stack at a gate, as ``Told``: where it is, and its local variables as text."""

    place: Name
    names: Annotated[
        dict[Name, Annotated[str, msgspec.Meta(max_length=MAX_CALL)]], msgspec.Meta(max_length=100)
    ]


# -- checkpoints: host → writer ---------------------------------------------------------------


class Save(Frame, frozen=True, tag="save"):
    """Write a checkpoint: digests are made with ``seed``; ``Known`` frames follow."""

    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
    leave_out: list[str] = []


class Known(Frame, frozen=True, tag="known"):
    """Chunks that the host has already, by digest."""

    digests: Digests
    last: bool


# -- checkpoints: writer → host ---------------------------------------------------------------


class Chunks(Frame, frozen=True, tag="chunks"):
    """New chunks: ``sizes`` as 4 bytes each, little-endian, ``digests`` beside them."""

    sizes: Annotated[bytes, msgspec.Meta(max_length=256 * KIB)]
    digests: Digests
    data: Annotated[bytes, msgspec.Meta(max_length=MAX_CHUNKS_DATA)]


class SavedPart(Frame, frozen=True, tag="part"):
    """The next part of the group that ``Group`` will close; its chunks have been sent or are known."""

    size: Count
    digests: Digests
    readonly: bool = False


class SavedGroup(Frame, frozen=True, tag="group"):
    """A group of variables, made of the parts sent since the last one."""

    number: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    names: Annotated[list[VariableName], msgspec.Meta(max_length=20_000)]
    packages: Packages = {}


class Skipped(Frame, frozen=True, tag="skipped"):
    """A variable that is not in the checkpoint, and why."""

    name: VariableName
    reason: Reason


class Saved(Frame, frozen=True, tag="saved"):
    """All has been sent."""

    python: Name
    packages: Packages = {}


# -- checkpoints: host → a branch that loads ---------------------------------------------------


class Load(Frame, frozen=True, tag="load"):
    """Load ``groups`` groups. With ``arena`` a descriptor lies beside: large buffers, to be mapped."""

    groups: int
    arena: int
    python: str
    packages: dict[str, str]
    force: bool = False


class Spot(msgspec.Struct, frozen=True, array_like=True):
    """Where a part is: at ``offset`` of the arena, or (-1) in the ``Piece`` frames that follow."""

    size: int
    offset: int
    readonly: bool


class LoadGroup(Frame, frozen=True, tag="loadgroup"):
    """One group: its parts in order, the pickle stream first; ``names`` are those wanted."""

    number: int
    names: list[str]
    parts: list[Spot]


class Piece(Frame, frozen=True, tag="piece"):
    """Bytes of the parts that are not in the arena, one after another."""

    data: bytes


# -- checkpoints: a branch that loads → host -----------------------------------------------------


class Loaded(Frame, frozen=True, tag="loaded"):
    """Variables that are back."""

    names: Annotated[list[VariableName], msgspec.Meta(max_length=20_000)]


class NotLoaded(Frame, frozen=True, tag="notloaded"):
    """A variable that is not back, and why."""

    name: VariableName
    reason: Reason


class Unfit(Frame, frozen=True, tag="unfit"):
    """Nothing was loaded: this Python, or its packages, are not those of the checkpoint."""

    reasons: Annotated[list[Reason], msgspec.Meta(max_length=1001)]


class LoadEnded(Frame, frozen=True, tag="loadended"):
    """The load is over; nothing follows."""


ToZygote = Boot | Spawn
FromZygote = Booted | Spawned | Refused
ToInit = Fork | Signal | End | Rest | Wake | Drop | Adopt | Pause
FromInit = Born | Failed | Forked | Exited | Ended | Denied
ToBranch = Begin | Request | Answer | Get | Put | Freeze | Revive | Called | Go
Said = Ready | Stream | Publish | Ask | Reply | Done | Got | Limited | Froze | Gated
FromBranch = Said | Call | Withdraw
ToFrozen = Thaw | Weigh | Read | Write
FromFrozen = Frozen | Weighed | Told
ToWriter = Save | Known
FromWriter = Chunks | SavedPart | SavedGroup | Skipped | Saved
ToLoader = Load | LoadGroup | Piece
FromLoader = Loaded | NotLoaded | Unfit | LoadEnded
#: What the sink of a request takes.
FromGuest = Said | Denied

_encoder = msgspec.msgpack.Encoder()
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


def pack(frame: msgspec.Struct, limit: int = MAX_FRAME) -> bytes:
    """A frame as bytes, length in front; ``ProtocolViolation`` when it exceeds ``limit``."""
    buffer = bytearray(_LENGTH.size)
    _encoder.encode_into(frame, buffer, _LENGTH.size)
    size = len(buffer) - _LENGTH.size
    if size > limit:
        raise ProtocolViolation(f"a frame of {size} bytes exceeds the limit of {limit}")
    _LENGTH.pack_into(buffer, 0, size)
    return bytes(buffer)


class FrameReader:
    """Cuts a byte stream into frames; bounded in size before anything is decoded.

    ``feed`` takes bytes as they arrive, ``frames`` yields what is complete. A length beyond
    ``limit`` is a ``ProtocolViolation`` at once: its bytes are never waited for.
    """

    def __init__(self, decoder: msgspec.msgpack.Decoder[Any], limit: int = MAX_FRAME) -> None:
        self._decoder = decoder
        self._limit = limit
        self._buffer = bytearray()
        self._start = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete; more than 0 at the end: cut mid-frame."""
        return len(self._buffer) - self._start

    def frames(self) -> Iterator[Any]:
        while self.pending >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer, self._start)
            if size > self._limit:
                raise ProtocolViolation(f"a frame of {size} bytes exceeds the limit of {self._limit}")
            end = self._start + _LENGTH.size + size
            if len(self._buffer) < end:
                return
            with memoryview(self._buffer) as view:
                body = bytes(view[self._start + _LENGTH.size : end])
            self._start = end
            yield decode(self._decoder, body)


def decode(decoder: msgspec.msgpack.Decoder[Any], body: bytes) -> Any:
    """One frame's body → its struct; ``ProtocolViolation`` for anything else."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise ProtocolViolation(f"not a frame: {error}") from None


def check_json(data: bytes, depth: int = MAX_DEPTH) -> None:
    """Refuse JSON nested deeper than ``depth``, or of too many parts, before it is decoded.

    Strings are cut away first; then one pass removes one level of brackets, at the speed of
    ``bytes.replace``: what is left after ``depth`` passes is too deep (or no JSON at all).
    """
    if _containers(data) <= depth and _separators(data) <= MAX_PARTS:
        return
    if data.count(b'"') - data.count(b'\\"') > MAX_PARTS:  # an escaped one belongs to a text
        raise ProtocolViolation(f"JSON of more than {MAX_PARTS} strings")
    bare = _STRING.sub(b"", data)
    if _containers(bare) > MAX_CONTAINERS or _separators(bare) > MAX_PARTS:
        raise ProtocolViolation(f"JSON of more than {MAX_PARTS} values or {MAX_CONTAINERS} lists and objects")
    _check_depth(bare.translate(_AS_PARENS, _NOT_BRACKETS), depth)


def _containers(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{")


def _separators(data: bytes) -> int:
    return data.count(b",") + data.count(b":")


def _check_depth(brackets: bytes, depth: int) -> None:
    for left in range(depth, 0, -1):
        if not brackets:
            return
        size = len(brackets)
        brackets = brackets.replace(b"()", b"")
        # Each innermost pair lies within at most ``left`` pairs: fewer of them, and it is too deep.
        if (size - len(brackets)) * left < size:
            break
    if brackets:
        raise ProtocolViolation(f"JSON nested deeper than {depth}")
