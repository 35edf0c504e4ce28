"""Two states compared by the digests of their variables, and searched for the first places that differ."""

from __future__ import annotations

import hashlib
from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.difference import (
    PLACES,
    Change,
    Difference,
    Place,
    compare,
    describe,
    show_place,
)
from kernel_runtime.domain.search import Search, _lines
from kernel_runtime.domain.variables import MAX_PARTS, Part, Span, Variable, step_for


def hashed(values: object) -> str:
    return hashlib.blake2b(repr(values).encode(), digest_size=12).hexdigest()


def variable(name: str, values: list[int]) -> Variable:
    return Variable(
        name=name, type="list", shape=f"of {len(values)}", digest=hashed(values), leaves=len(values)
    )


def parts(values: list[int], span: Span) -> list[Part]:
    """What a guest would tell of a list."""
    found = []
    for start in range(span.start, min(span.stop, len(values)), span.step)[:MAX_PARTS]:
        stop = min(start + span.step, span.stop, len(values))
        label = f"[{start}]" if span.step == 1 else ""
        text = str(values[start]) if span.step == 1 else ""
        found.append(Part(start=start, stop=stop, digest=hashed(values[start:stop]), label=label, text=text))
    return found


def searched(old: list[int], new: list[int]) -> tuple[list[tuple[str, str | None, str | None]], int]:
    (change,) = compare([variable("x", old)], [variable("x", new)]).changes
    search, rounds = Search(change), 0
    while search.looks:
        rounds += 1
        search.learn(parts(old, search.looks[0].before), parts(new, search.looks[0].after))
    return [(place.label, place.before, place.after) for place in search.places], rounds


def test_added_removed_changed_and_the_same():
    old = [variable("a", [1]), variable("b", [1]), variable("c", [1])]
    new = [variable("b", [1]), variable("c", [2]), variable("d", [1])]
    found = compare(old, new)
    assert [(change.name, change.kind) for change in found.changes] == [
        ("a", "removed"),
        ("c", "changed"),
        ("d", "added"),
    ]
    assert found.same == 1
    assert found.uncompared == {}


def test_another_type_or_shape_is_a_change_whatever_the_digest_says():
    old = Variable(name="a", type="int", digest="ab")
    assert compare([old], [msgspec.structs.replace(old, type="float")]).changes[0].kind == "changed"
    assert compare([old], [msgspec.structs.replace(old, shape="2×3")]).changes[0].kind == "changed"
    assert compare([old], [old]).changes == []


def test_what_could_not_be_compared_is_never_said_to_be_the_same():
    slow = Variable(name="a", type="Slow", unread="it took longer than 2 s")
    partly = Variable(name="f", type="File", digest="a1", unread="File")
    for one, other in ((slow, slow), (slow, msgspec.structs.replace(slow, digest="a1", unread=""))):
        found = compare([one, partly], [other, partly])
        assert (found.changes, found.same) == ([], 0)
        assert found.uncompared == {"a": "it took longer than 2 s", "f": "File"}
    read = msgspec.structs.replace(partly, unread="")
    assert (compare([read], [read]).uncompared, compare([read], [read]).same) == ({}, 1)


def test_what_differs_as_far_as_it_was_read_is_a_change():
    old = Variable(name="f", type="File", digest="a1", unread="File")
    for new in (
        msgspec.structs.replace(old, digest="a2"),
        Variable(name="f", type="Slow", unread="too slow"),
    ):
        found = compare([old], [new])
        assert [change.kind for change in found.changes] == ["changed"]
        assert found.uncompared == {}


def test_no_digest_and_no_reason_is_a_change():
    assert compare([Variable(name="a", type="X")], [Variable(name="a", type="X")]).changes


def test_all_that_was_not_compared_is_named_in_one_short_line():
    many = {f"v{number}": "File" for number in range(30)}
    told = str(Difference(a="x", b="y", same=3, uncompared=many)).splitlines()
    assert told[0] == "x → y: no variable differs, 30 not compared"
    assert told[1].startswith("not compared: v0 (File), v1 (File), ")
    assert told[1].endswith("v11 (File) and 18 more")
    assert len(told) == 2


def test_lines_that_were_put_in_do_not_move_the_others():
    def lines(*texts: str) -> tuple[Variable, list[Part]]:
        made = [
            Part(start=n, stop=n + 1, digest=hashed(text), label=f" line {n + 1}", text=text)
            for n, text in enumerate(texts)
        ]
        return Variable(name="f", type="function", digest=hashed(texts), leaves=len(texts), lines=True), made

    (old, before), (new, after) = lines("def f():", "a", "b", "c"), lines("def f():", "new", "a", "B", "c")
    (change,) = compare([old], [new]).changes
    search = Search(change)
    search.learn(before, after)
    assert [(place.label, place.before, place.after) for place in search.places] == [
        (" line 2", None, "new"),
        (" line 3", "b", "B"),
    ]
    assert search.looks == []


@given(st.lists(st.integers(0, 3), max_size=120), st.lists(st.integers(0, 3), max_size=120))
def test_lines_that_are_told_are_all_that_must_be_changed(old: list[int], new: list[int]):
    span = Span(name="x", start=0, stop=256, step=1)
    changed = [(p.label, p.before, p.after) for p in _lines(parts(old, span), parts(new, span))]
    taken = [before for _, before, _ in changed if before is not None]
    put = [after for _, _, after in changed if after is not None]
    assert Counter(map(str, old)) - Counter(taken) == Counter(map(str, new)) - Counter(put)
    assert (old == new) is not bool(changed)


def test_objects_that_two_variables_have_no_more_in_common_are_a_change():
    lst, other = Variable(name="a", type="list", digest="a1"), Variable(name="c", type="list", digest="a1")
    held = Variable(name="b", type="dict", digest="a2", shares=["a", "gone"], leaves=1)
    apart = msgspec.structs.replace(held, shares=["c", "new"])
    (change,) = compare([lst, held, other], [lst, apart, other]).changes
    told = [(place.label, place.before, place.after) for place in Search(change).places]
    assert told == [(" shares an object with a", "yes", "no"), (" shares an object with c", "no", "yes")]
    assert Search(change).looks == []
    assert compare([lst, held], [lst, held]).changes == []
    again = msgspec.structs.replace(lst, digest="a3")
    assert [each.name for each in compare([lst, held], [again, apart]).changes] == ["a"]
    full = msgspec.structs.replace(held, shares=["a", *"defghij"])
    assert compare([lst, full], [lst, apart]).changes == []
    unread = Variable(name="b", type="dict", unread="it took too long")
    assert compare([lst, held], [lst, unread]).changes == [], "what was not read is not said to share nothing"


def test_details_that_differ_are_told_first():
    old = Variable(name="t", type="T", digest="a1", details={"['a'].dtype": "int64", "['b'].dtype": "int64"})
    new = msgspec.structs.replace(
        old, digest="a2", details={"['a'].dtype": "int8", "['c'].dtype": "object", "['b'].dtype": "int64"}
    )
    (change,) = compare([old], [new]).changes
    assert [(place.label, place.before, place.after) for place in Search(change).places] == [
        ("['a'].dtype", "int64", "int8"),
        ("['c'].dtype", None, "object"),
    ]


def test_places_of_another_type_are_told_by_their_texts():
    old = Variable(name="a", type="int64", digest="a1", leaves=2)
    new = msgspec.structs.replace(old, type="object", digest="a2")
    before = [Part(start=n, stop=n + 1, digest="a1", label=f"[{n}]", text=str(n)) for n in range(2)]
    after = [msgspec.structs.replace(before[0], digest="b1"), msgspec.structs.replace(before[1], digest="b2")]
    after[1] = msgspec.structs.replace(after[1], text="1.0")
    for kind, labels in (("object", ["[1]"]), ("int64", ["[0]", "[1]"])):
        search = Search(compare([old], [msgspec.structs.replace(new, type=kind)]).changes[0])
        search.learn(before, after)
        assert [place.label for place in search.places] == labels


def test_what_is_cut_off_is_not_shown_as_if_it_were_equal():
    assert show_place(Place(label="[0]", before="[1, ...]", after="[1, ...]")) == (
        "[1, ...] (it differs in what is not shown here)"
    )
    old, new = (Variable(name="f", type="function", digest=digest) for digest in ("a1", "a2"))
    assert describe(Change(name="f", before=old, after=new)).endswith(
        "(it differs in what is not shown here)"
    )


def test_one_place_among_millions_is_found_in_a_few_rounds():
    old = list(range(300_000))
    new = list(old)
    new[123_456] = -1
    assert searched(old, new) == ([("[123456]", "123456", "-1")], 3)


def test_no_more_than_five_places():
    places, _ = searched([0] * 1000, [1] * 1000)
    assert places == [(f"[{number}]", "0", "1") for number in range(PLACES)]


def test_what_was_appended_is_there_and_the_rest_is_the_same():
    assert searched([1, 2], [1, 2, 3])[0] == [("[2]", None, "3")]
    assert searched(list(range(1000)), list(range(1001)))[0] == [("[1000]", None, "1000")]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=600), st.data())
def test_the_first_place_that_differs_is_the_first_that_is_told(old: list[int], data: st.DataObject):
    new = list(old)
    for _ in range(data.draw(st.integers(1, 4))):
        new[data.draw(st.integers(0, len(new) - 1))] += data.draw(st.integers(1, 3))
    new += data.draw(st.lists(st.integers(0, 3), max_size=3))
    places, _ = searched(old, new)
    differing = [i for i in range(len(new)) if i >= len(old) or old[i] != new[i]]
    assert [label for label, _, _ in places] == [f"[{i}]" for i in differing[:PLACES]]


def test_keys_of_a_large_dict_that_are_seen_on_one_side_only_are_not_called_missing():
    old = Variable(name="d", type="dict", digest="aa", leaves=5000, keyed=True)
    new = msgspec.structs.replace(old, digest="bb")
    search = Search(compare([old], [new]).changes[0])
    search._ahead = [search.looks[0].closer(0, 2)]
    moved = Part(start=0, stop=1, digest="01", label="['a']", text="1")
    same_key = Part(start=1, stop=2, digest="02", label="['b']", text="2")
    search.learn(
        [moved, same_key], [msgspec.structs.replace(same_key, start=0, stop=1, digest="03", text="3")]
    )
    assert [(place.label, place.before, place.after) for place in search.places] == [("['b']", "2", "3")]


def test_steps_are_the_same_for_similar_counts():
    assert [step_for(n) for n in (0, 1, 256, 257, 65_536, 65_537)] == [1, 1, 1, 256, 256, 65_536]


def test_text_says_what_differs():
    found = compare(
        [Variable(name="n", type="int", size=28, digest="a1", preview="1")],
        [
            Variable(name="n", type="int", size=28, digest="a2", preview="2"),
            Variable(name="t", type="pandas.DataFrame", shape="3×2", size=4096, digest="a3"),
        ],
        a="clean",
        b="now",
    )
    assert str(found).splitlines() == [
        "clean → now: 1 added, 1 changed, 0 the same",
        "~ n: int, 28 bytes = 1 → int, 28 bytes = 2",
        "+ t: pandas.DataFrame 3×2, 4 KB",
    ]
    assert str(Difference(a="x", b="y", same=3)) == "x → y: no variable differs"
