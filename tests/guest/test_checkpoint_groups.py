"""Which variables are one group: those that reach the same mutable value, on whatever way."""

from __future__ import annotations

import enum
import gc
import math
from fractions import Fraction
from http import HTTPStatus
from typing import NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.guest import checkpoint_groups as groups
from kernel_runtime.guest.checkpoint_definitions import Definitions
from kernel_runtime.guest.checkpoint_plain import texts_of


class Thing:
    pass


class Color(enum.IntEnum):
    RED = 1


class Row(NamedTuple):
    x: int


_KINDS = ("list", "dict", "thing", "array", "tuple")


@st.composite
def graphs(draw):
    """Kinds of values, whom each holds (a tuple only what was there before it), and the variables."""
    count = draw(st.integers(1, 12))
    kinds = draw(st.lists(st.sampled_from(_KINDS), min_size=count, max_size=count))
    held = [
        draw(
            st.lists(st.integers(0, max(0, place - 1 if kinds[place] == "tuple" else count - 1)), max_size=3)
        )
        for place in range(count)
    ]
    held = [
        [] if kind == "tuple" and place == 0 else some
        for place, (kind, some) in enumerate(zip(kinds, held, strict=True))
    ]
    return kinds, held, draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=5))


def build(kinds, held, variables):
    """The variables; nothing else holds what is in them."""
    made = []
    for kind, some in zip(kinds, held, strict=True):
        new = {"list": list, "dict": dict, "thing": Thing}.get(kind)
        if kind == "array":
            made.append(np.empty(len(some), dtype=object))
        else:
            made.append(new() if new else (*(made[other] for other in some), "text"))
    for value, some in zip(made, held, strict=True):
        for place, other in enumerate(some):
            if isinstance(value, list):
                value.append(made[other])
            elif isinstance(value, dict | np.ndarray):
                value[place] = made[other]
            elif isinstance(value, Thing):
                setattr(value, f"x{place}", made[other])
    return {f"v{number}": made[place] for number, place in enumerate(variables)}


def expected(kinds, held, variables):
    reached = []
    for start in variables:
        seen, todo = set(), [start]
        while todo:
            place = todo.pop()
            if place not in seen:
                seen.add(place)
                todo += held[place]
        reached.append({place for place in seen if kinds[place] != "tuple"})
    found: list[tuple[set[str], set[int]]] = []
    for number, values in enumerate(reached):
        alike = [one for one in found if one[1] & values]
        found = [one for one in found if one not in alike]
        names = set().union({f"v{number}"}, *(one[0] for one in alike))
        found.append((names, values.union(*(one[1] for one in alike))))
    return sorted(sorted(names) for names, _ in found)


def lists(variables):
    found = groups.Groups(variables, Definitions()).lists()
    assert found.pop(groups.DEFINED) == []
    return sorted(found.values())


@pytest.mark.parametrize("batch", [1, 3, 2_000])
@given(graph=graphs())
def test_those_that_share_something_are_one_group(batch, graph):
    kept, groups._BATCH = groups._BATCH, batch
    try:
        assert lists(build(*graph)) == expected(*graph)
    finally:
        groups._BATCH = kept


def test_something_shared_deep_inside_what_is_held_once():
    shared = [1]
    variables = {
        "a": [[{"x": [(shared,)]}]],
        "b": {"y": [[[shared]]]},
        "c": [[{"x": [([1],)]}]],
    }
    del shared
    assert lists(variables) == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ([1],),
        lambda: (([{}],),),
        lambda: frozenset([Thing()]),
        lambda: ([np.empty(3)], "text"),
        lambda: (lambda held: lambda: held)([1]).__closure__,
    ],
)
def test_what_only_a_fixed_value_holds_that_is_shared(make):
    shared = make()
    variables = {"a": {"t": shared}, "b": [shared], "c": [([1],)]}
    del shared
    assert lists(variables) == [["a", "b"], ["c"]]


def test_two_views_of_memory_that_only_a_third_view_holds():
    middle = np.arange(20_000).view(np.recarray)
    variables = {"a": [[middle[:5].view(np.matrix)]], "b": [[middle[5:]]], "c": [[np.arange(5)]]}
    del middle
    assert lists(variables) == [["a", "b"], ["c"]]


def test_values_that_are_held_once_are_not_remembered():
    """Most of a state: the walk would need as much memory for their numbers as pickling does."""
    many = [{"n": [n]} for n in range(1000)]
    walked = groups.Groups({"many": many, "one": many[0]}, Definitions())
    assert len(walked._owner) == 2
    assert sorted(walked.lists()[groups.DEFINED]) == [] and not gc.get_referents(walked._known.objects)


def test_definitions_are_noted_even_where_a_single_value_holds_them():
    known = Definitions()
    groups.Groups({"a": [[lambda: None]], "b": [[{"f": (lambda: 1,)}]]}, known)
    assert len(known.objects) == 2


def test_what_a_definition_shares_with_a_variable_draws_it_in():
    shared: list[int] = []
    variables = {"f": [lambda: shared], "x": {"deep": [shared]}, "y": [[]]}
    found = groups.Groups(variables, Definitions()).lists()
    assert found[groups.DEFINED] == ["x"]


@given(graphs())
def test_what_is_plain_need_not_be_looked_into(graph):
    variables = build(*graph)
    plain = [name for name, value in variables.items() if texts_of(value) is not None]
    assert (
        groups.Groups(variables, Definitions(), plain).lists()
        == groups.Groups(variables, Definitions()).lists()
    )


@given(graphs())
def test_what_was_closed_and_is_opened_is_joined_alike(graph):
    variables = build(*graph)
    closed = [name for name, value in variables.items() if type(value) in (list, dict)]
    found = groups.Groups(variables, Definitions(), closed)
    found.lists()
    for name in closed:
        found.open(name)
    assert found.lists() == groups.Groups(variables, Definitions()).lists()


def test_what_cannot_be_changed_links_nothing_though_it_has_a_class():
    fixed = [
        Fraction(1, 2), UUID(int=1), Color.RED, Row(1), HTTPStatus.OK, pd.Timestamp(0), np.float64(1), len, math.sin
    ]  # fmt: skip
    for value in fixed:
        assert lists({"a": [value], "b": {"x": value}}) == [["a"], ["b"]], value
