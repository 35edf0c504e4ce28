"""Frames to the live branch, and back."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kernel_runtime.domain import packed
from kernel_runtime.domain.limits import Limits
from kernel_runtime.wire.words import (
    MAX_INFO,
    MAX_PID,
    MAX_SAID,
    Buffers,
    CallNumber,
    Frame,
    Id,
    Name,
    Names,
    Seconds,
    Value,
    Word,
)

# -- host → live branch -----------------------------------------------------------------------


class Begin(Frame, frozen=True, tag="begin"):
    """First frame of a live branch: who it is and what it lives with. ``blocked``: what strict's
    language refuses beside its own rules, as kind, pattern and suggestion. ``huge_pages``: whether memory may
    be put together into such; a guest cannot see what this host allows. ``summed``: whether the host sums up its memory, what it shares
    with the zygote included. ``seed``: what random generators begin with, "": whatever comes. ``shown_by``: the magic that shows its limits, where
    its front has one.
    """

    branch: int
    cwd: str
    env: dict[str, str]
    limits: Limits
    level: str
    execution_count: int = 0
    arguments: list[str] = []
    blocked: list[tuple[str, str, str]] = []
    huge_pages: bool = False
    summed: bool = False
    seed: bytes = b""
    shown_by: str = ""


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


class Interrupt(Frame, frozen=True, tag="interrupt"):
    """Sent before SIGINT, which says not whom it is for and is harmless between requests: the request ``id`` is not to
    be begun, if it was not yet."""

    id: str


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
    ``Gated`` of this id, to be made where the code has stopped. ``still``: not while anything but a frame can change
    its state. ``dated``: the moment that it stands for, by the clock of files; 0: now."""

    id: str
    refuse: bool = False
    still: bool = False
    gate: str = ""
    dated: float = 0.0


class Revive(Frame, frozen=True, tag="revive"):
    """Load a checkpoint from the socket that lies beside; answered by ``Got``."""

    id: str


class Hide(Frame, frozen=True, tag="hide"):
    """From now on no other process may look into this one; or, not ``hidden``, they may. Answered by ``Got``."""

    id: str
    hidden: bool


class Called(Frame, frozen=True, tag="called"):
    """Answer to ``Call``: a packed ``value``, or the name of an ``error`` and its ``text``. ``descriptor``:
    one lies beside."""

    id: int
    value: bytes = b""
    error: str = ""
    text: str = ""
    descriptor: bool = False


class Go(Frame, frozen=True, tag="go"):
    """To a branch that has said ``Ready`` beside another one: that has ended. Until then it hides."""


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
    pause: Seconds = 0.0
    spent: Seconds = 0.0
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
