"""What the last cells were and have shown, for replay: kept by the front, or by a program's session."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_CELLS = 200
_SHOWN = 12


def _stretches(counts: list[int]) -> str:
    """``1 to 3, 5``: the last ones, if they are many."""
    stretches: list[list[int]] = []
    for count in counts:
        if stretches and count == stretches[-1][-1] + 1:
            stretches[-1].append(count)
        else:
            stretches.append([count])
    shown = [str(of[0]) if len(of) == 1 else f"{of[0]} to {of[-1]}" for of in stretches]
    return ", ".join(["…"] * (len(shown) > _SHOWN) + shown[-_SHOWN:])


class Records:
    """Transcripts by execution count."""

    def __init__(self) -> None:
        self._runs: OrderedDict[int, Transcript] = OrderedDict()

    def begin(self, count: int, code: str) -> Transcript:
        """A cell begins to run in the guest."""
        transcript = self._runs[count] = Transcript(code=code)
        if len(self._runs) > MOST_CELLS:
            self._runs.popitem(last=False)
        return transcript

    def add(self, count: int, code: str, outputs: Iterable[dict[str, Any]]) -> None:
        """A cell has run, and left these outputs of a notebook."""
        transcript = self.begin(count, code)
        for output in outputs:
            if output["output_type"] == "stream":
                transcript.add(output["name"], output["text"])
            else:
                transcript.show(output["output_type"], output)

    def find(self, count: int) -> Transcript:
        """``NotFound`` says which cells there are."""
        if count not in self._runs:
            known = _stretches(sorted(self._runs)) or "none yet"
            raise NotFound(f"cell {count} did not run in this guest; known cells: {known}")
        return self._runs[count]

    def after(self, count: int) -> int | None:
        """The cell that ran next."""
        return min((number for number in self._runs if number > count), default=None)
