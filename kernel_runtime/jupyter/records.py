"""What the last cells were and have shown: kept by the front, for ``%replay``."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire
from kernel_runtime.domain.errors import NotFound
from kernel_runtime.domain.transcript import Transcript
from kernel_runtime.jupyter import contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST_CELLS = 200
_KINDS = {"execute_result": "result", "display_data": "display"}


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
        elif isinstance(frame, wire.Publish):
            self._published(frame)

    def _published(self, frame: wire.Publish) -> None:
        if frame.kind == "error" or frame.kind in _KINDS:
            _note(self.transcript, frame.kind, contents.read_object(frame.kind, frame.content))


def _note(transcript: Transcript, kind: str, content: dict[str, Any]) -> None:
    if kind == "error":
        transcript.add("error", f"{content.get('ename')}: {content.get('evalue')}\n")
    elif kind in _KINDS:
        data = content.get("data")
        plain = data.get("text/plain", "") if isinstance(data, dict) else ""
        transcript.add(_KINDS[kind], f"{plain}\n")


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
                _note(transcript, output["output_type"], output)

    def find(self, count: int) -> Transcript:
        """``NotFound`` says which cells there are."""
        if count not in self._runs:
            known = f"{min(self._runs)} to {max(self._runs)}" if self._runs else "none yet"
            raise NotFound(f"cell {count} did not run in this kernel's guest; known cells: {known}")
        return self._runs[count]

    def after(self, count: int) -> int | None:
        """The cell that ran next."""
        return min((number for number in self._runs if number > count), default=None)
