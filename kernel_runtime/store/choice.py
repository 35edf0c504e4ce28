"""Finding a checkpoint by what a person types."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kernel_runtime.domain.checkpoint import nearest
from kernel_runtime.domain.errors import Conflict, NotFound

if TYPE_CHECKING:
    from kernel_runtime.domain.checkpoint import Checkpoint

_SHOWN = 8


def choose(kept: list[Checkpoint], name: str, own: str = "") -> Checkpoint:
    """The one of ``kept`` (newest first) by id, by label, or by the beginning of an id. Those of the key ``own`` go
    first; where it has none with the label, another key is meant only if there is no third one.
    """
    exact = [one for one in kept if one.id == name]
    labelled = [one for one in kept if name and one.label == name]
    found = exact or [one for one in labelled if one.key == own] or _of_one_key(labelled, name)
    return (found or _begun(kept, name, own))[0]


def _of_one_key(labelled: list[Checkpoint], name: str) -> list[Checkpoint]:
    newest = {one.key: one for one in reversed(labelled)}
    if len(newest) > 1:
        each = [_shown(one) for one in sorted(newest.values(), key=lambda one: -one.made)]
        more = f" and {len(each) - _SHOWN} more" if len(each) > _SHOWN else ""
        raise Conflict(
            f"{len(each)} sessions or notebooks have a checkpoint {name!r}; say which by its id: "
            + ", ".join(each[:_SHOWN])
            + more
        )
    return labelled


def _shown(one: Checkpoint) -> str:
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.made))
    return f"{one.id} (of {one.key!r}, {made})"


def _begun(kept: list[Checkpoint], name: str, own: str) -> list[Checkpoint]:
    begun = [one for one in kept if name and one.id.startswith(name)]
    begun = [one for one in begun if one.key == own] or begun
    if len(begun) > 1:
        raise Conflict(f"{name} begins the ids of {len(begun)} checkpoints; give more of it")
    if not begun:
        ours = [one for one in kept if one.key == own] or kept
        titles = list(dict.fromkeys(one.title for one in (*ours, *kept)))
        raise NotFound(f"there is no checkpoint {name!r}; {nearest(name, titles)}")
    return begun
