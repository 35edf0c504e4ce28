"""The functions that guests call, answered by the handlers themselves: what one sends, the other takes."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.databases import Database
from kernel_runtime.broker.db import Databases
from kernel_runtime.broker.files import Files
from kernel_runtime.domain import packed
from kernel_runtime.domain.errors import CapabilityDenied, Invalid
from kernel_runtime.sdk import db, files
from kernel_runtime.sdk.door import _Door
from tests.broker.granting import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kernel_runtime.state import State


class Beside:
    """Obeys ``door.Host``: no wall between, but what crosses is packed as if there were."""

    def __init__(self, *desks: Desk) -> None:
        self._desks = {desk.handler.name: desk for desk in desks}

    def call(self, capability: str, action: str, arguments: dict[str, Any]) -> tuple[Any, int | None]:
        given = packed.unpack(packed.pack(arguments))
        done = asyncio.run(self._desks[capability](action, **given))
        return packed.unpack_answer(packed.pack_answer(done.value)), *(done.descriptors or (None,))


@pytest.fixture
def shelf(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that is granted, with a database in it; the sdk is as inside."""
    pytest.importorskip("sqlalchemy")
    place = tmp_path / "shelf"
    place.mkdir()
    with sqlite3.connect(tmp_path / "stock.db") as connection:
        connection.execute("CREATE TABLE stock (item TEXT, count INTEGER)")
        connection.executemany("INSERT INTO stock VALUES (?, ?)", [("apple", 40), ("bread", 5), ("tea", 9)])
    connection.close()
    granted = Desk(Files(), state, f"files:read:{place}/**", f"files:write:{place}/**")
    databases = Databases({"stock": Database(url=f"sqlite:///{tmp_path / 'stock.db'}")})
    queried = Desk(databases, state, "db:stock:read", "db:stock:write")
    monkeypatch.setattr(_Door, "host", Beside(granted, queried))
    yield place
    for desk in (granted, queried):
        asyncio.run(desk.handler.close())


def test_files_are_written_appended_listed_and_removed(shelf: Path) -> None:
    path = shelf / "a.txt"
    assert files.write_text(path, "grün ") == 6
    assert files.write_bytes(path, b"two", append=True) == 3
    assert path.read_text() == "grün two"
    assert files.listdir(shelf) == ["a.txt"]
    assert (files.stat(path)["kind"], files.stat(path)["size"]) == ("file", 9)
    files.remove(path)
    assert files.listdir(shelf) == []


def test_what_is_no_mode_for_reading_is_told_before_it_is_asked(shelf: Path) -> None:
    for mode in ("w", "a", "r+", "rw"):
        with pytest.raises(Invalid, match="open is for reading"):
            files.open(shelf / "a.txt", mode)
    with pytest.raises(CapabilityDenied):
        files.write_text(shelf.parent / "b.txt", "outside")


def test_rows_say_when_there_were_more(shelf: Path) -> None:
    some = db.query("stock", "SELECT * FROM stock ORDER BY item", limit=2)
    assert list(some) == [{"item": "apple", "count": 40}, {"item": "bread", "count": 5}]
    assert some.truncated
    assert repr(some) == "<2 rows of item, count, and there are more>"
    whole = db.query("stock", "SELECT item FROM stock WHERE count < :most", {"most": 10})
    assert (len(whole), whole.truncated, repr(whole)) == (2, False, "<2 rows of item>")


def test_rows_come_as_an_arrow_table_where_that_is_asked(shelf: Path) -> None:
    pytest.importorskip("pyarrow")
    table = db.query("stock", "SELECT item, count FROM stock ORDER BY count", arrow=True)
    assert table.to_pydict() == {"item": ["bread", "tea", "apple"], "count": [5, 9, 40]}


def test_changes_say_how_many(shelf: Path) -> None:
    assert db.execute("stock", "DELETE FROM stock WHERE count > :most", {"most": 8})["changed"] == 2
