"""The difference between two frozen states: asked from both, step by step, compared here.

All of it has an end: ``LOOK_SECONDS`` and one answer more. Who does not answer is lost, and named (``frozen``).
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kernel_runtime.domain.difference import LOOKED_INTO, compare
from kernel_runtime.domain.errors import Conflict, ProtocolViolation
from kernel_runtime.domain.search import Search
from kernel_runtime.domain.variables import MAX_PARTS, Part, Parts, Span, Variables

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from kernel_runtime.domain.difference import Change, Difference, Place
    from kernel_runtime.workers.frozen import Frozen

Told = TypeVar("Told")
#: Both are asked so often at most; each time at least one level of each variable is done with.
_ROUNDS = 48
#: How long after its beginning they are still asked more.
LOOK_SECONDS = 30.0


async def difference(a: str, first: Frozen, b: str, second: Frozen) -> Difference:
    """Between the state ``first``, called ``a``, and ``second``, called ``b``."""
    until = monotonic() + LOOK_SECONDS
    before, after = await _both(first.read("variables", Variables), second.read("variables", Variables))
    found = compare(before, after, a=a, b=b)
    searches = [Search(change) for change in found.changes[:LOOKED_INTO]]
    try:
        await _look_into(searches, first, second, until)
    except Conflict:
        pass  # too slow to be looked into: what differs is known all the same
    places = {id(search.change): search.places for search in searches}
    return msgspec.structs.replace(found, changes=[_with_places(change, places) for change in found.changes])


async def _both(first: Coroutine[Any, Any, Told], second: Coroutine[Any, Any, Told]) -> tuple[Told, Told]:
    """What both tell. Where one does not, the other stops, too."""
    tasks = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
    try:
        one, other = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return one, other


def _with_places(change: Change, found: dict[int, list[Place]]) -> Change:
    return msgspec.structs.replace(change, places=found.get(id(change), []))


async def _look_into(searches: list[Search], first: Frozen, second: Frozen, until: float) -> None:
    for _ in range(_ROUNDS):
        open_ones = [search for search in searches if search.looks]
        if not open_ones or monotonic() > until:
            return
        looks = [search.looks[0] for search in open_ones]
        old, new = await _both(
            _parts(first, [look.before for look in looks]), _parts(second, [look.after for look in looks])
        )
        for search, before, after in zip(open_ones, old, new, strict=True):
            search.learn(before, after)


async def _parts(frozen: Frozen, spans: Sequence[Span]) -> list[Parts]:
    answers = await frozen.read("parts", list[Parts], spans)
    if len(answers) != len(spans) or any(not _fits(*pair) for pair in zip(spans, answers, strict=False)):
        raise ProtocolViolation(f"{frozen.title} told of other places than it was asked for")
    return answers


def _fits(span: Span, parts: list[Part]) -> bool:
    inside = all(span.start <= part.start < part.stop <= span.stop for part in parts)
    return inside and len(parts) <= MAX_PARTS
