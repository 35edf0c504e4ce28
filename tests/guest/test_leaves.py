"""Values as digests and places, in one process: equal values have equal ones, others do not."""

from __future__ import annotations

import collections
import copy
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kernel_runtime.guest.digests import digest
from kernel_runtime.guest.leaves import leaves_of
from kernel_runtime.guest.texts import short


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x: int) -> None:
        self.x = x


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def cyclic(x: int) -> list[Any]:
    found: list[Any] = [x]
    found.append(found)
    return found


PAIRS: dict[str, tuple[Any, Any]] = {
    "int": (1, 2),
    "int and bool": (1, True),
    "float": (0.1, 0.2),
    "text": ("a", "b"),
    "list": ([1, [2]], [1, [3]]),
    "list in list": ([[1], 2], [[1, 2]]),
    "tuple and list": ((1,), [1]),
    "dict value": ({"a": 1}, {"a": 2}),
    "dict key": ({"a": 1}, {"b": 1}),
    "set": ({1, 2, "x"}, {1, 3, "x"}),
    "array": (np.arange(3.0), np.array([0, 1, 2.5])),
    "array type": (np.arange(3), np.arange(3.0)),
    "array shape": (np.zeros((2, 3)), np.zeros((3, 2))),
    "array of nothing": (np.zeros((0, 3)), np.zeros((3, 0))),
    "object array": (np.array([[1], "a"], dtype=object), np.array([[2], "a"], dtype=object)),
    "scalar": (np.float64(1), np.float64(2)),
    "frame": (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]})),
    "frame column": (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
    "frame index": (pd.DataFrame({"a": [1]}, index=[1]), pd.DataFrame({"a": [1]}, index=[2])),
    "frame of lists": (pd.DataFrame({"a": [[1], [2]]}), pd.DataFrame({"a": [[1], [3]]})),
    "frame of text": (pd.DataFrame({"a": ["x", None]}), pd.DataFrame({"a": ["y", None]})),
    "series": (pd.Series([1.0, np.nan]), pd.Series([np.nan, 1.0])),
    "index": (pd.Index([1, 2]), pd.Index([1, 3])),
    "instance": (Point(1), Point(2)),
    "slots": (Slotted(1), Slotted(2)),
    "cyclic": (cyclic(1), cyclic(2)),
    "counter": (collections.Counter("aab"), collections.Counter("abb")),
    "pattern": (re.compile("a"), re.compile("b")),
    "function": (lambda: 1, lambda: 2),
}


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS.keys())
def test_equal_values_have_equal_digests_and_others_do_not(one: Any, other: Any):
    assert digest(copy.deepcopy(one)) == digest(one)
    assert digest(one) != digest(other)


def test_addresses_count_for_nothing_and_rude_objects_do_not_raise():
    assert digest(object()) == digest(object())
    assert digest(Rude()) == digest(Rude())
    assert short(Rude()).startswith("<Rude instance")
    assert len(short("x\n" * 1000)) <= 120


@pytest.mark.parametrize(
    ("value", "labels", "texts"),
    [
        ([5, "a"], ["[0]", "[1]"], ["5", "'a'"]),
        ({"b": 1, "a": 2}, ["['a']", "['b']"], ["2", "1"]),
        ({2, 1}, [" ∋ 1", " ∋ 2"], ["1", "2"]),
        ("one\ntwo", [" line 1", " line 2"], ["'one'", "'two'"]),
        (np.array([[1, 2], [3, 4]]), ["[0, 0]", "[0, 1]", "[1, 0]", "[1, 1]"], ["1", "2", "3", "4"]),
        (pd.Series([1.5], index=["k"]), [".index[0]", "['k']"], ["'k'", "1.5"]),
        (
            pd.DataFrame({"a": [1], "b": ["x"]}, index=[7]),
            [".index[0]", "['a'][7]", "['b'][7]"],
            ["7", "1", "'x'"],
        ),
        (Point(3), [".x"], ["3"]),
        (7, [], []),
        (np.float64(7), [], []),
        (pd.DataFrame(), [], []),
    ],
)
def test_places_are_named_as_code_names_them(value: Any, labels: list[str], texts: list[str]):
    leaves = leaves_of(value)
    assert [leaves.label(place) for place in range(leaves.count)] == labels
    assert [leaves.text(place) for place in range(leaves.count)] == texts


@pytest.mark.parametrize("name", ["list", "array", "frame", "frame of lists", "series", "object array"])
def test_a_range_differs_where_its_values_do(name: str):
    one, other = (leaves_of(value) for value in PAIRS[name])
    differing = [p for p in range(one.count) if one.digest(p, p + 1) != other.digest(p, p + 1)]
    assert differing
    assert one.digest(0, differing[0]) == other.digest(0, differing[0])
    assert one.digest(0, one.count) != other.digest(0, other.count)
