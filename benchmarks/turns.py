"""A B A B …: rounds in which the subjects take turns, each first in every other round."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")


def turns(rounds: int, subjects: Sequence[T]) -> Iterator[T]:
    """Each subject once in each round."""
    for number in range(rounds):
        yield from subjects if number % 2 == 0 else reversed(subjects)
