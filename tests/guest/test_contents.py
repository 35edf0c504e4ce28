"""What no attribute shows: it is compared where its type has means of being copied, else it is said that it is not."""

from __future__ import annotations

import array
import asyncio
import collections
import contextvars
import enum
import functools
import hashlib
import io
import itertools
import linecache
import logging
import pathlib
import queue
import random
import re
import threading
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from kernel_runtime.guest.contents import content_of, has_hidden_state
from kernel_runtime.guest.digests import Folding, digest
from kernel_runtime.guest.leaves import leaves_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Deque(collections.deque[int]):
    pass


class Listed(list[int]):
    note = ""


class Number(int):
    pass


class Private:
    __slots__ = ("__held",)

    def __init__(self) -> None:
        self.__held = 1

    def grow(self) -> None:
        self.__held += 1


def counting() -> Iterator[int]:
    for number in [10, 20, 30]:
        yield number + 1


def looping() -> Iterator[str]:
    """Its place is nowhere but in the iterator of its loop."""
    for _ in ["a", "a", "a"]:
        yield "again"


def advanced(make: Callable[[], Any]) -> Callable[[], Any]:
    def made() -> Any:
        iterator = make()
        next(iterator)
        return iterator

    return made


def set_at(value: Any, place: Any, item: Any) -> None:
    value[place] = item


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "BytesIO": (lambda: io.BytesIO(b"x"), lambda v: v.write(b"y")),
    "BytesIO's place": (lambda: io.BytesIO(b"xy"), lambda v: v.seek(1)),
    "StringIO": (lambda: io.StringIO("x"), lambda v: v.write("y")),
    "closed": (io.StringIO, lambda v: v.close()),
    "Generator": (lambda: np.random.default_rng(1), lambda v: v.random()),
    "Generator's children": (lambda: np.random.default_rng(1), lambda v: v.spawn(1)),
    "RandomState": (lambda: np.random.RandomState(1), lambda v: v.rand()),
    "RandomState's second normal number": (lambda: np.random.RandomState(1), lambda v: v.randn()),
    "bits": (lambda: np.random.PCG64(1), lambda v: v.random_raw()),
    "Random": (lambda: random.Random(1), lambda v: v.random()),
    "array": (lambda: array.array("d", [1, 2]), lambda v: set_at(v, 0, 3)),
    "deque": (lambda: collections.deque([1]), lambda v: v.append(2)),
    "deque of one's own": (lambda: Deque([1]), lambda v: v.append(2)),
    "list with an attribute": (lambda: Listed([1]), lambda v: setattr(v, "note", "b")),
    "defaultdict": (lambda: collections.defaultdict(list), lambda v: setattr(v, "default_factory", dict)),
    "memoryview": (lambda: memoryview(bytearray(b"ab")), lambda v: set_at(v, 0, 1)),
    "masked array": (lambda: np.ma.array([1, 2]), lambda v: set_at(v, 0, np.ma.masked)),
    "object array": (lambda: np.array([*range(3000), "a"], dtype=object), lambda v: set_at(v, 1500, None)),
    "list iterator": (lambda: iter([1, 2]), next),
    "dict iterator": (lambda: iter({1: 2, 3: 4}), next),
    "zip": (lambda: zip([1, 2], [3, 4], strict=True), next),
    "map": (lambda: map(str, [1, 2]), next),
    "count": (lambda: itertools.count(2), next),
    "fresh generator": (counting, next),
    "generator": (advanced(counting), next),
    "generator that ends": (advanced(counting), list),
    "generator with one local": (advanced(looping), next),
    "nested": (lambda: {"held": [io.BytesIO(b"x")]}, lambda v: v["held"][0].write(b"y")),
    "queue": (queue.Queue, lambda v: v.put(1)),
    "lock": (threading.Lock, lambda v: v.acquire()),
    "partial": (lambda: functools.partial(set_at, [1]), lambda v: v.args[0].append(2)),
    "bound method": (lambda: io.BytesIO().write, lambda v: v(b"x")),
    "namespace": (lambda: types.SimpleNamespace(a=1), lambda v: setattr(v, "a", 2)),
    "error": (lambda: ValueError(["x"]), lambda v: v.args[0].append("y")),
    "private slot": (Private, lambda v: v.grow()),
    "series' name": (lambda: pd.Series([1], name="a"), lambda v: setattr(v, "name", "b")),
    "index' name": (lambda: pd.DataFrame({"a": [1]}), lambda v: setattr(v.index, "name", "b")),
    "object column": (lambda: pd.DataFrame({"a": [[1], 2]}), lambda v: v["a"][0].append(2)),
    "note on a frame": (lambda: pd.DataFrame({"a": [1]}), lambda v: v.attrs.update(a=1)),
    "categories": (lambda: [pd.Categorical(["a"])], lambda v: set_at(v, 0, v[0].add_categories("b"))),
}


@pytest.mark.parametrize(("make", "change"), CHANGES.values(), ids=CHANGES.keys())
def test_what_changed_inside_is_seen_and_looking_changes_nothing(make: Any, change: Any):
    value = make()
    folding = Folding()
    before = folding.fold(value)
    assert folding.unread == ""
    assert digest(value) == before
    change(value)
    assert digest(value) != before


class Colour(enum.Enum):
    RED = 1


def closed_file() -> Any:
    with open("/dev/null") as file:
        return file


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Colour.RED,
        Number(3),
        pathlib.Path("a"),
        re.compile("a"),
        re.match("a", "a"),
        closed_file(),
        threading.RLock(),
        asyncio.Queue(),
        len,
        "a".upper,
        np,
        property(len),
        types.MappingProxyType({1: 2}),
        {1: 2}.keys(),
        pd.Timestamp(5),
        pd.Period("2020"),
        pd.DataFrame({"a": [1]}).groupby("a"),
        np.dtype("i4"),
        np.sin,
        functools.lru_cache(len),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_read_as_a_whole_is_not_said_to_be_unread(value: Any):
    folding = Folding()
    folding.fold(value)
    assert folding.unread == ""


def nested(levels: int) -> list[Any]:
    return [] if not levels else [nested(levels - 1)]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: open("/dev/null"), "_io.TextIOWrapper"),  # noqa: SIM115 - it is closed below
        (lambda: [{1: hashlib.sha256()}], "_hashlib.HASH in it"),
        (lambda: {contextvars.ContextVar("x")}, "_contextvars.ContextVar in it"),
        (lambda: nested(40), "deeper than 24 levels"),
    ],
    ids=["file", "hash", "in a set", "deep"],
)
def test_what_cannot_be_read_is_named(make: Any, reason: str):
    folding = Folding()
    folding.fold(value := make())
    if isinstance(value, io.IOBase):
        value.close()
    assert folding.unread == reason


def test_code_of_the_notebook_is_not_asked_how_to_copy_its_objects():
    asked: list[str] = []

    class Copied:
        def __reduce__(self) -> str:
            asked.append("reduce")
            return "x"

        def __getstate__(self) -> dict[str, Any]:
            asked.append("getstate")
            return {}

    class Pretender(Copied):
        __module__ = "builtins"

    for value in (Copied(), Pretender()):
        assert content_of(value) is None
        digest(value)
    assert asked == []


def test_hidden_state_is_what_attributes_do_not_explain():
    class Slots:
        __slots__ = ("__weakref__", "a", "b")

    class Child(Slots):
        __slots__ = ("c", "__dict__")  # noqa: RUF023 - not only sorted ones are understood

    for kind in (object, Private, Slots, Child, queue.Queue, logging.Logger):
        assert not has_hidden_state(kind)
    for kind in (Number, Deque, io.BytesIO, type(hashlib.sha256()), type(iter([]))):
        assert has_hidden_state(kind)


def defined(source: str, name: str) -> Any:
    """As a cell of a notebook defines it."""
    file = f"<cell {abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    namespace = {"__name__": "__main__"}
    exec(compile(source, file, "exec"), namespace)
    return namespace[name]


DEFINITIONS = {
    "body": ("def f(x):\n    return x", "def f(x):\n    return +x", {" line 2": "return +x"}),
    "default": (
        "def f(x=[1]): return x",
        "def f(x=[2]): return x",
        {" line 1": "def f(x=[2]): return x", ".__defaults__": "([2],)"},
    ),
    "annotation of a field": ("class f:\n    x: int", "class f:\n    x: str", None),
    "attribute": ("class f:\n    v = 1", "class f:\n    v = 2", {".v": "2"}),
    "__eq__": (
        "class f:\n    def __eq__(self, x):\n        return True",
        "class f:\n    def __eq__(self, x):\n        return False",
        {".__eq__ line 2": "return False"},
    ),
    "__add__": (
        "class f:\n    def __add__(self, x): return 1",
        "class f:\n    def __add__(self, x): return 2",
        {".__add__ line 1": "def __add__(self, x): return 2"},
    ),
    "property": (
        "class f:\n    @property\n    def p(self): return 1",
        "class f:\n    @property\n    def p(self): return 2",
        {".p line 2": "def p(self): return 2"},
    ),
    "static": (
        "class f:\n    @staticmethod\n    def p(): return 1",
        "class f:\n    @staticmethod\n    def p(): return 2",
        {".p line 2": "def p(): return 2"},
    ),
    "base": ("class f(dict): pass", "class f(list): pass", {".__bases__": "list"}),
    "documentation": ("class f:\n    'a'", "class f:\n    'b'", {".__doc__": "'b'"}),
}


@pytest.mark.parametrize(("one", "other", "places"), DEFINITIONS.values(), ids=DEFINITIONS.keys())
def test_functions_and_classes_go_by_their_definition(one: str, other: str, places: dict[str, str] | None):
    old, new = defined(one, "f"), defined(other, "f")
    assert digest(old) == digest(defined(one + "  # a comment", "f"))
    assert digest(old) != digest(new)
    if places is not None:
        a, b = leaves_of(old), leaves_of(new)
        assert a.lines
        rows = [p for p in range(b.count) if p >= a.count or a.digest(p, p + 1) != b.digest(p, p + 1)]
        assert {b.label(p): b.text(p) for p in rows} == places


def test_what_changes_in_a_function_beside_its_source_has_places():
    function = defined("def make():\n    held = [1]\n    def f(x=held): return held\n    return f", "make")()
    function.note = 1
    leaves = leaves_of(function)
    rows = {leaves.label(place): leaves.text(place) for place in range(leaves.count)}
    assert rows == {
        " line 1": "def f(x=held): return held",
        ".__defaults__": "([1],)",
        ".__dict__": "{'note': 1}",
        " closure held": "[1]",
    }
    before = digest(function)
    function.note = 2
    assert digest(function) != before


def test_a_class_that_a_library_fills_stays_the_same():
    kind = defined("import abc\nclass f(abc.ABC):\n    pass", "f")
    before = digest(kind)
    isinstance(1, kind)
    assert digest(kind) == before


def rows_of(value: Any) -> dict[str, str]:
    leaves = leaves_of(value)
    return {leaves.label(place): leaves.text(place) for place in range(leaves.count)}


def test_places_of_what_has_no_attributes():
    generator = counting()
    next(generator)
    iterator = iter([1, 2])
    next(iterator)
    assert rows_of(iterator) == {" state": "['builtins.iter', [1, 2], 1]"}
    assert rows_of(generator) == {
        " state['line']": str(generator.gi_frame.f_lineno),
        " state['number']": "10",
    }
    assert "state['state']['state']" in " ".join(rows_of(np.random.default_rng(1)))
    assert rows_of(io.BytesIO(bytes(range(17)))) == {"[0:16]": repr(bytes(range(16))), "[16:32]": r"b'\x10'"}
    assert rows_of(io.StringIO("a\nb")) == {" line 1": "'a'", " line 2": "'b'"}
    assert rows_of(collections.deque([5])) == {"[0]": "5"}
    assert rows_of(array.array("i", [5])) == {"[0]": "5"}
    closed = io.BytesIO(b"x")
    closed.close()
    assert rows_of(closed) == {}


def test_places_of_a_long_text_are_pieces_of_it():
    assert rows_of("x" * 80) == {}
    assert rows_of("x" * 80 + "yz") == {"[0:80]": repr("x" * 80), "[80:82]": "'yz'"}
    assert list(rows_of("a\n" + "x" * 81)) == [" line 1", " line 2[0:80]", " line 2[80:81]"]
