"""Plain collections come back the same without a memo, and nothing else is taken for one."""

from __future__ import annotations

import gc
import pickle
import sys
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.guest import checkpoint_ahead, checkpoint_plain
from kernel_runtime.guest.checkpoint_definitions import Definitions
from kernel_runtime.guest.checkpoint_pickler import Pickler
from kernel_runtime.guest.checkpoint_save import save
from tests.guest.writing import Recorder, identities


class Colour(IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


class Row(list):
    pass


class Thing:
    pass


def text(number: int) -> str:
    """A new object each time."""
    return "".join(["text", str(number)])


def nested(depth: int) -> list:
    value: list = [text(depth)]
    for _ in range(depth):
        value = [{"in": (value, {depth})}]
    return value


def again(value):
    """It, pickled as plain and loaded; and the stream."""
    texts = checkpoint_plain.texts_of(value)
    assert texts is not None
    stream = Recorder.File()
    pickler = Pickler(stream, {}, Definitions(), None)
    pickler.dump({"it": checkpoint_plain.Plain(value, texts, pickler)})
    return pickle.loads(stream.data)["it"], bytes(stream.data)


def records(count: int = 3_000) -> list:
    return [
        {
            "id": n,
            "name": text(n),
            "none": None if n % 3 else text(n),
            "tags": ["a", text(n % 7)],
            "at": (n, 1.5),
        }
        for n in range(count)
    ]


PLAIN = {
    "records": records,
    "a dict of lists": lambda: {text(n): [n, text(n)] for n in range(3_000)},
    "keys of all kinds": lambda: {
        key: [n] for n in range(2_000) for key in (n, text(n), n + 0.5, (n, text(n)))
    },
    "deep ones": lambda: [nested(depth) for depth in (1, 15, 16, 17, 70) for _ in range(600)],
    "a set": lambda: {text(n) for n in range(3_000)},
    "rows of unlike length": lambda: [[n] * (n % 5) for n in range(3_000)],
    "empty ones": lambda: [kind() for _ in range(900) for kind in (list, dict, set, tuple)],
    "dicts with numbers as keys": lambda: [{n: text(n), text(n % 5): n} for n in range(3_000)],
    "large ones in it": lambda: [list(range(60_000)), [text(n) for n in range(60_000)], list(range(60_000))],
    "nothing": list,
}  # fmt: skip


@pytest.mark.parametrize("what", PLAIN)
def test_what_is_plain_comes_back_the_same(what):
    value = PLAIN[what]()
    assert checkpoint_plain.seems(value)
    restored, _ = again(value)
    assert restored == value and type(restored) is type(value)
    assert identities(restored) == identities(value)


def test_the_pickler_remembers_no_collections_and_no_text_that_is_there_once():
    value = [[text(n)] for n in range(2_000)]
    stream = again(value)[1]
    assert stream.count(pickle.MEMOIZE) < 20


def test_a_text_that_is_there_twice_is_written_once_and_is_one_object():
    shared, other = text(1), text(1)
    value = [[shared], {"k": [shared]}, [other]]
    restored, stream = again(value)
    assert stream.count(b"text1") == 2
    assert restored[0][0] is restored[1]["k"][0]
    assert restored[2][0] is not restored[0][0]


def test_keys_that_dicts_share_without_holding_them_are_one_object():
    """Attributes' dicts have their keys in a table of their class, which alone holds them."""

    def attributes(value):
        thing = Thing()
        for name in ("first", "second"):
            setattr(thing, "".join(["of_a_", name]), value)
        return vars(thing)

    value = [attributes(n) for n in range(3_000)]
    restored, _ = again(value)
    assert len({id(key) for row in restored for key in row}) == 2


def test_order_of_texts_does_not_depend_on_where_they_are():
    names = [text(n) for n in range(50)]
    one, other = [[name] for name in names * 2], [[name] for name in names[::-1] * 2]
    assert checkpoint_plain.texts_of(one) == checkpoint_plain.texts_of(other) == sorted(names)


SHARED: list = []
NOT_PLAIN = {
    "a list that somebody else holds": lambda: [[SHARED]],
    "one that is there twice": lambda: [[]] * 2,
    "a tuple that is there twice": lambda: [(text(1), [])] * 2,
    "an instance": lambda: [Thing()],
    "a number of an own kind": lambda: [Colour.RED],
    "a text of an own kind": lambda: [{"k": Text("x")}],
    "a key of an own kind": lambda: [{Text("x"): 1}],
    "a list of an own kind": lambda: [Row()],
    "a frozenset": lambda: [frozenset({1})],
    "a function": lambda: [text],
    "bytes that change": lambda: [bytearray(2)],
    "a complex number": lambda: [1j],
    "a tuple as key within": lambda: [{(1, 2): 3}],
    "a variable of an own kind": lambda: Row([1]),
    "a tuple": lambda: (1, 2),
}


@pytest.mark.parametrize("what", NOT_PLAIN)
@pytest.mark.parametrize("place", ["first", "last", "within"])
def test_what_is_not_plain_is_found_wherever_it_is(what, place):
    value = NOT_PLAIN[what]()
    if type(value) is list:
        others = [[n, text(n)] for n in range(4_000)]
        middle = {"first": 0, "within": 2_500, "last": len(others)}[place]
        value = [*others[:middle], *value, *others[middle:]]
        del others
    assert checkpoint_plain.texts_of(value) is None
    assert checkpoint_plain.seems(value) is (place == "within" and type(value) is list)


def test_a_collection_that_holds_itself_is_not_plain():
    value: list = [[1]]
    value.append(value)
    inner: list = []
    inner.append({"back": inner})
    assert checkpoint_plain.texts_of(value) is checkpoint_plain.texts_of([inner]) is None


def test_too_many_texts_that_are_shared_are_not_plain(monkeypatch):
    monkeypatch.setattr(checkpoint_plain, "_MOST_TEXTS", 10)
    few = [text(n) for n in range(10)]
    many = [text(n) for n in range(11)]
    assert checkpoint_plain.texts_of([few[:], few[:]]) is not None
    assert checkpoint_plain.texts_of([many[:], many[:]]) is None


def test_little_is_held_while_it_is_looked_at(monkeypatch):
    """Not all that a piece holds at once: lists in lists may be large."""
    most, ask = 0, gc.get_referents

    def asked(*values):
        nonlocal most
        found = ask(*values)
        most = max(most, len(found))
        return found

    monkeypatch.setattr(checkpoint_plain.gc, "get_referents", asked)
    assert checkpoint_plain.texts_of([[0] * 30_000 for _ in range(40)]) is not None
    assert 0 < most <= checkpoint_plain._MOST_OPENED


def test_looking_and_asking_leave_the_values_as_they_are():
    value = records(10)
    counts = [sys.getrefcount(one) for one in value]
    assert checkpoint_plain.texts_of(value) is not None
    assert [sys.getrefcount(one) for one in value] == counts


# -- whole checkpoints ------------------------------------------------------------------------

_KINDS = ("list", "dict", "set", "tuple", "thing", "row")


@st.composite
def namespaces(draw):
    """Variables over a graph of values, in which any may be held by any number of others. (What is hashed or
    cannot change holds only what was there before it.)"""
    texts = [text(n) for n in range(draw(st.integers(1, 4)))]
    numbers = draw(st.integers(0, 12))
    made: list = []
    fill = []
    for place in range(numbers):
        kind = draw(st.sampled_from(_KINDS))
        some = draw(st.lists(st.integers(0, numbers - 1), max_size=3))
        names = draw(st.lists(st.sampled_from(texts), max_size=3))
        if kind == "tuple":
            made.append((*(made[one] for one in some if one < place), *names, place))
        else:
            new = {"list": list, "dict": dict, "set": set, "thing": Thing, "row": Row}[kind]()
            made.append(new)
            fill.append((new, some, names))
    for value, some, names in fill:
        _fill(value, [made[one] for one in some], names)
    held = (
        draw(st.lists(st.lists(st.integers(0, numbers - 1), max_size=4), min_size=1, max_size=4))
        if made
        else [[]]
    )
    kinds = draw(st.lists(st.sampled_from([list, dict]), min_size=len(held), max_size=len(held)))
    variables = {}
    for number, (some, kind) in enumerate(zip(held, kinds, strict=True)):
        values = [made[one] for one in some] + [draw(st.sampled_from(texts)), 1.5, None]
        variables[f"v{number}"] = values if kind is list else dict(enumerate(values))
    if draw(st.booleans()):
        variables["same"] = variables["v0"]
    if draw(st.booleans()):
        variables["v0"][len(variables["v0"]) - 1] = variables["v0"]
    return variables


def _fill(value, others, names):
    if isinstance(value, set):
        value.update(names)
    elif isinstance(value, dict):
        value.update(zip(names, [*others, *names], strict=False))
    elif isinstance(value, list):
        value.extend([*others, *names])
    else:
        vars(value).update({f"x{place}": one for place, one in enumerate([*others, *names])})


@given(namespaces())
def test_what_is_shared_is_shared_afterwards_and_nothing_else(variables):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_ahead, "_LARGE", 0)
        patch.setattr("os.sched_getaffinity", lambda _: {0})
        groups = Recorder.groups(lambda channel: save(channel, variables))
    assert sorted(name for names, _ in groups for name in names) == sorted(variables)
    for names, restored in groups:
        assert identities(restored) == identities({name: variables[name] for name in names})
    where = {name: number for number, (names, _) in enumerate(groups) for name in names}
    if "same" in variables:
        assert where["same"] == where["v0"]
