"""What two runs of a cell have shown, compared without what changes every time."""

from __future__ import annotations

import pytest

from kernel_runtime.domain.transcript import MOST_KEPT, MOST_SHOWN, Transcript, compare, steady


def run(**texts: str) -> Transcript:
    found = Transcript(code="")
    for kind, text in texts.items():
        found.add(kind, text)
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<object object at 0x7f3a5c0de010>", "<object object at 0x7f3a5c0de999>"),
        ("took 12.5 ms", "took 7 ms"),
        ("2026-11-26 11:43:02.123", "2026-11-26T12:00:00Z"),
        ("id 6f1e2d3c-0000-4000-8000-0123456789ab", "id 00000000-0000-4000-8000-0123456789ab"),
        ("\x1b[31mred\x1b[0m", "red"),
    ],
)
def test_what_changes_every_time_is_no_difference(one: str, other: str):
    assert steady(one) == steady(other)
    assert compare(run(stdout=one), run(stdout=other)) == []


def test_what_matters_is_one():
    assert steady("12.5 km") == "12.5 km"
    assert compare(run(stdout="a\nb\n", result="1"), run(stdout="a\nc\n", result="1")) == [
        "stdout:",
        "  -b",
        "  +c",
    ]
    assert compare(run(), run(error="ValueError: no")) == ["error:", "  +ValueError: no"]


def test_lines_of_a_difference_that_begin_like_its_head_are_shown():
    assert compare(run(stdout="--x\n"), run(stdout="++y\n")) == ["stdout:", "  ---x", "  +++y"]


def test_both_are_bounded():
    long = Transcript(code="")
    for _ in range(3):
        long.add("stdout", "x\n" * MOST_KEPT)
    assert len(long.texts["stdout"]) == MOST_KEPT
    shown = compare(run(stdout="\n".join("abcdefgh" * 20)), run(stdout="\n".join("ijklmnop" * 20)))
    assert len(shown) == MOST_SHOWN + 1
    assert shown[-1] == "…"
