"""The snapshots of a session as a tree, and where the session is in it: what undo, redo and lines of state go to.

A value: each change is another tree, whatever becomes of the processes behind the snapshots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.snapshot import Budget, Snapshot, find, over_budget

if TYPE_CHECKING:
    from collections.abc import Iterable


class Undo(msgspec.Struct, frozen=True):
    """What was left by an undo or a restore: the snapshot of it, and those of the cells that were undone."""

    left: int
    undone: tuple[int, ...] = ()


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """``known``: snapshots by number. ``base``: the one that the present state came from last, ``cell``: the last
    cell that it contains, ``line``: the line of state that runs. ``heads``: where other lines were left, by name.
    ``past``: the snapshots before the last cells, which undo goes to; ``future``: what redo takes back, the last
    one first to go. ``befores``: by a cell's execution count the snapshot before it. ``lost``: names of those
    whose process ended by itself.
    """

    known: dict[int, Snapshot] = {}
    base: int | None = None
    cell: int = 0
    line: str = "main"
    heads: dict[str, int] = {}
    past: tuple[int, ...] = ()
    future: tuple[Undo, ...] = ()
    befores: dict[int, int] = {}
    lost: frozenset[str] = frozenset()

    # -- what there is ---------------------------------------------------------------------------

    def listing(self) -> list[Snapshot]:
        """All of them, oldest first."""
        return [self.known[number] for number in sorted(self.known)]

    def find(self, name: str | int) -> Snapshot:
        """By name or number; ``NotFound`` says which there are."""
        try:
            return find(self.listing(), name)
        except NotFound:
            if str(name) in self.lost:
                raise NotFound(f"the snapshot {str(name)!r} is lost: its process has ended") from None
            raise

    def lines(self) -> list[str]:
        """The lines that can be switched to, with the one that runs."""
        return sorted({self.line, *self.heads})

    def ancestors(self) -> list[Snapshot]:
        """Where the present state came from, the newest first."""
        found: list[Snapshot] = []
        number = self.base
        while number is not None and number in self.known:
            found.append(self.known[number])
            number = self.known[number].parent
        return found

    def undone_by(self, cells: int) -> tuple[int, ...]:
        """The snapshots before the last ``cells`` cells, oldest first; ``NotFound`` when there are not so many."""
        if cells < 1 or cells > len(self.past):
            kept = f"the last {len(self.past)}" if self.past else "none"
            raise NotFound(
                f"{cells} cells cannot be undone: of the cells before there are {kept} to go back to"
            )
        return self.past[-cells:]

    def over(self, budget: Budget) -> list[Snapshot]:
        """Which a budget lets go. Those that are apart are in no count; the one before the last cell is spared."""
        apart = self._apart()
        counted = [snapshot for snapshot in self.listing() if snapshot.number not in apart]
        return over_budget(counted, budget, set(self.past[-1:]))

    def expendable(self) -> list[Snapshot]:
        """What may be given up when memory is short, in that order; the one before the last cell last."""
        last, apart = self.past[-1:], self._apart()
        loose = [s for s in self.listing() if not s.pinned and s.number not in last]
        loose.sort(key=lambda s: (not s.automatic, s.number in apart))
        return loose + [self.known[number] for number in last]

    def _apart(self) -> set[int]:
        """The heads of lines, and what redo goes to."""
        return {*self.heads.values(), *(undo.left for undo in self.future)}

    # -- changes of what there is ----------------------------------------------------------------

    def grown(self, snapshot: Snapshot) -> Tree:
        """With a snapshot of the present state. One made at a gate lies aside: nothing comes after it but what it
        is resumed to."""
        snapshot = msgspec.structs.replace(snapshot, parent=self.base)
        base = self.base if snapshot.gate else snapshot.number
        return self._with(known=self.known | {snapshot.number: snapshot}, base=base)

    def before_cell(self, number: int, count: int) -> Tree:
        """That one is the state before a cell; ``count``: its execution count, 0 where it has none."""
        befores = self.befores | {count: number} if count else self.befores
        return self._with(past=(*self.past, number), befores=befores)

    def marked(self, number: int, **fields: object) -> Tree:
        """One with other fields."""
        return self._with(known=self.known | {number: msgspec.structs.replace(self.known[number], **fields)})

    def without(self, numbers: Iterable[int]) -> Tree:
        """Those that are dropped are gone; their children hang on their parents."""
        gone = {number for number in numbers if number in self.known}
        if not gone:
            return self
        known = {
            number: msgspec.structs.replace(snapshot, parent=self._standing(snapshot.parent, gone))
            for number, snapshot in self.known.items()
            if number not in gone
        }
        return self._with(
            known=known,
            base=self._standing(self.base, gone),
            heads={line: number for line, number in self.heads.items() if number not in gone},
            past=tuple(number for number in self.past if number not in gone),
            future=tuple(undo for undo in self.future if undo.left not in gone),
            befores={cell: number for cell, number in self.befores.items() if number not in gone},
        )

    def _standing(self, number: int | None, gone: set[int]) -> int | None:
        while number is not None and number in gone:
            number = self.known[number].parent
        return number

    def losing(self, number: int) -> Tree:
        """The process of one ended by itself."""
        snapshot = self.known[number]
        names = {snapshot.name, str(number), f"#{number}"} - {""}
        return self.without([number])._with(lost=self.lost | names)

    def cleared(self) -> Tree:
        """Without any."""
        return self.without(self.known)._with(base=None)

    # -- changes of where the session is ---------------------------------------------------------

    def ran(self, count: int) -> Tree:
        """A cell is over; ``count`` as in ``before_cell``."""
        return self._with(cell=count or self.cell)

    def without_future(self) -> Tree:
        """Something new has begun: there is nothing to redo."""
        return self.without(undo.left for undo in self.future)

    def restarted(self) -> Tree:
        """The session begins anew: what a person kept stays, the automatic ones go."""
        kept = self.without(snapshot.number for snapshot in self.listing() if snapshot.automatic)
        return kept._with(base=None, cell=0, past=())

    def back_at(self, snapshot: Snapshot) -> Tree:
        """The state of a snapshot is the present one."""
        return self._with(
            base=snapshot.parent if snapshot.gate else snapshot.number,
            cell=snapshot.cell,
        )

    def recovered_at(self, number: int) -> Tree:
        """Cells after this one are lost, and cannot be undone."""
        past = self.past
        return self._with(past=past[: past.index(number)]) if number in past else self

    def undone(self, cells: tuple[int, ...], left: int | None) -> Tree:
        """The ``cells`` are undone; ``left``: the snapshot of what was there, if there is one, for redo."""
        past = tuple(number for number in self.past if number not in cells)
        if left is None or left not in self.known:
            return self._with(past=past)
        return self._with(past=past, future=(*self.future, Undo(left, cells)))

    def redone(self) -> Tree:
        """The last undo is taken back."""
        undone = tuple(number for number in self.future[-1].undone if number in self.known)
        return self._with(past=(*self.past, *undone), future=self.future[:-1])

    def returned_to(self, then: Tree) -> Tree:
        """Other states have been visited: what can be undone and redone is as it was ``then``, as far as it is known."""
        past = tuple(number for number in then.past if number in self.known)
        future = tuple(undo for undo in then.future if undo.left in self.known)
        return self._with(past=past, future=future)

    def on_line(self, line: str, head: int) -> Tree:
        """Another line runs: the one that was left is at ``head``. Where that was before, nobody goes any more;
        where the other one was left is a snapshot like others."""
        previous = self.heads.get(self.line)
        stays = self.without_future().without(() if previous is None else (previous,))
        heads = stays.heads | {self.line: head}
        left = heads.pop(line, None)
        moved = stays._with(line=line, heads=heads, past=())
        return moved if left not in moved.known else moved.marked(left, pinned=False, automatic=True)

    def _with(self, **fields: object) -> Tree:
        return msgspec.structs.replace(self, **fields)
