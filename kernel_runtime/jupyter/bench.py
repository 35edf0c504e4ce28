"""The front's magics together, and what the magics of one cell work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from kernel_runtime.jupyter import (
    cap_magic,
    files_magic,
    gate_magics,
    limits_magic,
    panel_magics,
    replay_magic,
    snapshot_magics,
)
from kernel_runtime.jupyter.front_magics import FrontMagics

if TYPE_CHECKING:
    from kernel_runtime.domain.records import Records
    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.jupyter.contents import CompleteReply, Content
    from kernel_runtime.jupyter.guest import Session, Sink, Waits
    from kernel_runtime.jupyter.requests import Cursor

MAGICS = FrontMagics(
    (
        *snapshot_magics.MAGICS,
        *gate_magics.MAGICS,
        *files_magic.MAGICS,
        *replay_magic.MAGICS,
        *cap_magic.MAGICS,
        *panel_magics.MAGICS,
    )
)
#: A cell that goes on: its reply, and what is said in the reply's metadata.
Running = Awaitable[tuple["Content", dict[str, Any]]]


class Bench:
    """See ``front_magics.Bench``. ``content`` and ``extra``: the reply, where a cell of the guest's went
    on; ``run_on(submit)`` runs one with this cell's outputs; ``panel(name)`` opens one in it."""

    at = "%"

    def __init__(
        self,
        ready: Callable[[], Awaitable[Session]],
        records: Records,
        run_on: Callable[[Callable[[Sink], Awaitable[Verdict | None]]], Running],
        panel: Callable[[str], Awaitable[dict[str, Any]]],
        waits: Waits,
    ) -> None:
        self.unless_interrupted = waits.unless_interrupted
        self.records = records
        self.content: Content | None = None
        self.extra: dict[str, Any] = {}
        self._ready = ready
        self._run_on = run_on
        self._panel = panel

    async def session(self) -> Session:
        return await self._ready()

    async def panel(self, name: str) -> dict[str, Any]:
        return await self._panel(name)

    async def run_on(self, submit: Callable[[Sink], Awaitable[Verdict | None]]) -> None:
        self.content, self.extra = await self._run_on(submit)


def merge_completions(reply: CompleteReply, cursor: Cursor, session: Session | None) -> None:
    """Add the front's magics that complete the word; where the guest found none, for the word. Of
    their arguments the guest knows nothing: there only the front's count."""
    line = cursor.line()
    found = MAGICS.completions(line, session)
    names, length = found if found is not None else ([], len(cursor.word()))
    if " " not in line.strip() and not line[-1:].isspace():
        names = [*limits_magic.completions(cursor.word()), *names]
    elif found is not None:
        reply.matches = []
    names = [name for name in names if name not in reply.matches]
    if names and not reply.matches:
        end = len(cursor.code) if cursor.cursor_pos is None else cursor.cursor_pos
        reply.cursor_start, reply.cursor_end = end - length, end
    reply.matches += names
