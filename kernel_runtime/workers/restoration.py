"""What is asked of a snapshot that is to come back, and what is told of one that did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kernel_runtime.domain.snapshot import Snapshot
from kernel_runtime.workers.branch import Pending

if TYPE_CHECKING:
    from asyncio import Future

    from kernel_runtime.workers.branch import Branch

#: Names of what is missing that are told, and characters of each: they are the guest's words.
_MOST, _LONGEST = 64, 200


class Restoration(msgspec.Struct, frozen=True, kw_only=True):
    """What came back: the snapshot, seconds that it took, what the state does not have any more
    (sockets, child processes) and which open files have changed. ``unkept``: why the state that was left
    cannot be had back by redo, if it cannot."""

    snapshot: Snapshot
    seconds: float
    external: list[str] = []
    changed: list[str] = []
    unkept: str = ""


class How(msgspec.Struct, frozen=True, kw_only=True):
    """How a snapshot is brought back. ``reseed``: ``random`` and ``np.random`` begin anew; ``edits``: local
    variables to be set at its gate; ``resumed``: the cell that goes on there."""

    reseed: bool = False
    edits: dict[str, str] = {}
    resumed: Pending | None = None


AS_IT_WAS = How()


class Source(Protocol):
    """What a snapshot comes back from."""

    async def bring(self, new: Branch, how: How, leaving: Future[Any] | None = None) -> None:
        """Have it as ``new``, after ``leaving``; closes ``new`` and raises what prevents it."""

    def thawed(self) -> int:
        """The pid that pid 1 has to be told of; 0: it knows."""


def restoration(snapshot: Snapshot, branch: Branch, seconds: float) -> Restoration:
    """From what the branch said of itself: names for people, whatever they are."""
    told = branch.restored
    return Restoration(
        snapshot=snapshot, seconds=seconds, external=_names(told, "external"), changed=_names(told, "changed")
    )


def _names(told: dict[str, object], key: str) -> list[str]:
    found = told.get(key)
    return [str(name)[:_LONGEST] for name in found[:_MOST]] if isinstance(found, list) else []


def state_after(restoration: Restoration, before: int | None) -> str:
    """Which moment the session is at now, for people; ``before``: the number of that before the cell."""
    snapshot = restoration.snapshot
    moment = f"after cell {snapshot.cell}" if snapshot.cell else "at the beginning"
    if snapshot.number == before:
        moment = "before this cell"
    elif snapshot.name:
        moment += f" (snapshot {snapshot.name!r})"
    lost = "; ".join((*restoration.external, *restoration.changed))
    return f"The variables are as they were {moment}{f', without {lost}' if lost else ''}."
