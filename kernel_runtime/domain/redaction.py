"""Redaction: the values of secrets taken out of texts and bytes, also where they were encoded.

Found are the value itself, its base64 (plain and URL-safe, also inside a longer text that was
encoded as a whole), its hexadecimal digits, any mixture of percent, JSON, Python and HTML escapes, and what
is left of it where its middle or its end was left out (``…``); in bytes also the value in UTF-16 and UTF-32.
Not found: what was compressed, encrypted, reversed, cut up or spelled out. It is a net, not a wall.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: Shorter values would be found in ordinary text.
MIN_SECRET = 6
#: Characters that are searched at a time: no other thread runs meanwhile.
PIECE = 1 << 18
#: A piece of base64 that is certain whatever stood around it; shorter ones turn up by chance.
_MIN_PIECE = 10
#: What stands where a part of a text was left out.
_CUTS = ("…", "...")
_ESCAPES = frozenset("%\\&")


class Span(NamedTuple):
    """Where a value, or a form of it, stands in a text."""

    start: int
    end: int
    name: str


class Redactor:
    """Compiled from (name, value) pairs once; a pure function of texts after that."""

    def __init__(self, secrets: Iterable[tuple[str, bytes]]) -> None:
        pairs = sorted({(name, value) for name, value in secrets if len(value) >= MIN_SECRET})
        raw = ((form, name) for name, value in pairs for form in _raw_forms(value))
        self._raw = sorted(raw, key=lambda pair: -len(pair[0]))
        self._plain = sorted({(form, name) for name, value in pairs for form in _forms(value)})
        self._escaped = [
            (_longest_word(value), re.compile(_escaped(value), re.DOTALL), name) for name, value in pairs
        ]
        texts = ((value.decode("utf-8", "surrogateescape"), name) for name, value in pairs)
        self._long = [(text, name) for text, name in texts if len(text) > _MIN_PIECE]
        self._marks = _ESCAPES | ({"+"} if any(b" " in value for _, value in pairs) else set())
        #: No value, however it is encoded, takes more characters.
        self.longest = max((len(value) for _, value in pairs), default=0) * _WIDEST

    def text(self, text: str) -> str:
        """The text without the values."""
        return _without(text, self._spans(text))

    def bytes(self, data: bytes) -> bytes:
        """The bytes without the values. Other bytes stay as they are, text or not."""
        for value, name in self._raw:  # its first and last bytes may be parts of other characters
            data = data.replace(value, f"[secret {name}]".encode())
        text = data.decode("utf-8", "surrogateescape")
        pieces = (text[place : place + PIECE] for place in range(0, len(text), PIECE))
        cleaned = self.text(text) if len(text) <= PIECE else "".join(self.stream(pieces))
        return data if cleaned == text else cleaned.encode("utf-8", "surrogateescape")

    def stream(self, pieces: Iterable[str]) -> Iterator[str]:
        """The pieces of one text without the values, also those that lie across pieces.

        What might be the beginning of a value is held back until more has come, or all.
        """
        held = ""
        for piece in pieces:
            ready, held = self.cut(held + piece)
            if ready:
                yield ready
        if held:
            yield self.text(held)

    def cut(self, text: str) -> tuple[str, str]:
        """The beginning without the values, and as it is the end, where one might begin."""
        parts, held = [], ""
        for place in range(0, len(text), PIECE):  # between pieces other threads run
            ready, held = self._cut_piece(held + text[place : place + PIECE])
            parts.append(ready)
        return "".join(parts), held

    def _cut_piece(self, text: str) -> tuple[str, str]:
        spans = self._spans(text)
        ready = len(text) - self.longest
        for span in reversed(spans):
            start = span.start - _mark_before(text, span.start)
            if start < ready < span.end:
                ready = start
        if ready <= 0:
            return "", text
        return _without(text[:ready], [span for span in spans if span.end <= ready]), text[ready:]

    def _spans(self, text: str) -> list[Span]:
        """Where values stand, in order; those that overlap are one, named for the longest."""
        found = [span for form, name in self._plain if form in text for span in _places(text, form, name)]
        if any(cut in text for cut in _CUTS):
            found += [span for value, name in self._long for span in _rests(text, value, name)]
        if self._escaped and not self._marks.isdisjoint(text):
            spelled = _SPELLED.search(text) is not None
            for word, pattern, name in self._escaped:
                if spelled or word in text:
                    found += [Span(match.start(), match.end(), name) for match in pattern.finditer(text)]
        merged: list[Span] = []
        for span in sorted(found):
            if merged and span.start < merged[-1].end:
                last = merged[-1]
                name = max(span, last, key=lambda one: one.end - one.start).name
                merged[-1] = Span(last.start, max(last.end, span.end), name)
            else:
                merged.append(span)
        return merged


def _rests(text: str, value: str, name: str) -> Iterator[Span]:
    """The beginning of a value before what stands for a part left out, and the end of one behind it."""
    for place in _found(text, value[:_MIN_PIECE]):
        end = place + _shared(value, text[place : place + len(value)])
        if text.startswith(_CUTS, end):
            yield Span(place, end, name)
    for place in _found(text, value[-_MIN_PIECE:]):
        end = place + _MIN_PIECE
        before = text[max(0, end - len(value)) : end]
        start = end - _shared(value[::-1], before[::-1])
        if text.endswith(_CUTS, 0, start):
            yield Span(start, end, name)


def _mark_before(text: str, place: int) -> int:
    """Characters of what stands there for a part left out: by it the end of a value is known."""
    return next((len(cut) for cut in _CUTS if text.endswith(cut, 0, place)), 0)


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _places(text: str, form: str, name: str) -> Iterator[Span]:
    return (Span(start, start + len(form), name) for start in _found(text, form))


def _found(text: str, form: str) -> Iterator[int]:
    start = text.find(form)
    while start >= 0:
        yield start
        start = text.find(form, start + 1)


def _without(text: str, spans: list[Span]) -> str:
    parts, done = [], 0
    for span in spans:
        parts += [text[done : span.start], f"[secret {span.name}]"]
        done = span.end
    return "".join([*parts, text[done:]]) if spans else text


def _forms(value: bytes) -> set[str]:
    """What is looked for as it is."""
    text = value.decode("utf-8", "surrogateescape")
    hexadecimal = value.hex()
    forms = {text, text.strip(), hexadecimal, hexadecimal.upper()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(value).decode("ascii")
        forms |= {whole, whole.rstrip("=")}
        forms |= set(_pieces(value, encode))
    return {form for form in forms if len(form) >= MIN_SECRET}


def _raw_forms(value: bytes) -> set[bytes]:
    """What is looked for in bytes: also as arrays and other programs hold text, two or four bytes a character."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {value}
    return {value, *(text.encode(f"utf-{width}-{order}") for width in (16, 32) for order in ("le", "be"))}


def _pieces(value: bytes, encode: Callable[[bytes], bytes]) -> Iterator[str]:
    """The part of the value's base64 that is the same whatever stands before and after it."""
    for before in range(3):
        encoded = encode(bytes(before) + value)
        first = (before * 8 + 5) // 6
        last = (before + len(value)) * 8 // 6
        piece = encoded[first:last].decode("ascii")
        if len(piece) >= _MIN_PIECE:
            yield piece


#: A letter or digit that was escaped though it need not be. Where there is none, every word of a
#: value stands as it is, and a text without that word needs no closer look.
_SPELLED = re.compile(
    r"(?:%|\\x|\\u00|\\U000000)(?:3[0-9]|[46][1-9a-fA-F]|[57][0-9aA])"
    r"|&#0{0,3}(?:4[89]|5[0-7]|6[5-9]|[78][0-9]|90|9[7-9]|1[01][0-9]|12[0-2]);"
    r"|&#[xX]0{0,3}(?:3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]);"
)
_WORD = re.compile(rb"[A-Za-z0-9]+")


def _longest_word(value: bytes) -> str:
    """Of letters and digits, which most ways of escaping leave alone; empty when there is none."""
    return max(_WORD.findall(value), key=len, default=b"").decode("ascii")


#: Characters that one byte may take in an escaped form (``&#x00022;``).
_WIDEST = 10
_NAMED = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
_LETTERS = {"\n": "n", "\t": "t", "\r": "r", "\b": "b", "\f": "f"}


def _escaped(value: bytes) -> str:
    """An expression for the value with every character as it is, or escaped in one of the ways."""
    return "".join(_character(c) for c in value.decode("utf-8", "surrogateescape"))


def _character(character: str) -> str:
    code = ord(character)
    raw = character.encode("utf-8", "surrogateescape")
    ways = [re.escape(character), "".join(rf"%{_digits(byte, 2)}" for byte in raw)]
    ways += [r"\\{1,3}" + way for way in _after_backslash(character, raw)]
    ways += [rf"&#0{{0,3}}{code};", rf"&#[xX]0{{0,3}}{_digits(code, 1)};"]
    if character == " ":
        ways.append(r"\+")
    if character in _NAMED:
        ways.append(f"&{_NAMED[character]};")
    return f"(?:{'|'.join(ways)})"


def _after_backslash(character: str, raw: bytes) -> list[str]:
    """What follows a backslash in JSON and in Python's repr."""
    code = ord(character)
    units = character.encode("utf-16-be", "surrogatepass")
    pairs = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    ways = [r"\\{1,3}".join(f"u{_digits(pair, 4)}" for pair in pairs)]
    ways.append(r"\\{1,3}".join(f"x{_digits(byte, 2)}" for byte in raw))
    if code < 256:
        ways.append(f"x{_digits(code, 2)}")
    ways.append(f"U{_digits(code, 8)}")
    if character in _LETTERS:
        ways.append(_LETTERS[character])
    elif not character.isalnum():
        ways.append(re.escape(character))
    return ways


def _digits(number: int, width: int) -> str:
    """Hexadecimal digits in either case."""
    return "".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in f"{number:0{width}x}")
