"""Snapshots, restorations and stacks as lines of text. What a guest has said is cleaned here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kernel_runtime.domain.amounts import counted, show_amount
from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.domain.snapshot import show_tree
from kernel_runtime.jupyter.page_text import clean_terminal, one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from kernel_runtime.domain.checkpoint import Checkpoint
    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.jupyter.guest import Revived

    #: The files that were written since a snapshot, by its number.
    WrittenSince = Callable[[int], Awaitable[list[str]]]

_LONGEST, _FILES, _NAMED = 300, 8, 20


class Restoration(Protocol):
    """What came back; see ``workers.restoration.Restoration``."""

    @property
    def snapshot(self) -> Snapshot: ...
    @property
    def seconds(self) -> float: ...
    @property
    def external(self) -> list[str]: ...
    @property
    def changed(self) -> list[str]: ...
    @property
    def unkept(self) -> str: ...


def clean(text: str) -> str:
    """Text of several lines, without what a terminal would act on."""
    return "\n".join(clean_terminal(one_line(line, _LONGEST)) for line in text.splitlines())


def said(text: str) -> str:
    """A word of a guest's, on one line."""
    return one_line(text, _LONGEST)


def quoted(snapshot: Snapshot) -> str:
    """What it is called."""
    return repr(snapshot.name) if snapshot.name else f"snapshot {snapshot.number}"


def taken(snapshot: Snapshot) -> list[str]:
    """That there is one now, and what it does not have."""
    pinned = ", pinned" if snapshot.pinned else ""
    lines = [f"{quoted(snapshot)}: the state after cell {snapshot.cell}{pinned} ({_ms(snapshot.pause)})"]
    if snapshot.external:
        lines.append(f"not in it: {'; '.join(map(said, snapshot.external))}")
    return lines


def kept(checkpoint: Checkpoint) -> list[str]:
    """That the state is on disk now, and what of it is not."""
    name = repr(checkpoint.label) if checkpoint.label else checkpoint.id
    sizes = f"{show_amount('memory', checkpoint.size)}, {show_amount('memory', checkpoint.added)} of it new on disk"
    lines = [f"kept on disk as {name}: {counted(len(checkpoint.names), 'variable')} ({sizes})"]
    return lines + _without("not kept", checkpoint.skipped)


def revived(checkpoint: Checkpoint, revived: Revived, at: str = "%") -> list[str]:
    """What of a checkpoint is back in the present state. ``at``: what stands before the names of magics."""
    names, of = revived.names, revived.of
    name = repr(checkpoint.label) if checkpoint.label else checkpoint.id
    verb = "is" if len(names) == 1 else "are"
    back = f"cannot take that back: {said(revived.unkept)}" if revived.unkept else "takes that back"
    lines = [f"{counted(len(names), 'variable')} of checkpoint {name} {verb} back; {at}undo {back}"]
    if of:
        lines.append(f"it is not this notebook's own: {said(of)} has kept it")
    return lines + _without("not kept", checkpoint.skipped) + _without("not back", revived.failed)


def _without(what: str, reasons: Mapping[str, str]) -> list[str]:
    shown = [f"{what}: {said(name)} ({said(why)})" for name, why in list(reasons.items())[:_NAMED]]
    left = len(reasons) - len(shown)
    return [*shown, f"{what}: {left} more"] if left > 0 else shown


def restored(what: str, restoration: Restoration, written: Sequence[str] | None) -> list[str]:
    """Which moment the state is, and what is not as it was then. ``written``: files that were written
    since; None: that could not be found out."""
    cell = restoration.snapshot.cell
    moment = f"cell {cell}" if cell else "the start"
    return [f"{what} {moment} ({_ms(restoration.seconds)})", *as_it_is(restoration, written)]


def as_it_is(restoration: Restoration, written: Sequence[str] | None) -> list[str]:
    """What is not as it was at the moment that came back; ``written`` as for ``restored``."""
    lines = [files(written)]
    if restoration.external:
        lines.append(f"not in it: {'; '.join(map(said, restoration.external))}")
    if restoration.changed:
        lines.append(f"open files: {'; '.join(map(said, restoration.changed))}")
    if restoration.unkept:
        lines.append(
            f"the state that was left is not kept, redo cannot bring it back: {said(restoration.unkept)}"
        )
    return lines


async def written_by(written: WrittenSince | None, restoration: Restoration) -> list[str] | None:
    """The files that were written since the moment that came back; None: that could not be found out."""
    try:
        return None if written is None else await written(restoration.snapshot.number)
    except KernelRuntimeError:
        return None


def files(written: Sequence[str] | None) -> str:
    """The files that stay written."""
    if written is None:
        return "files that were written since stay written"
    if not written:
        return "no files were written since"
    shown = ", ".join(map(said, written[:_FILES]))
    more = f" and {len(written) - _FILES} more" if len(written) > _FILES else ""
    return f"files that were written since stay written: {shown}{more}"


def listing(snapshots: Sequence[Snapshot], base: int | None, line: str, at: str = "%") -> str:
    """The tree, and what all of it takes, as far as that has been measured. ``at``: as for ``revived``."""
    if not snapshots:
        return f"no snapshots yet (line {line!r}); {at}snapshot NAME keeps the present state"
    held = sum(snapshot.size or 0 for snapshot in snapshots)
    count = counted(len(snapshots), "snapshot")
    total = f"{count}, {show_amount('memory', held)}" if held else count
    return "\n".join([*show_tree(snapshots, base), f"{total}; on line {line!r}"])


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
