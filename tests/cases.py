"""Cases of one test, of which some are left to ``make slow``: more of the same way through the house."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from _pytest.mark import ParameterSet

Case = TypeVar("Case")


def each(named: Mapping[str, Case], slow: Callable[[str], bool]) -> list[ParameterSet]:
    """One parameter for each case; ``slow``: whether one is, by its name."""
    return [
        pytest.param(case, id=name, marks=[pytest.mark.slow] if slow(name) else [])
        for name, case in named.items()
    ]
