"""Where a guest without namespaces stands: a directory of the host, and among whose processes."""

from __future__ import annotations

from kernel_runtime.domain.level import Rung
from kernel_runtime.sandbox.plan import Ground, ImagePlan
from kernel_runtime.workers import meter, scratch, tree


def make_ground(image: ImagePlan) -> Ground | None:
    """A scratch directory on the host, for one guest that has no root of its own; else None."""
    if image.rung is Rung.NAMESPACES:
        return None
    ids = image.ids
    held = "pids" in meter.world().limits
    return Ground(
        scratch=scratch.make(ids.host_uid, ids.host_gid), crowd=None if held else tree.crowd(ids.host_uid)
    )
