"""A cell once more on the state it first had, and what differs.

The session goes over to that state, runs the cell, reads the variables, and comes back: for that long
the present state waits as a frozen copy. Files that the cell writes are written again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from kernel_runtime import wire
from kernel_runtime.domain import transcript
from kernel_runtime.domain.difference import Difference, show_uncompared
from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.snapshot import Snapshot
from kernel_runtime.domain.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.records import Records
    from kernel_runtime.domain.transcript import Transcript
    from kernel_runtime.workers.branch import Sink
    from kernel_runtime.workers.snapshots import Snapshots

_SAID = ("error", "execute_result", "display_data")


class Session(Protocol):
    """What is used of one."""

    @property
    def snapshots(self) -> Snapshots: ...
    async def submit(
        self, request: wire.Request, sink: Sink, fds: list[int] | None = None, *, keep: bool = True
    ) -> Verdict | None: ...
    async def diff(self, a: str | int, b: str | int | None = None) -> Difference: ...


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What a cell did when it ran again. ``start``: on which state; ``outputs``: lines of its outputs that differ, none
    where they are the same; ``difference``: of the variables, ``first`` and ``again``, or None where the state after the
    cell is not there; ``verdict``: why it did not end by itself, if so. ``print`` shows it."""

    cell: int
    start: Snapshot
    outputs: list[str] = []
    difference: Difference | None = None
    verdict: Verdict | None = None

    def __str__(self) -> str:
        return "\n".join(_show(self))


class Recorder:
    """The sink of one run: what it is given goes into the transcript, and on."""

    def __init__(
        self, transcript: Transcript, onward: Callable[[wire.FromGuest], None] = lambda _: None
    ) -> None:
        self.transcript = transcript
        self._onward = onward

    def __call__(self, frame: wire.FromGuest) -> None:
        self._onward(frame)  # first: it checks what was said
        if isinstance(frame, wire.Stream):
            self.transcript.add(frame.name[:16], frame.text)
        elif isinstance(frame, wire.Publish) and frame.kind in _SAID:
            self.transcript.show(frame.kind, wire.read_object(frame.kind, frame.content))


async def replay(session: Session, records: Records, cell: int, start: str | int | None = None) -> Replay:
    """Run the cell again, on the state that it first had or another. ``NotFound`` for a cell that did not run, or whose
    state is not kept any more."""
    first = records.find(cell)
    begun = _before(session.snapshots, cell) if start is None else session.snapshots.find(start)
    async with session.snapshots.aside() as here:
        again, verdict = await _run(session, begun, cell, first.code)
        meant = _after(session.snapshots, records.after(cell), here)
        lives = verdict is None or verdict.survived
        found = await session.diff(meant.number) if meant and lives else None
    named = None if found is None else msgspec.structs.replace(found, a="first", b="again")
    outputs = transcript.compare(first, again)
    return Replay(cell=cell, start=begun, outputs=outputs, difference=named, verdict=verdict)


def _before(snapshots: Snapshots, cell: int) -> Snapshot:
    """The automatic snapshot before the cell; ``NotFound`` says before which cells there are some."""
    kept = snapshots.befores()
    if cell not in kept:
        known = ", ".join(map(str, sorted(kept))) or "none"
        raise NotFound(
            f"the state before cell {cell} is not kept any more; kept are those before the cells: {known}. "
            f"Or say on which state: `%replay {cell} --from SNAPSHOT`, in Python `replay({cell}, start=SNAPSHOT)`"
        )
    return kept[cell]


def _after(snapshots: Snapshots, following: int | None, here: Snapshot) -> Snapshot | None:
    """The state that the cell led to at first: the one before the next cell, or the present."""
    return here if following is None else snapshots.befores().get(following)


async def _run(session: Session, start: Snapshot, cell: int, code: str) -> tuple[Transcript, Verdict | None]:
    await session.snapshots.visit(start.number)
    again = transcript.Transcript(code=code)
    content = {
        "code": code,
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    request = wire.Request(
        id=f"replay-{cell}-{start.number}",
        kind="execute_request",
        content=msgspec.json.encode(content),
        count=cell,
    )
    return again, await session.submit(request, Recorder(again), keep=False)


# -- as text ----------------------------------------------------------------------------------------


def _show(done: Replay) -> list[str]:
    lines = [f"cell {done.cell} again, on the state {_named(done.start)}:"]
    if done.verdict is not None:
        lines.append(f"it did not end by itself: {done.verdict.explain()}")
    lines += ["outputs:", *(f"  {line}" for line in done.outputs)] if done.outputs else [_SAME_OUTPUTS]
    found = done.difference
    if found is None:
        return [*lines, "variables: not compared, for the state after the cell is not there"]
    if found.changes:
        return [*lines, "variables:", str(found)]
    return [*lines, "variables: no difference", *show_uncompared(found)]


_SAME_OUTPUTS = "outputs: no difference"


def _named(start: Snapshot) -> str:
    return (
        f"of {start.name!r}" if start.name else f"after cell {start.cell}" if start.cell else "at the start"
    )
