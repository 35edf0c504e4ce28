"""The panel of logs: stdout, stderr, records, the host's words and the audit trail; searched, followed, exported."""

from __future__ import annotations

import asyncio
import csv
import heapq
import os
import time
from dataclasses import dataclass
from html import escape as html_escape
from itertools import islice
from typing import TYPE_CHECKING, Any

import ipywidgets
import msgspec

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.log import STREAM, Severity
from kernel_runtime.jupyter.page_text import one_line
from kernel_runtime.jupyter.panels.acting import Acting, Ticker, counted, row
from kernel_runtime.jupyter.panels.logbook import LEVELS, MOST_LINE, SOURCES, Line, Wanted
from kernel_runtime.jupyter.panels.permission_html import brief
from kernel_runtime.jupyter.panels.style import SHEET

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from kernel_runtime.domain.audit import Record
    from kernel_runtime.domain.log import LogRecord
    from kernel_runtime.jupyter.panels.logbook import LogBook
    from kernel_runtime.jupyter.panels.rights import Rights

LOOK_SECONDS = 1.0
#: Lines that are shown at once, that are saved without a browser, and that are searched and exported.
MOST_SHOWN, MOST_STILL, MOST_EXPORTED = 300, 40, 200_000


@dataclass(frozen=True, slots=True)
class Voice:
    """A guest, as it is heard beside its output: whose audit trail is its, and what it has logged, the newest first."""

    rights: Rights | None = None
    records: Callable[[], Iterable[LogRecord]] = tuple


def called_voices(said: Sequence[LogRecord]) -> dict[str, Voice]:
    """The apps that guests have called, each by a name that no guest has; ``said``: what all of them have logged and
    printed, the newest last."""

    def of(app: str) -> Callable[[], Iterable[LogRecord]]:
        return lambda: [record for record in reversed(said) if record.app == app]

    return {f"{app} (called)": Voice(records=of(app)) for app in sorted({record.app for record in said})}


class LogView:
    """One panel; ``voices()``: the guests that there are, by name. One without a name is the only one."""

    def __init__(
        self,
        book: LogBook,
        voices: Callable[[], Mapping[str, Voice]],
        place: Path,
        seconds: float = LOOK_SECONDS,
    ) -> None:
        self._book = book
        self._voices = voices
        self._heard: Mapping[str, Voice] = {}
        self._place = place
        self._audit: list[Line] = []
        self._read: object = None
        self._newest: tuple[int, int, tuple[int, ...]] = (-1, -1, ())
        self._seen: tuple[int, int, tuple[int, ...]] = self._newest
        self._acting = Acting(lambda: None)
        self._make_parts()
        self.root = self._assemble()
        for widget in (self._search, self._level, self._source, self._follow):
            widget.observe(lambda _: self._acting.soon(self._draw), "value")
        self._ticker = Ticker(seconds, self.look)
        self._draw()

    # -- parts -----------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        self._head, self._lines = ipywidgets.HTML(), ipywidgets.HTML()
        self._search = ipywidgets.Text(
            placeholder="search", tooltip="words that a line is to have"
        ).add_class("kr-wide")
        self._level = ipywidgets.Dropdown(
            options=[("every level", LEVELS[0]), *((f"{n} and up", n) for n in LEVELS[1:])]
        )
        self._source = ipywidgets.Dropdown(
            options=[("every source", ""), *((name, name) for name in SOURCES)]
        )
        self._follow = ipywidgets.ToggleButton(
            value=True, description="Follow", icon="arrow-down", tooltip="show what comes, as it comes"
        )
        button = self._acting.button
        tip = "write these lines to a new file beside the notebook"
        self._jsonl = button("JSONL", "download", tip, self._exported("jsonl", _write_jsonl))
        self._csv = button("CSV", "download", tip, self._exported("csv", _write_csv))
        self._jsonl.add_class("kr-gap")

    def _assemble(self) -> Any:
        actions = row(self._search, self._level, self._source, self._follow, self._jsonl, self._csv)
        parts = [ipywidgets.HTML(SHEET), self._head, actions, self._lines, self._acting.said]
        return ipywidgets.VBox(parts).add_class("kr-panel")

    # -- what is shown ---------------------------------------------------------------------------

    async def look(self) -> None:
        """Take in what has come, if it is to be followed."""
        self._heard = self._voices()
        number = await asyncio.to_thread(self._read_audit, self._heard)
        logged = tuple(next((r.number for r in voice.records()), 0) for voice in self._heard.values())
        self._newest = (self._book.newest, number, logged)
        if self._newest != self._seen:
            self._draw()

    def _read_audit(self, voices: Mapping[str, Voice]) -> int:
        """The newest audit records as lines; their last number."""
        rights = {name: voice.rights for name, voice in voices.items() if voice.rights is not None}
        number = max((one.newest() for one in rights.values()), default=0)
        if self._read != (number, set(rights)):
            trails = [[_audited(record, name) for record in one.records()] for name, one in rights.items()]
            self._audit = list(heapq.merge(*trails, key=lambda line: -line.at))
            self._read = (number, set(rights))
        return number

    def still(self) -> tuple[str, str]:
        """The newest lines, as text and as HTML."""
        lines = list(islice(self._wanted(), MOST_STILL))
        plain = "\n".join(
            f"{_when(each)} {each.source:<7}{self._named(each)}{each.text}" for each in reversed(lines)
        )
        shown = f"{_heading('')}{_as_html(lines, self._named)}"
        return plain or "no lines yet", f'{SHEET}<div class="kr-panel">{shown}</div>'

    def _named(self, line: Line) -> str:
        """Whose line it is, where that is not clear."""
        if "" in self._heard and (not line.guest or line.guest not in self._heard):
            return ""
        return f"{line.guest}: "

    def close(self) -> None:
        """No more looks."""
        self._ticker.close()
        self._acting.close()

    def _draw(self) -> None:
        if not self._follow.value and self._lines.value:
            self._head.value = _heading("not followed: press Follow for what has come since")
            return
        self._seen = self._newest
        lines = list(islice(self._wanted(), MOST_SHOWN))
        lost = f", {self._book.lost} pieces are gone already" if self._book.lost else ""
        self._head.value = _heading(
            f"the newest {counted(len(lines), 'line')}{lost}" if lines else "no such lines yet"
        )
        self._lines.value = _as_html(lines, self._named)

    def _wanted(self) -> Iterator[Line]:
        """Of the newest lines those that are asked for, the newest first."""
        wanted = Wanted(level=self._level.value, source=self._source.value, text=self._search.value)
        logged = (_logged(voice.records(), name) for name, voice in self._heard.items())
        every = heapq.merge(self._book.newest_first(), self._audit, *logged, key=lambda line: -line.at)
        return filter(wanted, islice(every, MOST_EXPORTED))  # a guest may print as many as it likes

    # -- what is done ----------------------------------------------------------------------------

    def _exported(
        self, kind: str, write: Callable[[Any, Iterable[Line]], None]
    ) -> Callable[[], Awaitable[str]]:
        async def export() -> str:
            lines = list(self._wanted())[::-1]
            path = await asyncio.to_thread(_new_file, self._place, kind, lines, write)
            return f"{counted(len(lines), 'line')} written to {path.name}"

        return export


def _new_file(
    place: Path, kind: str, lines: list[Line], write: Callable[[Any, Iterable[Line]], None]
) -> Path:
    """A file that was not there before, for its owner alone; no link is followed."""
    path = place / f"logs-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}.{kind}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o600), "w", encoding="utf-8", errors="replace", newline="") as file:
            write(file, lines)
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror or error}") from None
    return path


def _write_jsonl(file: Any, lines: Iterable[Line]) -> None:
    for line in lines:
        file.write(msgspec.json.encode(line).decode("utf-8", "replace") + "\n")


def _write_csv(file: Any, lines: Iterable[Line]) -> None:
    """What a spreadsheet would take for a formula gets an apostrophe before it."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Line.__struct_fields__)
    for line in lines:
        writer.writerow([_plain(value) for value in msgspec.structs.astuple(line)])


def _plain(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _audited(record: Record, guest: str) -> Line:
    what = f"{record.capability}:{record.resource}".strip(":")
    text = " ".join(
        filter(None, (record.event, record.decision, what, f"({brief(record.rule)})" if record.rule else ""))
    )
    level = "warning" if record.decision == "deny" else "info"
    return Line(at=record.at, source="audit", level=level, guest=guest or record.app, text=text)


def _logged(records: Iterable[LogRecord], guest: str) -> Iterator[Line]:
    """What was logged, a line each; what was printed, as it was. The newest first."""
    for record in records:
        level = "error" if record.level is Severity.CRITICAL else str(record.level)
        source = record.fields.get(STREAM, "")
        if source in ("stdout", "stderr"):
            texts = record.message.splitlines()[::-1]
        else:
            fields = "".join(f" {name}={value}" for name, value in record.fields.items())
            source, texts = "log", [f"{record.message}{fields}"]
        for text in texts:
            shown = one_line(text, MOST_LINE)
            yield Line(at=record.at, source=source, level=level, guest=guest or record.app, text=shown)


def _when(line: Line) -> str:
    return time.strftime("%H:%M:%S", time.localtime(line.at))


def _heading(text: str) -> str:
    return f'<div class="kr-head"><b>Logs</b><span>{html_escape(text)}</span></div>'


def _as_html(lines: list[Line], named: Callable[[Line], str]) -> str:
    """The newest last, and in sight: the box is filled from its end."""
    rows = "\n".join(  # a line each also where no style is
        f'<span class="kr-l-{line.level}"><time>{_when(line)}</time> <i>{line.source}</i> '
        f"<bdi>{html_escape(named(line))}{html_escape(line.text)}</bdi></span>"
        for line in lines
    )
    return f'<pre class="kr-log">{rows}</pre>'
