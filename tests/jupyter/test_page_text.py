"""Text of a guest: terminal escapes and prompts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_runtime.jupyter.page_text import Terminal, clean_terminal
from kernel_runtime.jupyter.prompts import MARK, shown_prompt


@pytest.mark.parametrize(("text", "shown"), [
    ("\x1b[31;1mred\x1b[0m\tand\rback\b\n", "\x1b[31;1mred\x1b[0m\tand\rback\b\n"),
    ("\x1b]8;;http://evil/\x1b\\link\x1b]8;;\x07", "link"),
    ("\x1b]52;c;cm0=\x07a\x9d52;c;x\x9cb", "ab"[:1] + "52;c;xb"),
    ("\x1bP$q\x1b\\a\x1b[2J\x1b[1;1Hb\x1b[?1049hc", "abc"),
    ("\x1b]0;title", ""), ("a\x1b", "a"), ("\x1bca\x1b(0b\x0ec\x05\x07", "abc"), ("\x9b31mé", "31mé"), ("é\x85x", "éx"),
    ("\x1b[38;2;1;2;3mtrue\x1b[m", "\x1b[38;2;1;2;3mtrue\x1b[m"), ("\x1b[6n\x1b[>c\x1b[!p", ""),
])  # fmt: skip
def test_terminal_escapes(text, shown):
    assert clean_terminal(text) == shown


def test_a_colour_cut_in_two_stays_one():
    terminal = Terminal()
    assert terminal.feed("stdout", "a\x1b[3") == "a"
    assert terminal.feed("stderr", "b") == "b"
    assert terminal.feed("stdout", "1mred") == "\x1b[31mred"
    assert terminal.feed("stdout", "\x1b") + terminal.feed("stdout", "]52;c;x\x07y") == "y"


@given(st.lists(st.text(alphabet="\x1b[]0;mP\\\x07\x9bA8 ?c", max_size=12), max_size=6))
@settings(max_examples=200, deadline=None)
def test_no_pieces_make_an_escape_but_colours(pieces):
    terminal = Terminal()
    whole = "".join(terminal.feed("stdout", piece) for piece in pieces)
    assert not re.sub(r"\x1b\[[0-9;:]*m", "", whole).count("\x1b")
    assert "\x9b" not in whole


def test_prompts_are_marked_and_bounded():
    assert shown_prompt("Name? ", password=False) == "Name? "
    assert shown_prompt("\x1b[2J\r\bPassword\n: ", password=True) == f"{MARK}Password : "
    assert len(shown_prompt("x" * 10_000, password=True)) < 2100
