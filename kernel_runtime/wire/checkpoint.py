"""Frames of checkpoints: from a writer, to a branch that loads, and back."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kernel_runtime.domain.amounts import KIB
from kernel_runtime.wire.words import (
    MAX_CHUNKS_DATA,
    Count,
    Digests,
    Frame,
    Name,
    Packages,
    Reason,
    VariableName,
)

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
