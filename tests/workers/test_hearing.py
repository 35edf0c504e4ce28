"""What a called guest prints, as pieces for a log: whole lines, bounded, and nothing but streams and its error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime import wire
from kernel_runtime.domain.errors import ProtocolViolation
from kernel_runtime.domain.log import MAX_MESSAGE
from kernel_runtime.workers.hearing import Hearing

if TYPE_CHECKING:
    from kernel_runtime.domain.log import Said


class Ear:
    """A hearing and what it has kept: stream, level and text of each."""

    def __init__(self, limit: int = 1_000_000) -> None:
        self.said: list[Said] = []
        self.hearing = Hearing(self.said.append, limit)

    def prints(self, *texts: str, stream: str = "stdout") -> None:
        for text in texts:
            self.hearing(wire.Stream(parent="call", name=stream, text=text))

    def publishes(self, kind: str, content: Any) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.hearing(wire.Publish(parent="call", kind=kind, content=data))

    @property
    def kept(self) -> list[tuple[str, str, str]]:
        return [(said.stream, str(said.level), said.text) for said in self.said]


ERROR = {"ename": "E", "evalue": "why", "traceback": ["\x1b[31mTraceback\x1b[0m", "E: why"]}


def test_lines_are_kept_whole_and_what_has_no_end_at_the_end() -> None:
    ear = Ear()
    ear.prints("a", "b\nc", "d\ne\nf")
    ear.prints("warned", stream="stderr")
    assert ear.kept == [("stdout", "info", "ab\n"), ("stdout", "info", "cd\ne\n")]
    ear.hearing.close()
    assert ear.kept[2:] == [("stdout", "info", "f"), ("stderr", "warning", "warned")]
    ear.prints("late\n")
    assert len(ear.kept) == 4


def test_pieces_are_bounded_and_end_with_lines_where_they_can() -> None:
    ear = Ear()
    line = "x" * 999 + "\n"
    ear.prints(line * 40)
    assert "".join(said.text for said in ear.said) == line * 40
    assert {said.text[-1] for said in ear.said} == {"\n"}
    ear.prints("y" * (3 * MAX_MESSAGE))
    assert max(len(said.text) for said in ear.said) == MAX_MESSAGE
    assert ear.said[-1].text == "y" * MAX_MESSAGE, "a line without an end is not kept back for ever"


def test_beyond_the_limit_nothing_is_kept_but_the_error() -> None:
    ear = Ear(limit=10)
    ear.prints("12345\n", "67890\n", "more\n", "and more\n")
    assert ear.kept == [
        ("stdout", "info", "12345\n"),
        ("stdout", "info", "6789"),
        ("stderr", "warning", "kernel_runtime: more than 10 bytes were printed; the rest is left out\n"),
    ]
    ear.publishes("error", ERROR)
    assert ear.kept[3:] == [("stderr", "error", "Traceback\nE: why")]


def test_an_error_is_its_traceback_after_what_was_printed_and_only_the_first() -> None:
    ear = Ear()
    ear.prints("half")
    ear.publishes("display_data", {"data": {"text/plain": "x"}, "metadata": {}})
    ear.publishes("error", ERROR)
    ear.publishes("error", ERROR)
    assert ear.kept == [("stdout", "info", "half"), ("stderr", "error", "Traceback\nE: why")]
    bare, long = Ear(), Ear()
    bare.publishes("error", {"ename": "E", "evalue": "why"})
    assert bare.kept == [("stderr", "error", "E: why")]
    long.publishes("error", {"traceback": ["x" * (2 * MAX_MESSAGE), "the end"]})
    assert len(long.said[0].text) == MAX_MESSAGE
    assert long.said[0].text.endswith("the end")


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b'{"traceback": 5}', b'{"traceback": [5]}', b"[" * 100_000, b'{"ename": {}}']
)
def test_an_error_that_is_none_is_a_violation(content: bytes) -> None:
    ear = Ear()
    with pytest.raises(ProtocolViolation):
        ear.publishes("error", content)
    assert ear.kept == []


def test_a_stream_of_another_name_is_a_violation() -> None:
    with pytest.raises(ProtocolViolation, match="no stream is called 'audit'"):
        Ear().prints("x", stream="audit")
