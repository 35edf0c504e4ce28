"""What a guest has changed in the notebook's directory, in its own layer: the host's files are as they were."""

from __future__ import annotations

import enum

import msgspec

from kernel_runtime.domain.amounts import show_bytes


class Deed(enum.StrEnum):
    """What was done to a name."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


_MARKS = {Deed.ADDED: "+", Deed.CHANGED: "~", Deed.REMOVED: "-"}


class FileChange(msgspec.Struct, frozen=True, kw_only=True):
    """``kind``: ``file``, ``directory``, ``link``, ``special`` (``path`` is relative to the directory). ``size``:
    bytes in the guest, ``before``: on the host; ``target``: where a link of the guest's leads."""

    path: str
    deed: Deed
    kind: str
    size: int | None = None
    before: int | None = None
    target: str = ""

    def __str__(self) -> str:
        return f"{_MARKS[self.deed]} {show_name(self.path)}  {self.detail}"

    @property
    def detail(self) -> str:
        """What it is, with its size now and before."""
        if self.kind == "link":
            return f"a link to {show_name(self.target)}" if self.target else "a link"
        if self.kind != "file":
            return "a directory" if self.kind == "directory" else "a pipe, socket or device"
        before = "" if self.before is None else show_bytes(self.before)
        if self.size is None:
            return f"was {before}"
        return show_bytes(self.size) + (f" (was {before})" if before else "")


class FileChanges(msgspec.Struct, frozen=True, kw_only=True):
    """All of them by path. ``unread``: places that were not looked at, with the reason."""

    changes: list[FileChange] = []
    unread: dict[str, str] = {}

    def __str__(self) -> str:
        lines = [str(change) for change in self.changes]
        lines += [f"? {show_name(path)}  not looked at: {why}" for path, why in self.unread.items()]
        return "\n".join(lines) or "no file was added, changed or removed"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of keeping or dropping: the paths it was ``done`` to, and those that it was not, with why."""

    done: list[str] = []
    refused: dict[str, str] = {}

    def __str__(self) -> str:
        lines = [show_name(path) for path in self.done]
        return "\n".join(lines + [f"not {show_name(path)}: {why}" for path, why in self.refused.items()])


def show_name(path: str) -> str:
    """A name as it is, or quoted where it could be taken for something else."""
    plain = path.isprintable() and path == path.strip() and path
    return path if plain else ascii(path)
