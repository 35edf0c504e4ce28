"""Values of secrets do not come through: as they are, encoded, escaped, inside others, across pieces."""

from __future__ import annotations

import base64
import html
import itertools
import json
import random
import reprlib
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_runtime.domain.redaction import MIN_SECRET, Redactor

VALUE = 'p@ss/w0rd+"ä\n€😀='
RAW = VALUE.encode()
REDACTOR = Redactor([("KEY", RAW)])
values = st.text(st.characters(exclude_categories=["Cs"]), min_size=MIN_SECRET, max_size=40).filter(
    lambda text: len(text.strip()) >= MIN_SECRET
)
few = settings(max_examples=40)
ENCODINGS = {
    "as it is": lambda raw: raw.decode(),
    "base64": lambda raw: base64.b64encode(raw).decode(),
    "base64 for addresses": lambda raw: base64.urlsafe_b64encode(raw).decode(),
    "base64 without padding": lambda raw: base64.b64encode(raw).decode().rstrip("="),
    "hexadecimal": lambda raw: raw.hex(),
    "HEXADECIMAL": lambda raw: raw.hex().upper(),
    "quoted": lambda raw: quote(raw),
    "quoted whole": lambda raw: "".join(f"%{byte:02x}" for byte in raw),
    "a form": lambda raw: quote_plus(raw),
    "JSON": lambda raw: json.dumps(raw.decode())[1:-1],
    "JSON in letters": lambda raw: json.dumps(raw.decode(), ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda raw: json.dumps(json.dumps(raw.decode()))[3:-3],
    "repr": lambda raw: repr(raw.decode())[1:-1],
    "repr of bytes": lambda raw: repr(raw)[2:-1],
    "HTML": lambda raw: html.escape(raw.decode()),
}


@pytest.mark.parametrize("how", ENCODINGS)
@few
@given(values)
def test_a_value_does_not_come_through(how: str, value: str) -> None:
    encoded = ENCODINGS[how](value.encode())
    text = f"before {encoded} after"
    assert encoded in text  # the control: it would have come through
    cleaned = Redactor([("KEY", value.encode())]).text(text)
    assert "[secret KEY]" in cleaned
    assert encoded not in cleaned.replace("[secret KEY]", "")  # one may be the word "secret"


@given(st.binary(min_size=10, max_size=60), st.binary(max_size=7), st.binary(max_size=7))
def test_base64_of_what_it_stands_in_does_not_tell_it(value: bytes, before: bytes, after: bytes) -> None:
    cleaned = Redactor([("KEY", value)]).text(base64.b64encode(before + value + after).decode())
    assert "[secret KEY]" in cleaned


@given(st.binary(min_size=MIN_SECRET, max_size=40), st.binary(max_size=20), st.binary(max_size=20))
def test_bytes_are_cleaned_and_others_left_as_they_are(value: bytes, before: bytes, after: bytes) -> None:
    redactor = Redactor([("KEY", value)])
    assert b"[secret KEY]" in redactor.bytes(before + value + after)
    for other in (before, after):
        assert redactor.bytes(other) == other or value in other


@given(st.text(max_size=200))
def test_text_without_a_value_stays_as_it_is(text: str) -> None:
    assert REDACTOR.text(text) == text
    assert Redactor([]).text(text) == text


@few
@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.sampled_from(sorted(ENCODINGS)))
def test_a_value_across_pieces_does_not_come_through(cuts: list[int], how: str) -> None:
    encoded = ENCODINGS[how](RAW)
    whole = f"{'x' * 30}{encoded}{'y' * 30}{encoded}"
    pieces, place = [], 0
    for cut in cuts:
        pieces.append(whole[place : place + cut])
        place += cut
    pieces.append(whole[place:])
    cleaned = "".join(REDACTOR.stream(pieces))
    assert encoded not in cleaned
    assert cleaned == f"{'x' * 30}[secret KEY]{'y' * 30}[secret KEY]"


@few
@given(
    # where a value goes on with a dot, one of the cut's is taken for its own
    values.filter(lambda value: len(value) > 12 and not {value[11], value[-12]} & set(".…")),
    st.sampled_from(["…", "..."]),
)
def test_what_is_left_of_a_value_that_was_cut_does_not_come_through(value: str, cut: str) -> None:
    redactor = Redactor([("KEY", value.encode())])
    assert redactor.text(f"= '{value[:11]}{cut}") == f"= '[secret KEY]{cut}"
    assert redactor.text(f"{cut}{value[-11:]}'") == f"{cut}[secret KEY]'"


@pytest.mark.parametrize("cut", ["…", "..."])
def test_what_is_left_of_a_value_is_known_by_the_cut_in_the_piece_before(cut: str) -> None:
    rest = "battery staple"
    redactor = Redactor([("KEY", b"correct horse battery staple")])
    text = f"{'-' * 400}{cut}{rest}{'-' * 400}"
    assert redactor.text(text) == f"{'-' * 400}{cut}[secret KEY]{'-' * 400}"
    for place in range(len(text)):
        assert "".join(redactor.stream([text[:place], text[place:]])) == redactor.text(text)
    many = f"{cut}{rest}" * 100
    assert "".join(redactor.stream(many)) == f"{cut}[secret KEY]" * 100
    assert redactor.cut(many)[0]  # and not all of it waits


def test_many_bytes_are_cleaned_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\xff".join([VALUE.encode(), quote(VALUE).encode(), b"-" * 50] * 5)
    whole = REDACTOR.bytes(data)
    assert whole.count(b"[secret KEY]") == 10
    for size in (1, 7, 100):
        monkeypatch.setattr("kernel_runtime.domain.redaction.PIECE", size)
        assert REDACTOR.bytes(data) == whole


def test_a_reprs_middle_is_left_out_and_its_ends_do_not_come_through() -> None:
    value = "".join(chr(97 + number % 26) for number in range(200))
    redactor = Redactor([("KEY", value.encode())])
    shortener = reprlib.Repr()
    shortener.maxstring = 60
    short = shortener.repr(value)
    assert value[:20] in short  # the control
    assert redactor.text(f"x = {short}") == "x = '[secret KEY]...[secret KEY]'"
    assert redactor.text("abcdefgh... and abcdefghijkl") == "abcdefgh... and abcdefghijkl"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@few
@given(value=values)
def test_bytes_of_wide_text_are_cleaned(value: str, codec: str) -> None:
    redactor = Redactor([("KEY", value.encode())])
    assert redactor.bytes(b"before" + value.encode(codec) + b"after") == b"before[secret KEY]after"


def test_mixed_escapes_of_every_character() -> None:
    chance = random.Random(7)
    ways = [
        quote,
        lambda c: "".join(f"%{b:02X}" for b in c.encode()),
        lambda c: json.dumps(c)[1:-1],
        lambda c: f"&#{ord(c)};",
    ]
    for _ in range(200):
        text = "".join(chance.choice(ways)(c) for c in VALUE)
        assert REDACTOR.text(f"<{text}>") == "<[secret KEY]>"


def test_the_longer_of_two_values_is_named() -> None:
    redactor = Redactor([("SHORT", b"password"), ("LONG", b"password-and-more")])
    assert redactor.text("password-and-more, password") == "[secret LONG], [secret SHORT]"


@few
@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=20),
    st.lists(st.integers(0, 700), min_size=1, max_size=5),
)
def test_what_is_given_out_early_cuts_no_value(cuts: list[int], gaps: list[int]) -> None:
    """Texts much longer than what is held back."""
    whole = "".join(f"{'x' * gap}{VALUE}" for gap in gaps) + "x" * 1000
    wanted = "".join(f"{'x' * gap}[secret KEY]" for gap in gaps) + "x" * 1000
    ends = [sum(cuts[:number]) for number in range(len(cuts) + 1)]
    pieces = [whole[a:b] for a, b in itertools.pairwise(ends)] + [whole[ends[-1] :]]
    given_out = list(REDACTOR.stream(pieces))
    assert "".join(given_out) == wanted
    assert sum(map(len, list(REDACTOR.stream([*pieces, "y" * 500]))[:-1])) > 0


def test_a_value_that_begins_like_another_is_held_back_until_it_is_clear() -> None:
    redactor = Redactor([("SHORT", b"password"), ("LONG", b"password-and-more")])
    assert (
        "".join(redactor.stream("a password-and-more b password c")) == "a [secret LONG] b [secret SHORT] c"
    )


def test_values_that_overlap_leave_nothing_of_each_other() -> None:
    redactor = Redactor([("ONE", b"abcdef-123"), ("TWO", b"123-ghijkl")])
    assert redactor.text("<abcdef-123-ghijkl>") in ("<[secret ONE]>", "<[secret TWO]>")


def test_what_is_too_short_to_be_told_from_text_is_left() -> None:
    assert Redactor([("PIN", b"1234")]).text("1234") == "1234"


def test_what_it_does_not_find_is_what_it_says() -> None:
    """The limits of the docstring, held so that they are changed together."""
    assert REDACTOR.text(VALUE[::-1]) == VALUE[::-1]
    assert REDACTOR.text(" ".join(VALUE)) == " ".join(VALUE)
