"""``%snapshots``: the magic that opens the panel of snapshots, as the front recognises and answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernel_runtime.jupyter.panels.differences import Diff
    from kernel_runtime.jupyter.panels.stage import Panel, Stage
    from kernel_runtime.jupyter.state_text import WrittenSince
    from kernel_runtime.workers.snapshots import Snapshots

NAME = "%snapshots"


def recognise(code: str) -> bool:
    """Whether the cell is nothing but this magic."""
    return code.strip() == NAME


async def open_panel(
    stage: Stage,
    snapshots: Snapshots,
    parent: bytes,
    diff: Diff | None = None,
    written: WrittenSince | None = None,
) -> dict[str, Any]:
    """The mime bundle that the cell of the request ``parent`` displays: the live panel, and the tree
    as HTML and as text where no widgets live. ``diff`` compares two snapshots, ``written`` names
    the files that were written since one, if anything does."""

    def make() -> Panel:
        from kernel_runtime.jupyter.panels.snapshot_view import SnapshotView  # needs ipywidgets

        return SnapshotView(snapshots, diff, written=written)

    await snapshots.settled()  # the one from before the cell above may still be coming
    return await stage.show(NAME, make, parent)
