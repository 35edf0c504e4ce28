"""The snapshots of a session as a tree, and where the session is in it: what undo, redo and lines of state go to.

A value: each change is another tree, whatever becomes of the processes behind the snapshots.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import msgspec

from kernel_runtime.domain.amounts import counted
from kernel_runtime.domain.errors import Conflict, Invalid, NotFound
from kernel_runtime.domain.snapshot import Budget, Snapshot, find, over_budget

if TYPE_CHECKING:
    from collections.abc import Iterable


#: So many cells are remembered: far more than there are snapshots before them.
MOST_MARKS = 1000


class Mark(msgspec.Struct, frozen=True):
    """A moment that undo or redo is to go to: the ``number`` of its snapshot, or ``why`` there is none."""

    number: int | None = None
    why: str = ""


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """``known``: snapshots by number. ``base``: the one that the present state came from last, ``cell``: the last
    cell that it contains, ``line``: the line of state that runs. ``heads``: where other lines were left, by name.
    ``past``: a mark for each cell that the present state contains, of the moment before it, which undo goes to;
    ``pasts``: what that was at each snapshot. ``future``: what redo takes back, the last one first to go.
    ``befores``: by a cell's execution count the snapshot before it. ``lost``: names of those whose process ended
    by itself.
    """

    known: dict[int, Snapshot] = {}
    base: int | None = None
    cell: int = 0
    line: str = "main"
    heads: dict[str, int] = {}
    past: tuple[Mark, ...] = ()
    pasts: dict[int, tuple[Mark, ...]] = {}
    future: tuple[Mark, ...] = ()
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

    @property
    def is_at_base(self) -> bool:
        """Whether no cell has begun since the snapshot that the present state came from last."""
        return self.base is not None and self.pasts.get(self.base) == self.past

    def undone_by(self, cells: int) -> Snapshot:
        """The one before the last ``cells`` cells; ``NotFound`` when there are not so many, ``Conflict`` when there
        is no snapshot before them: it says why, and which other one undo can go to."""
        if cells < 1:
            raise Invalid(f"undo: {cells} is not a number of cells; 1 is the last one")
        if cells > len(self.past):
            raise NotFound(
                f"{counted(cells, 'cell')} cannot be undone: the present state contains {len(self.past) or 'none'}"
            )
        mark = self.past[-cells]
        if mark.number in self.known:
            return self.known[mark.number]
        last = "the last cell" if cells == 1 else f"the last {counted(cells, 'cell')}"
        raise Conflict(
            f"{last} cannot be undone, there is no snapshot before: {self._why(mark)}; {self._instead(cells)}"
        )

    @property
    def unkept(self) -> str:
        """Why there is no snapshot before the last cell; "" where there is one."""
        mark = self.past[-1] if self.past else Mark(why="nothing has run")
        return "" if mark.number in self.known else self._why(mark)

    @property
    def undoable(self) -> int:
        """The most cells that can be undone."""
        return max((cells for cells, _ in self._reached()), default=0)

    def _reached(self) -> list[tuple[int, Snapshot]]:
        """How many cells can be undone, and where that leads to, the fewest first."""
        marks = enumerate(reversed(self.past), 1)
        return [(cells, self.known[mark.number]) for cells, mark in marks if mark.number in self.known]

    def _instead(self, cells: int) -> str:
        """What undo can do instead: more cells, the fewest of them, or as many as there are snapshots for."""
        reached = self._reached()
        if not reached:
            return "there is none before any other cell"
        more, snapshot = next((at for at in reached if at[0] > cells), reached[-1])
        moment = f"after cell {snapshot.cell}" if snapshot.cell else "at the start"
        which = "the newest before that" if more > cells else "the oldest"
        return f"{which} is the state {moment}: undo {more} goes there"

    def _why(self, mark: Mark) -> str:
        """There is no snapshot of that moment."""
        if mark.number is None:
            return mark.why
        return "its process has ended" if str(mark.number) in self.lost else "it has been dropped"

    def redone_by(self) -> Snapshot:
        """What the last undo or restore left; ``NotFound`` when there was none, ``Conflict`` when it is not kept."""
        if not self.future:
            raise NotFound("there is nothing to redo: no undo since the last cell")
        left = self.future[-1]
        if left.number not in self.known:
            raise Conflict(f"the state that was left cannot be had back: {self._why(left)}")
        return self.known[left.number]

    def over(self, budget: Budget) -> list[Snapshot]:
        """Which a budget lets go. Those that are apart are in no count; the one before the last cell is spared."""
        apart = self._apart()
        counted = [snapshot for snapshot in self.listing() if snapshot.number not in apart]
        return over_budget(counted, budget, self._last())

    def expendable(self) -> list[Snapshot]:
        """What may be given up when memory is short, in that order; the one before the last cell last."""
        last, apart = self._last(), self._apart()
        loose = [s for s in self.listing() if not s.pinned and s.number not in last]
        loose.sort(key=lambda s: (not s.automatic, s.number in apart))
        return loose + [self.known[number] for number in last]

    def _last(self) -> set[int]:
        """The one before the last cell, if there is one."""
        return {mark.number for mark in self.past[-1:] if mark.number in self.known}

    def _apart(self) -> set[int]:
        """The heads of lines, and what redo goes to."""
        return {*self.heads.values(), *self._left()}

    def _left(self) -> set[int]:
        return {mark.number for mark in self.future if mark.number in self.known}

    # -- changes of what there is ----------------------------------------------------------------

    def grown(self, snapshot: Snapshot) -> Tree:
        """With a snapshot of the present state. One made at a gate lies aside: nothing comes after it but what it
        is resumed to."""
        snapshot = msgspec.structs.replace(snapshot, parent=self.base)
        base = self.base if snapshot.gate else snapshot.number
        past = tuple(takewhile(lambda mark: mark.number != snapshot.number, self.past))
        pasts = self.pasts | {snapshot.number: past}
        return self._with(known=self.known | {snapshot.number: snapshot}, base=base, pasts=pasts)

    def before_cell(self, number: int, count: int) -> Tree:
        """That one is the state before a cell; ``count``: its execution count, 0 where it has none."""
        return self._with(befores=self.befores | {count: number}) if count else self

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
            pasts={number: past for number, past in self.pasts.items() if number not in gone},
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
        return self.without(self.known)._with(base=None, past=(), future=())

    # -- changes of where the session is ---------------------------------------------------------

    def began(self, mark: Mark) -> Tree:
        """Another cell: its mark, whose snapshot is there or is just being made, or why there will be none."""
        return self._with(past=(*self.past, mark)[-MOST_MARKS:])

    def refused(self, number: int, why: str) -> Tree:
        """The snapshot before a cell was not made."""
        past = (Mark(why=why) if mark.number == number else mark for mark in self.past)
        return self._with(past=tuple(past))

    def ran(self, count: int) -> Tree:
        """A cell is over; ``count`` as in ``before_cell``."""
        return self._with(cell=count or self.cell)

    def without_future(self) -> Tree:
        """Something new has begun: there is nothing to redo."""
        return self.without(self._left())._with(future=()) if self.future else self

    def restarted(self) -> Tree:
        """The session begins anew: what a person kept stays, the automatic ones go."""
        kept = self.without(snapshot.number for snapshot in self.listing() if snapshot.automatic)
        return kept._with(base=None, cell=0, past=(), future=())

    def back_at(self, snapshot: Snapshot) -> Tree:
        """The state of a snapshot is the present one, with the cells that it contains."""
        return self._with(
            base=snapshot.parent if snapshot.gate else snapshot.number,
            cell=snapshot.cell,
            past=self.pasts.get(snapshot.number, ()),
        )

    def begun_anew(self) -> Tree:
        """None of its moments came back: the present state contains no cell."""
        return self._with(cell=0, past=())

    def left(self, mark: Mark) -> Tree:
        """Redo goes there: it was left by an undo or a restore."""
        return self._with(future=(*self.future, mark)[-MOST_MARKS:])

    def redone(self) -> Tree:
        """The last undo is taken back."""
        return self._with(future=self.future[:-1])

    def on_line(self, line: str, head: int) -> Tree:
        """Another line runs, with a past of its own: the one that was left is at ``head``. Where that was before,
        nobody goes any more; where the other one was left is a snapshot like others."""
        previous = self.heads.get(self.line)
        stays = self.without_future().without(() if previous is None else (previous,))
        heads = stays.heads | {self.line: head}
        left = heads.pop(line, None)
        moved = stays._with(line=line, heads=heads)
        return moved if left not in moved.known else moved.marked(left, pinned=False, automatic=True)

    def _with(self, **fields: object) -> Tree:
        return msgspec.structs.replace(self, **fields)
