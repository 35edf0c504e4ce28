"""Every hard object comes back equal, or is refused or missed by name: never wrong."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, TypeVar

import pytest

from kernel_runtime.domain.errors import Conflict, ExternalStateError, GuestCodeError, UnsafeThreads
from tests.cases import each
from tests.workers.hard_objects import KEPT, REFUSED, TOLD, Kept, Refused, Told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _pytest.mark import ParameterSet

    import kernel_runtime

    Case = TypeVar("Case", Kept, Refused, Told)

#: Each guest has to import these anew.
LIBRARIES = ("numpy", "pandas", "pyarrow", "scipy", "sklearn", "matplotlib", "duckdb")


def those(cases: Sequence[Case]) -> list[ParameterSet]:
    """One parameter for each; those of libraries are slow."""
    named = {case.name: case for case in cases}
    return each(named, lambda name: any(f" {library}" in named[name].setup for library in LIBRARIES))


@pytest.fixture
def session(clean_session: kernel_runtime.Session) -> kernel_runtime.Session:
    return clean_session


def test_there_are_enough_of_them() -> None:
    names = [case.name for case in (*KEPT, *REFUSED, *TOLD)]
    assert len(names) == len(set(names)) > 60


@pytest.mark.parametrize("case", those(KEPT))
def test_it_comes_back_equal_each_time(session: kernel_runtime.Session, case: Kept) -> None:
    session.run(case.setup)
    point = session.snapshot("point")
    assert point.external == []
    for _ in range(2):
        session.run(case.change)
        changed = session.run(case.check, check=False)
        assert changed.result != "True", "the control: it was changed"
        session.restore("point")
        assert session.run(case.check).result == "True"
        session.restore("point")


@pytest.mark.parametrize("case", those(REFUSED))
def test_it_is_refused_by_name(session: kernel_runtime.Session, case: Refused) -> None:
    session.run(case.setup)
    with pytest.raises((UnsafeThreads, ExternalStateError, Conflict)) as refused:
        session.snapshot("point")
    assert case.named in str(refused.value)
    assert "point" not in [snapshot.name for snapshot in session.snapshots()]
    session.run(case.undo)
    session.snapshot("point")


@pytest.mark.parametrize("case", those(TOLD))
def test_what_a_copy_cannot_have_is_told_and_an_error(session: kernel_runtime.Session, case: Told) -> None:
    session.run(case.setup)
    point = session.snapshot("point")
    assert case.named in "; ".join(point.external)
    with pytest.raises(ExternalStateError) as refused:
        session.snapshot("strict", refuse=True)
    assert case.named in str(refused.value)
    assert session.run("'the live one goes on'").ok
    restored = session.restore("point")
    assert case.named in "; ".join(restored.external)
    with pytest.raises(GuestCodeError, match=case.error):
        session.run(case.use)


def test_a_file_that_was_changed_meanwhile_is_told(session: kernel_runtime.Session) -> None:
    session.run("f = open('told.txt', 'w+'); f.write('a'); f.flush()")
    session.snapshot("point")
    assert session.restore("point").changed == []
    session.run("f.write('b'); f.flush()")
    (told,) = session.restore("point").changed
    assert "told.txt has changed" in told


def test_secrets_differ_and_seeds_can_be_new(session: kernel_runtime.Session) -> None:
    session.run("import random, secrets, numpy as np; random.seed(1); np.random.seed(1)")
    session.snapshot("point")
    draws = "[random.random(), float(np.random.rand()), secrets.token_hex()]"
    first = session.run(draws).result
    session.restore("point")
    same = session.run(draws).result
    session.restore("point", reseed=True)
    other = session.run(draws).result
    one, two, three = (ast.literal_eval(str(drawn)) for drawn in (first, same, other))
    assert one[:2] == two[:2]
    assert one[2] != two[2]
    assert not set(one) & set(three)


def test_a_new_seed_is_for_the_generators_of_modules_alone(session: kernel_runtime.Session) -> None:
    """As the pages say: one's own go on from where they were."""
    session.run("import random, numpy as np\nown, rng = random.Random(1), np.random.default_rng(1)")
    session.snapshot("point")
    draws = "[own.random(), float(rng.random()), random.random(), float(np.random.rand())]"
    first = ast.literal_eval(str(session.run(draws).result))
    session.restore("point", reseed=True)
    again = ast.literal_eval(str(session.run(draws).result))
    assert again[:2] == first[:2]
    assert not set(again[2:]) & set(first[2:])


@pytest.mark.parametrize("much", [3, 0], ids=["little", "much"])
def test_cycles_can_be_collected_all_the_same(session: kernel_runtime.Session, much: int) -> None:
    """What snapshots keep from the collector is collected when the code asks for it."""
    session.run(f"from kernel_runtime.guest import garbage\ngarbage._MUCH = {much}")
    session.run("import gc, weakref\nclass A: pass\na = A(); a.self = a; w = weakref.ref(a)")
    session.snapshot("point")
    assert session.run("del a\ngc.collect()\nw() is None").result == "True"
    session.restore("point")
    assert session.run("w() is a").result == "True"


@pytest.mark.parametrize(("much", "times"), [(3, 0), (0, 2)], ids=["little", "much: the control"])
def test_however_seldom_cells_run_no_snapshot_collects_libraries(
    session: kernel_runtime.Session, much: int, times: int
) -> None:
    """It would copy all that the branches share of them, each time anew."""
    session.run(
        f"import gc; from kernel_runtime.guest import garbage\ngarbage._MUCH, garbage._SHARE = {much}, 1e9\n"
        "libraries, collected = gc.get_freeze_count(), []\n"
        "gc.callbacks.append(lambda phase, info: collected.append(gc.get_freeze_count() < libraries))"
    )
    for _ in range(3):
        session.snapshot()
    assert session.run("gc.get_freeze_count() >= libraries > 10_000").result == "True"
    assert session.run("sum(collected) // 2").result == str(times)
