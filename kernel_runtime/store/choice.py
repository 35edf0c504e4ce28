"""Finding a checkpoint by what a person types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.domain.errors import Conflict, NotFound

if TYPE_CHECKING:
    from kernel_runtime.domain.checkpoint import Checkpoint


def choose(kept: list[Checkpoint], name: str) -> Checkpoint:
    """By id, by the beginning of one, or by label; of several with the label, the newest."""
    found = [one for one in kept if name and one.id.startswith(name)]
    exact = [one for one in found if one.id == name]
    if len(found) > 1 and not exact:
        raise Conflict(f"{name} begins the ids of {len(found)} checkpoints; give more of it")
    found = exact or found or [one for one in kept if name and one.label == name]
    if not found:
        raise NotFound(f"there is no checkpoint {name!r}")
    return found[0]
