"""A checkpoint: a session's variables as they are kept on disk, and the rules about them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.amounts import GIB, show_bytes
from kernel_runtime.domain.errors import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

#: Bytes of the digest by which a writer and the host compare chunks (xxh3-128).
DIGEST = 16
#: Label of those that nobody asked for.
AUTOMATIC = "automatic"
_SHOWN = 8
_DIGESTS = struct.Struct(f"{DIGEST}s")


def split(digests: bytes) -> list[bytes]:
    """Digests that lie one after another, one by one; ``ValueError`` if the last is cut."""
    if len(digests) % DIGEST:
        raise ValueError("a digest is cut")
    return [digest for (digest,) in _DIGESTS.iter_unpack(digests)]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of a group: its pickle stream (the first), or a buffer that lies beside it.

    ``digests`` names its chunks in order, as the writer that made them does.
    """

    size: int
    digests: bytes
    readonly: bool = False


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Variables that share memory, saved as one unit. Number 0 holds what the notebook defines
    (classes, functions), which every other group may refer to.
    """

    number: int
    names: list[str]
    parts: list[Part]
    packages: dict[str, str] = {}

    def is_wanted(self, names: Collection[str] | None) -> bool:
        """Whether it is needed to bring these variables back (None: all)."""
        return self.number == 0 or names is None or not set(self.names).isdisjoint(names)


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a writer says of itself: Python's version and the versions of the types' packages."""

    python: str
    packages: dict[str, str] = {}


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A kept checkpoint, as it is listed. ``size`` is what it restores, ``added`` what it took on
    disk; ``made`` is seconds since the epoch; ``sealed`` names the key that encrypts it ("" none).
    ``readable``: whether its record could be read; what is in there is empty otherwise.
    """

    id: str
    key: str
    parent: str | None
    label: str
    made: float
    size: int
    added: int
    about: About
    names: list[str]
    skipped: dict[str, str]
    sealed: str = ""
    readable: bool = True

    @property
    def labelled(self) -> bool:
        """Whether a person has named it, or may have: who cannot read it does not know."""
        return not self.readable or self.label not in ("", AUTOMATIC)

    @property
    def title(self) -> str:
        """What people call it: its label, or its id."""
        return self.label if self.readable and self.labelled else self.id


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What one writer may store: a hostile one ends there."""

    bytes: int = 16 * GIB
    chunks: int = 4_000_000
    names: int = 20_000


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How many checkpoints of one key are kept, how long (seconds), and in how many bytes; None:
    not limited. Those that a person has labelled stay, and are not counted, unless ``labelled`` says that they may go,
    too; of the others the newest of a key stays, unless ``newest``.
    """

    count: int | None = 20
    age: float | None = None
    bytes: int | None = None
    labelled: bool = False
    newest: bool = False


class Freed(msgspec.Struct, frozen=True, kw_only=True):
    """What pruning removed: checkpoints by id, and bytes on disk."""

    checkpoints: list[str]
    bytes: int


def misfits(about: About, python: str, packages: Mapping[str, str]) -> list[str]:
    """Why what was saved there may not be loaded here; empty: it may."""
    found = []
    if _minor(about.python) != _minor(python):
        found.append(f"it was saved by Python {about.python}, this is Python {python}")
    for name, version in sorted(about.packages.items()):
        here = packages.get(name)
        if here != version:
            found.append(f"it holds types of {name} {version}, here is {here or 'no ' + name}")
    return found


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def outdated(kept: Iterable[Checkpoint], retention: Retention, now: float) -> list[Checkpoint]:
    """Those of ``kept`` (newest first, of any keys) that retention lets go."""
    loose: dict[str, list[Checkpoint]] = {}
    for one in kept:
        if retention.labelled or not one.labelled:
            loose.setdefault(one.key, []).append(one)
    return [one for of_one_key in loose.values() for one in _outdated(of_one_key, retention, now)]


def _outdated(kept: Sequence[Checkpoint], retention: Retention, now: float) -> Iterator[Checkpoint]:
    total = 0
    for place, one in enumerate(kept):
        total += one.added
        too_many = retention.count is not None and place >= retention.count
        too_old = retention.age is not None and now - one.made > retention.age
        too_much = retention.bytes is not None and total > retention.bytes
        if (place > 0 or retention.newest) and (too_many or too_old or too_much):
            yield one


def check_names(checkpoint: Checkpoint, names: Iterable[str]) -> None:
    """``NotFound`` for a variable that is not inside: why it is not, or which ones have a name like it."""
    for name in names if checkpoint.readable else ():
        if name in checkpoint.skipped:
            raise NotFound(
                f"{name!r} could not be saved in checkpoint {checkpoint.title!r}: {checkpoint.skipped[name]}"
            )
        if name not in checkpoint.names:
            there = nearest(name, checkpoint.names)
            raise NotFound(f"checkpoint {checkpoint.title!r} has no variable {name!r}; {there}")


def check_room(groups: Iterable[Group], names: Collection[str] | None, memory: int | None) -> None:
    """``Conflict`` where the variables (None: all) are more bytes than a guest may have (None: not limited)."""
    size = sum(part.size for group in groups if group.is_wanted(names) for part in group.parts)
    if memory is not None and size > memory:
        raise Conflict(
            f"it takes {show_bytes(size)}, this guest may have {show_bytes(memory)}: open it with a larger limit "
            "(memory=…), or bring some of the variables back by name; nothing was restored"
        )


def nearest(name: str, known: Sequence[str]) -> str:
    """``did you mean …?``, or what there is, in a line."""
    import difflib  # not for each guest

    near = [repr(one) for one in difflib.get_close_matches(name, known, 3)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    shown = ", ".join(map(repr, known[:_SHOWN])) or "none"
    return f"there are {shown}" + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
