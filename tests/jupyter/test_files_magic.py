"""``%files`` in the front: parsed, shown, completed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from kernel_runtime.domain.errors import Invalid, StorageFailed
from kernel_runtime.domain.file_changes import Deed, FileChange, FileChanges, Outcome
from kernel_runtime.jupyter.bench import MAGICS
from kernel_runtime.jupyter.front_magics import perform


class Files:
    """One changed file, and one whose name is an attack."""

    def __init__(self) -> None:
        self.known = ["a.txt", "a b", "x\x1by"]
        self.asked: list[tuple[str, ...]] = []
        self.written: list[object] = []
        self.trouble: Exception | None = None
        self.found = FileChanges(
            changes=[
                FileChange(path="a.txt", deed=Deed.CHANGED, kind="file", size=4, before=3),
                FileChange(path="\x1b]0;x\x07\n", deed=Deed.ADDED, kind="file", size=4),
            ]
        )

    def changed(self, things: list[tuple[str, str]], rule: str, principal: str) -> None:
        """The gate's part."""
        if self.trouble is not None:
            raise self.trouble
        self.written.append((things, rule, principal))

    async def changes(self) -> FileChanges:
        return self.found

    async def diff(self, path: str) -> str:
        self.asked.append(("diff", path))
        return "-one\n+\x1b[31mtwo"

    async def keep(self, path: str) -> Outcome:
        self.asked.append(("keep", path))
        return Outcome(done=[path], refused={"l": "a link"})

    async def drop(self, path: str = "") -> Outcome:
        self.asked.append(("drop", path))
        return Outcome()


@pytest.fixture
def files() -> Files:
    return Files()


def shown(files: Files, code: str) -> str:
    async def session() -> Any:
        broker = SimpleNamespace(gate=files, caller=SimpleNamespace(principal="ann"))
        return SimpleNamespace(files=files, broker=lambda: broker)

    calls = MAGICS.recognise(code)
    assert calls is not None
    bundle = asyncio.run(perform(SimpleNamespace(session=session), calls[0]))
    assert bundle is not None
    return bundle["text/plain"]


def test_changes_are_shown_and_names_act_on_nothing(files: Files) -> None:
    assert shown(files, "%files") == "~ a.txt  4 bytes (was 3 bytes)\n+ '\\x1b]0;x\\x07\\n'  4 bytes"
    files.found = FileChanges()
    assert shown(files, "%files") == "no file was added, changed or removed"


def test_a_difference_acts_on_nothing(files: Files) -> None:
    text = shown(files, "%files diff a.txt")
    assert "\x1b" not in text
    assert text.startswith("-one\n+")


def test_what_was_kept_and_dropped_is_told(files: Files) -> None:
    assert shown(files, "%files keep 'a b'") == "kept on the host:\na b\nnot l: a link"
    assert shown(files, "%files drop") == "no file was added, changed or removed"
    shown(files, "%files drop d")
    assert files.asked == [("keep", "a b"), ("drop", ""), ("drop", "d")]
    assert files.written == [([("files", "keep:a b")], "%files keep", "ann")]


def test_what_could_not_be_written_down_is_told(files: Files) -> None:
    files.trouble = StorageFailed("the state is full")
    assert shown(files, "%files keep a.txt").endswith("the audit log has no record of it: the state is full")


@pytest.mark.parametrize("code", ["%files burn", "%files keep", "%files diff", "%files keep a b"])
def test_bad_input_is_told(files: Files, code: str) -> None:
    with pytest.raises(Invalid):
        shown(files, code)
    assert files.asked == []


def test_actions_and_paths_are_completed(files: Files) -> None:
    session: Any = SimpleNamespace(files=files)
    assert MAGICS.completions("%files ", session) == (["diff", "drop", "keep"], 0)
    assert MAGICS.completions("%files keep a", session) == (["a.txt"], 1)
    assert MAGICS.completions("%files keep a ", session) == ([], 0)
