"""Variables as a guest lists its own: names, types, sizes, digests; each bounded, none trusted."""

from __future__ import annotations

from typing import Annotated

import msgspec

#: Most variables of one listing, parts of one answer, characters of a name and of a text.
MAX_VARIABLES, MAX_PARTS, MAX_NAME, MAX_TEXT = 2000, 256, 120, 120
#: Most details of one variable, and others whose objects it holds.
MAX_DETAILS, MAX_SHARES = 40, 8

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
Digest = Annotated[str, msgspec.Meta(max_length=32, pattern="^[0-9a-f]*$")]
Amount = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Variable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One variable. ``shape``: of arrays and tables, or how many items; ``size``: bytes; ``digest``
    over the value; ``leaves``: of how many places it consists, ``keyed`` if these have names and no order,
    ``lines`` if they are lines of text. ``details``: of what its type is made (columns, a name), as code
    writes it; ``unread``: what of it the digest does not cover; ``shares``: variables whose very objects it
    is or holds.
    """

    name: Name
    type: Text
    shape: Text = ""
    size: Amount = 0
    digest: Digest = ""
    preview: Text = ""
    leaves: Amount = 0
    keyed: bool = False
    lines: bool = False
    details: Annotated[dict[Text, Text], msgspec.Meta(max_length=MAX_DETAILS)] = {}
    unread: Text = ""
    shares: Annotated[list[Name], msgspec.Meta(max_length=MAX_SHARES)] = []


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The places ``start`` to ``stop`` of a variable and the digest over them; one alone has a label
    (how it is written in code, after the variable's name), a text and a type, and may have places itself, as a
    ``Variable`` does."""

    start: Amount
    stop: Amount
    digest: Digest
    label: Text = ""
    text: Text = ""
    type: Text = ""
    leaves: Amount = 0
    keyed: bool = False
    lines: bool = False


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for: the places ``start`` to ``stop`` of a variable, in parts of ``step``; or of what stands in it
    at ``path``: a place of it, a place of that, and so on."""

    name: str
    start: int
    stop: int
    step: int
    path: tuple[int, ...] = ()


Variables = Annotated[list[Variable], msgspec.Meta(max_length=MAX_VARIABLES)]
Parts = Annotated[list[Part], msgspec.Meta(max_length=MAX_PARTS)]


def step_for(places: int) -> int:
    """In parts of how many places so many are looked at: 1, 256, 65536, …; the same for similar
    counts, so that what only grew is compared part by part."""
    step = 1
    while places > step * MAX_PARTS:
        step *= MAX_PARTS
    return step
