"""Which scopes hold which others, and an index that finds them without looking at each.

A wildcard of hosts stands for whole labels and never for this machine or network: those are
granted by name. One in a path stays within its segment; ``/**`` at the end is everything below.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from kernel_runtime.domain.hosts import is_public_name
from kernel_runtime.domain.scopes import Kind, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_USUAL_PORTS = ("80", "443")


class Scoped(Protocol):
    """What can be indexed: it has a scope, and a text by which ties are broken."""

    @property
    def scope(self) -> Scope: ...
    @property
    def identity(self) -> str: ...


S = TypeVar("S", bound=Scoped)


def covers(wide: Scope, narrow: Scope) -> bool:
    """Whether all that ``narrow`` means is meant by ``wide``; ``False`` when in doubt."""
    if wide.kind is not narrow.kind:
        return False
    if wide.action not in ("*", narrow.action):
        return False
    if wide.kind is Kind.NET:
        return _port_covers(wide.port, narrow.port) and _host_covers(wide.target, narrow.target)
    if wide.target == narrow.target:
        return True
    if wide.kind is Kind.FILES:
        return _path_covers(wide.target.split("/"), narrow.target.split("/"))
    return _name_covers(wide.target, narrow.target)


def overlaps(one: Scope, other: Scope) -> bool:
    """Whether something may be meant by both; ``True`` when in doubt."""
    if one.kind is not other.kind:
        return False
    if "*" not in (one.action, other.action) and one.action != other.action:
        return False
    if one.kind is Kind.NET:
        ports = _port_covers(one.port, other.port) or _port_covers(other.port, one.port)
        hosts = _host_covers(one.target, other.target) or _host_covers(other.target, one.target)
        return ports and hosts
    if one.kind is Kind.FILES:
        return _paths_overlap(one.target.split("/"), other.target.split("/"))
    return _names_overlap(one.target, other.target)


def _port_covers(wide: str, narrow: str) -> bool:
    return wide in ("*", narrow) or (wide == "" and narrow in _USUAL_PORTS)


def _host_covers(wide: str, narrow: str) -> bool:
    if wide == narrow:
        return True
    if wide == "*":
        return is_public_name(narrow)
    return wide.startswith("*.") and narrow.endswith(wide[1:])


def _path_covers(wide: list[str], narrow: list[str]) -> bool:
    for place, part in enumerate(wide):
        if part == "**":
            return True
        if place >= len(narrow) or narrow[place] == "**" or not _name_covers(part, narrow[place]):
            return False
    return len(wide) == len(narrow)


def _name_covers(wide: str, narrow: str) -> bool:
    if wide in (narrow, "*"):
        return True
    if "*" not in narrow:
        return glob(wide).fullmatch(narrow) is not None
    return wide.endswith("*") and wide.count("*") == 1 and narrow.startswith(wide[:-1])


def _paths_overlap(one: list[str], other: list[str]) -> bool:
    for mine, theirs in zip(one, other, strict=False):
        if "**" in (mine, theirs):
            return True
        if not _names_overlap(mine, theirs):
            return False
    shorter, longer = sorted((one, other), key=len)
    return len(one) == len(other) or longer[len(shorter)] == "**"


def _names_overlap(one: str, other: str) -> bool:
    if "*" in one and "*" in other:
        mine, theirs = one.partition("*")[0], other.partition("*")[0]
        return mine.startswith(theirs) or theirs.startswith(mine)
    return _name_covers(one, other) or _name_covers(other, one)


@functools.lru_cache(maxsize=4096)
def glob(pattern: str) -> re.Pattern[str]:
    """``*`` stands for anything, as a compiled expression."""
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


class Index(Generic[S]):
    """Scoped things, found by what a request asks; always in one order, whatever order they came in.

    Each lies in the bucket of what its target begins with before the first wildcard. A request looks
    into one bucket for each length of such beginnings, so that the number of things hardly counts.
    """

    def __init__(self, items: Iterable[S]) -> None:
        self.items = tuple(sorted(items, key=lambda item: (item.scope, item.identity)))
        self._buckets: dict[str, dict[str, list[tuple[int, S]]]] = {}
        for rank, item in enumerate(self.items):
            kind = self._buckets.setdefault(item.scope.kind.value, {})
            kind.setdefault(_literal_start(item.scope), []).append((rank, item))
        self._lengths = {
            kind: sorted({len(start) for start in found}) for kind, found in self._buckets.items()
        }

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[S]:
        return iter(self.items)

    def covering(self, scope: Scope) -> list[S]:
        """The things whose scope covers ``scope``, in the index's order."""
        kind = scope.kind.value
        buckets = self._buckets.get(kind)
        if buckets is None:
            return []
        key = _key(scope)
        found: list[tuple[int, S]] = []
        for length in self._lengths[kind]:
            if length > len(key):
                break
            bucket = buckets.get(key[:length])
            if bucket is not None:
                found += [pair for pair in bucket if covers(pair[1].scope, scope)]
        if len(found) > 1:
            found.sort(key=_rank)
        return [item for _, item in found]


def _rank(pair: tuple[int, object]) -> int:
    return pair[0]


def _key(scope: Scope) -> str:
    """The target so that wildcards come last: hosts from right to left."""
    return scope.target[::-1] if scope.kind is Kind.NET else scope.target


def _literal_start(scope: Scope) -> str:
    """What the key of all covered scopes begins with. ``/data/**`` covers ``/data``, too."""
    start = _key(scope).partition("*")[0]
    if scope.kind is Kind.FILES and scope.target.endswith("/**"):
        return start.removesuffix("/")
    return start
