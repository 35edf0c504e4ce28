"""Frames to a frozen branch, and back."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kernel_runtime.wire.words import MAX_CALL, MAX_SAID, MAX_TOLD, Frame, Name, Names, Pid

# -- host → frozen branch ---------------------------------------------------------------------


class Thaw(Frame, frozen=True, tag="thaw"):
    """Leave a frozen copy (but ``spared``: there is one) and become the live branch; fds beside as for ``Fork``.
    ``token`` is to be repeated in ``Ready``; ``reseed``: random generators begin anew; ``edits``: local variables at
    the gate that it was made at, and the expressions to set them to."""

    branch: int
    token: str
    reseed: bool = False
    edits: dict[str, str] = {}
    spared: bool = False


class Spare(Frame, frozen=True, tag="spare"):
    """Leave a frozen copy ahead of a ``Thaw``: it says ``Frozen`` at the socket that lies beside. Unanswered here."""


class Touch(Frame, frozen=True, tag="touch"):
    """Have these stretches of memory (addresses and sizes) as if they had been read, or written to, ``writing``;
    answered by ``Told``."""

    stretches: list[tuple[int, int]]
    writing: bool


class Write(Frame, frozen=True, tag="write"):
    """Fork a writer of a checkpoint, which serves the socket that lies beside; answered by ``Told``."""


class Weigh(Frame, frozen=True, tag="weigh"):
    """Measure the memory of this frozen process."""


class Read(Frame, frozen=True, tag="read"):
    """Tell of its state (in a child, so that it stays as it is): ``variables``, ``parts`` of some,
    ``files`` written since, ``stack`` or ``evaluate`` at a gate; ``arguments`` is JSON."""

    what: str
    arguments: bytes = b"{}"


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
    """Answer to ``Read`` (and ``Touch``, ``Write``): JSON, or why there is none."""

    data: Annotated[bytes, msgspec.Meta(max_length=MAX_TOLD)] = b""
    error: Annotated[str, msgspec.Meta(max_length=MAX_SAID)] = ""


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One call on the stack at a gate, as ``Told``: where it is, and its local variables as text."""

    place: Name
    names: Annotated[
        dict[Name, Annotated[str, msgspec.Meta(max_length=MAX_CALL)]], msgspec.Meta(max_length=100)
    ]
