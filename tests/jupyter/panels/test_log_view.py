"""The panel of logs: what is kept, found, followed and exported."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.log import LogRecord, Severity
from kernel_runtime.jupyter.panels import logbook
from kernel_runtime.jupyter.panels.logbook import LogBook, Wanted
from kernel_runtime.state import State
from tests.jupyter.panels.boards import HOSTILE, stage
from tests.jupyter.panels.guests import press, request, rights_in, run, until

if TYPE_CHECKING:
    from pathlib import Path


async def opened(
    book: LogBook, place: Path, rights: Any = None, seconds: float = 3600.0
) -> tuple[Any, Any, dict[str, Any]]:
    from kernel_runtime.jupyter.panels.log_view import LogView, Voice

    theatre, ear, _ = stage()
    voices = {"": Voice(rights)}
    bundle = await theatre.show("l", lambda: LogView(book, lambda: voices, place, seconds), b"{}")
    return theatre.panel("l"), ear, bundle


def lines(book: LogBook) -> list[str]:
    """Oldest first."""
    return [line.text for line in book.newest_first()][::-1]


def test_pieces_of_one_line_are_one_line():
    book = LogBook()
    for text in ("a", "b\nc", "d\n", "e\n"):
        book.stream("stdout", text, 1)
    book.stream("stderr", "warned\n", 1)
    book.stream("stdout", "half", 1)
    book.stream("stdout", "of another cell", 2)
    assert lines(book) == ["ab", "cd", "e", "warned", "half", "of another cell"]


def test_it_is_bounded_in_pieces_and_characters(monkeypatch):
    monkeypatch.setattr(logbook, "MOST_PIECES", 10)
    book = LogBook()
    for number in range(25):
        book.stream("stdout", f"{number}\n")
    assert lines(book) == [str(number) for number in range(15, 25)]
    assert book.lost == 15
    book.stream("stdout", "x" * (logbook.MOST_PIECE + 100) + "end\n")
    assert max(map(len, lines(book))) <= logbook.MOST_LINE
    assert "104 characters left out" in lines(book)[-2]
    monkeypatch.setattr(logbook, "MOST_CHARACTERS", 100)
    book.stream("stdout", "y" * 90 + "\n")
    assert lines(book) == ["y" * 90]


def test_what_a_terminal_would_act_on_is_left_out():
    book = LogBook()
    book.stream("stdout", "\x1b[31mred\x1b[0m \x1b]0;title\x07 \u202ebackwards\n")
    assert lines(book)[0].startswith("red")
    assert not re.search(r"[\x00-\x1f\u202e]", lines(book)[0])


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["out", "err", "debugged", "failed"]),
        ({"level": "warning"}, ["err", "failed"]),
        ({"level": "error"}, ["failed"]),
        ({"source": "log"}, ["debugged"]),
        ({"text": "STD RR"}, ["err"]),
        ({"text": "error"}, ["failed"]),
    ],
)
def test_lines_are_chosen_by_level_source_and_words(wanted, found):
    book = LogBook()
    book.stream("stdout", "out\n")
    book.stream("stderr", "err\n")
    book.record("debug", "debugged")
    book.record("error", "failed", source="host")
    assert [line.text for line in filter(Wanted(**wanted), book.newest_first())][::-1] == found


def test_it_follows_until_it_is_told_not_to(tmp_path):
    async def story():
        book = LogBook()
        view, _, _ = await opened(book, tmp_path, seconds=0.001)
        book.stream("stdout", "first\n")
        await until(lambda: "first" in view._lines.value)
        view._follow.value = False
        book.stream("stdout", "second\n")
        await view.look()
        assert "second" not in view._lines.value
        assert "not followed" in view._head.value
        view._follow.value = True
        await until(lambda: "second" in view._lines.value)
        view.close()

    run(story)


def test_of_several_guests_each_line_says_whose_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    from kernel_runtime.jupyter.panels.log_view import LogView, Voice

    async def story():
        with State(tmp_path / "state") as state:
            rights, book = rights_in(state), LogBook()
            logged = LogRecord(number=1, at=1.0, level=Severity.INFO, message="wrote", app="b-app")
            voices = {"a": Voice(rights), "b": Voice(None, lambda: [logged])}
            rights.gate.ask(request("secret:API_KEY"))
            theatre, _, _ = stage()
            bundle = await theatre.show("l", lambda: LogView(book, lambda: voices, tmp_path, 3600.0), b"{}")
            view = theatre.panel("l")
            book.stream("stdout", "printed\n", 1, guest="a")
            await view.look()
            plain = view.still()[0]
            assert "audit  a: decision deny secret:API_KEY" in bundle["text/plain"]
            assert "stdout a: printed" in plain
            assert "log    b: wrote" in plain
            assert "a: printed" in view._lines.value
            view._search.value = "b"
            assert "wrote" in view._lines.value
            del voices["b"]
            await view.look()
            assert "wrote" not in view.still()[0]

    run(story)


def test_what_called_apps_say_stands_under_their_names(tmp_path):
    from kernel_runtime.jupyter.panels.log_view import LogView, Voice, called_voices

    async def story():
        book, said = LogBook(), []

        def say(app, message, stream="", level=Severity.INFO):
            fields = {"stream": stream} if stream else {"n": "1"}
            number = len(said) + 1
            said.append(
                LogRecord(
                    number=number, at=float(number), level=level, message=message, fields=fields, app=app
                )
            )

        own = LogRecord(number=1, at=9.0, level=Severity.INFO, message="own", app="notebook")

        def voices() -> dict[str, Voice]:
            return {"": Voice(None, lambda: [own]), **called_voices(said)}

        theatre, _, _ = stage()
        await theatre.show("l", lambda: LogView(book, voices, tmp_path, 3600.0), b"{}")
        view = theatre.panel("l")
        say("prices", "one\ntwo <b>\n", "stdout")
        say("prices", "Traceback\n  why\n", "stderr", Severity.ERROR)
        say("rates", "logged")
        await view.look()
        lines = [line.split(" ", 1)[1] for line in view.still()[0].splitlines()]
        assert lines == [
            "stdout prices (called): one",
            "stdout prices (called): two <b>",
            "stderr prices (called): Traceback",
            "stderr prices (called):   why",
            "log    rates (called): logged n=1",
            "log    own",
        ]
        assert "two &lt;b&gt;" in view._lines.value
        view._level.value = "error"
        view._search.value = "prices"
        assert "why" in view._lines.value
        assert "two" not in view._lines.value

    run(story)


def test_a_look_ends_however_many_lines_there_are(tmp_path, monkeypatch):
    from kernel_runtime.jupyter.panels import log_view

    monkeypatch.setattr(log_view, "MOST_EXPORTED", 50)

    async def story():
        book = LogBook()
        view, _, _ = await opened(book, tmp_path)
        book.stream("stdout", "wanted\n" + "\n" * 40)
        view._search.value = "wanted"
        assert "wanted" in view._lines.value  # the control
        book.stream("stdout", "\n" * 60)
        await view.look()
        assert "wanted" not in view._lines.value

    run(story)


def test_the_panel_of_a_kernel_hears_the_apps_that_its_guest_calls(tmp_path, monkeypatch):
    from kernel_runtime.broker.commons import Commons
    from kernel_runtime.capabilities import Powers, broker_for
    from kernel_runtime.domain.disclosed import Disclosed
    from kernel_runtime.jupyter.panels.openers import LOGS, Panels
    from kernel_runtime.jupyter.panels.sources import Sources

    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    async def story():
        commons = Commons()
        broker = broker_for(Powers(name="notebook", directory=str(tmp_path)), Disclosed(), commons)
        guest: Any = SimpleNamespace(session=SimpleNamespace(broker=lambda: broker))
        fields = {"stream": "stdout"}
        commons.said.records.add(
            LogRecord(number=1, at=1.0, level=Severity.INFO, message="hot\n", fields=fields, app="prices")
        )
        theatre, _, _ = stage()
        bundle = await Panels(theatre, guest, Sources(guest)).open(LOGS, b"{}")
        assert "stdout prices (called): hot" in bundle["text/plain"]
        theatre.panel(LOGS).close()
        await broker.close()

    run(story)


def test_threads_may_write_while_it_is_read():
    book, stop = LogBook(), threading.Event()

    def write():
        while not stop.is_set():
            book.stream("stdout", "line\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            assert {line.text for line in book.newest_first()} <= {"line"}
        assert book.newest > 0, "the control: it was written"
    finally:
        stop.set()
        writer.join()


def test_the_audit_trail_stands_among_the_lines(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    async def story():
        with State(tmp_path / "state") as state:
            rights = rights_in(state)
            rights.gate.ask(request("secret:API_KEY"))
            view, _, bundle = await opened(LogBook(), tmp_path, rights)
            assert "audit  decision deny secret:API_KEY" in bundle["text/plain"]
            view._level.value = "error"
            assert "secret" not in view._lines.value
            rights.gate.ask(request("cache"))
            view._level.value = "debug"
            await view.look()
            assert "decision allow cache" in view._lines.value
            view.close()

    run(story)


def test_what_is_found_is_exported_to_a_new_private_file(tmp_path):
    async def story():
        book = LogBook()
        book.stream("stdout", "=cmd|' /C calc'!A0\nplain, with a comma\n", 3)
        book.stream("stderr", "other\n")
        view, _, _ = await opened(book, tmp_path)
        view._source.value = "stdout"
        assert "2 lines written to logs-" in await press(view._acting, view._jsonl)
        assert "2 lines written to logs-" in await press(view._acting, view._csv)
        (file,) = tmp_path.glob("logs-*.jsonl")
        records = [json.loads(line) for line in file.read_text().splitlines()]
        assert [(r["text"], r["cell"]) for r in records] == [
            ("=cmd|' /C calc'!A0", 3),
            ("plain, with a comma", 3),
        ]
        assert file.stat().st_mode & 0o077 == 0
        (table,) = tmp_path.glob("logs-*.csv")
        rows = list(csv.reader(io.StringIO(table.read_text())))
        assert rows[1][-1] == "'=cmd|' /C calc'!A0", "no spreadsheet takes it for a formula"

    run(story)


def test_an_export_follows_no_link_and_says_what_prevents_it(tmp_path, monkeypatch):
    from kernel_runtime.jupyter.panels import log_view

    monkeypatch.setattr(log_view.time, "strftime", lambda *_: "now")
    monkeypatch.setattr(log_view.os, "urandom", lambda size: bytes(size))
    target = tmp_path / "target"
    os.symlink(target, tmp_path / "logs-now-0000.csv")
    with pytest.raises(Invalid, match="cannot be written"):
        log_view._new_file(tmp_path, "csv", [], log_view._write_csv)
    assert not target.exists()
    assert log_view._new_file(tmp_path, "jsonl", [], log_view._write_jsonl).exists(), "the control"


def test_what_a_guest_prints_is_only_text(tmp_path):
    async def story():
        book = LogBook()
        book.stream("stdout", f"{HOSTILE}\n</pre><script>1</script>\n")
        book.record("info", HOSTILE)
        view, ear, bundle = await opened(book, tmp_path)
        view._search.value = "<script>"
        said = bundle["text/html"] + view._lines.value + str(ear.contents("comm_open"))
        assert "&lt;script&gt;" in said, "the words are there"
        assert "<script" not in said
        assert "<img" not in said

    run(story)
