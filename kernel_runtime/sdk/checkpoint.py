"""How to save what pickle cannot: functions that the app or the notebook registers.

``register(Connection, save=lambda c: c.dsn, rebuild=Connection)`` for every value of a type,
``register("db", …)`` for one variable. ``save(value)`` returns what can be pickled, and
``rebuild(saved)`` makes the value of it in the restored branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Recipe:
    """How values of a type, or a variable, are saved and made anew."""

    save: Callable[[Any], Any]
    rebuild: Callable[[Any], Any]


#: By type or by the variable's name; checkpoints carry it along.
recipes: dict[type | str, Recipe] = {}


def register(what: type | str, save: Callable[[Any], Any], rebuild: Callable[[Any], Any]) -> None:
    """Save values of the type (or the variable) ``what`` by ``save``, restore them by ``rebuild``."""
    if not all((isinstance(what, type | str), callable(save), callable(rebuild))):
        raise TypeError("register a type or a variable's name, and two functions of one argument")
    recipes[what] = Recipe(save, rebuild)


def forget(what: type | str) -> None:
    """Undo ``register``."""
    recipes.pop(what, None)
