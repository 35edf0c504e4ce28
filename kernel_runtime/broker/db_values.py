"""Values of PostgreSQL's that hold others, counted before any of those is made: ``{1,1,1`` takes two bytes a value on
its way, and a hundred as decimals."""

from __future__ import annotations

import functools
from typing import Any

from kernel_runtime.domain.errors import Invalid

#: Within one value of a row.
MOST_VALUES = 500_000
_JSON = ("json", "jsonb")


def bound(connection: Any, psycopg: Any) -> None:
    """From now on this connection makes no value of more than so many."""
    for oid, loader in _loaders(psycopg):
        connection.adapters.register_loader(oid, loader)


@functools.cache
def _loaders(psycopg: Any) -> list[tuple[int, Any]]:
    """Of arrays, JSON and sets of ranges: psycopg's own, with a look at the text before."""
    types = psycopg.adapters.types
    marks: dict[int, tuple[bytes, ...]] = {
        info.array_oid: (info.delimiter.encode(),) for info in types if info.array_oid
    }
    marks |= {types[name].oid: (b",", b":", b"[", b"{") for name in _JSON}
    marks |= {info.oid: (b",",) for info in types if info.name.endswith("multirange")}
    found = (
        (oid, psycopg.adapters.get_loader(oid, psycopg.pq.Format.TEXT), seen) for oid, seen in marks.items()
    )
    return [
        (oid, _bounded(psycopg.adapt.Loader, loader, seen))
        for oid, loader, seen in found
        if loader is not None
    ]


def _bounded(root: Any, loader: Any, marks: tuple[bytes, ...]) -> Any:
    class Bounded(root):  # type: ignore[misc]  # psycopg's, where there is one
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._loader = loader(oid, context)

        def load(self, data: Any) -> Any:
            text = bytes(data)
            if sum(map(text.count, marks)) >= MOST_VALUES:
                raise Invalid(
                    f"sql: more than {MOST_VALUES} values in one: ask for a part of it, or for its text"
                )
            try:
                return self._loader.load(text)
            except RecursionError:
                raise Invalid("sql: a value that is nested too deep: ask for its text") from None

    return Bounded
