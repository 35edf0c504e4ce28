"""What differs between two states of a real guest, and that asking changes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from unittest.mock import ANY

import pytest

import kernel_runtime
from kernel_runtime import AsyncSession, Budget, Conflict, NotFound, ProtocolViolation, Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("diff")


@pytest.fixture
def session(directory: Path) -> Iterator[Session]:
    with Session(memory="1G", workdir=directory) as opened:
        yield opened


def told(difference: kernel_runtime.Difference) -> dict[str, list[tuple[str, str | None, str | None]]]:
    return {
        f"{change.kind} {change.name}": [(place.label, place.before, place.after) for place in change.places]
        for change in difference.changes
    }


def test_variables_added_removed_and_changed_with_their_first_places(session: Session) -> None:
    session.run(
        "import numpy as np, pandas as pd, math\nfrom statistics import mean\n"
        "n = 1\nd = {'a': 1, 'b': [1, 2]}\narray = np.arange(300_000)\ngone = 1\nsame = {'k': {1, 2}}\n"
        "df = pd.DataFrame({'p': [1.5, 2.5], 'q': ['x', 'y']})\ntext = 'one\\ntwo'\n"
        "def double(x): return x * 2\nclass Box:\n    def __init__(self): self.held = [1]\nbox = Box()"
    )
    session.snapshot("before")
    assert session.diff("before").changes == []
    session.run(
        "n = 2.0\nd['b'].append(3)\narray[200_001] = 0\ndel gone\ndf.loc[1, 'q'] = 'z'\ntext = 'one\\n2'\n"
        "def double(x): return x + x\nbox.held[0] = 2\nnew = [None]\nimport json"
    )
    assert told(session.diff("before")) == {
        "changed array": [("[200001]", "200001", "0")],
        "changed box": [(".held[0]", "1", "2")],
        "changed d": [("['b'][2]", None, "3")],
        "changed df": [("['q'][1]", "'y'", "'z'")],
        "changed double": [(" line 1", "def double(x): return x * 2", "def double(x): return x + x")],
        "removed gone": [],
        "changed n": [],
        "added new": [],
        "changed text": [(" line 2", "'two'", "'2'")],
    }
    (change,) = [change for change in session.diff("before").changes if change.name == "n"]
    assert change.before is not None
    assert change.after is not None
    assert (change.before.type, change.before.preview) == ("int", "1")
    assert (change.after.type, change.after.preview) == ("float", "2.0")


NESTED = """
import numpy as np, pandas as pd
class Box:
    def __init__(self, **held): self.__dict__.update(held)
config = {'db': {'host': 'a', 'port': 1, 'on': True}, 'z': 0}
rows = [{'n': n, 'tags': ['a', 'b']} for n in range(1000)]
tables = {'t': pd.DataFrame({'p': [1, 2], 'q': [3, 4]}), 'array': np.zeros((2, 3))}
box = Box(inner=Box(held=[1, {'k': 'v'}]))
texts = ['one\\ntwo\\nthree']
moved = {'b': {'x': 1}}
types = {'a': [1], 'b': {'k': [1]}}
round = {'k': {'x': 1}}; round['k']['self'] = round['k']; round['all'] = round
deep = [[[[[[[[[1]]]]]]]]]
hidden = [lambda: 1]
"""
CHANGED = """
config['db']['port'] = 2; del config['db']['on']; config['db']['new'] = 3
rows[700]['tags'][1] = 'c'; rows[701]['n'] = -1
tables['t'].loc[1, 'q'] = 5; tables['array'][1, 2] = 7
box.inner.held[1]['k'] = 'w'
texts[0] = 'one\\n2\\nthree'
moved['a'] = 0; moved['b']['x'] = 2
types['a'] = (1,); types['b']['k'] = 1
round['k']['x'] = 2
deep[0][0][0][0][0][0][0][0][0] = 2
hidden[0] = lambda: 2
"""


def test_what_lies_deeper_is_told_by_its_path(session: Session) -> None:
    session.run(NESTED, check=True)
    session.snapshot("before")
    assert session.diff("before").changes == []
    session.run(CHANGED, check=True)
    found = told(session.diff("before"))
    assert {name.removeprefix("changed "): places for name, places in found.items()} == {
        "config": [
            ("['db']['on']", "True", None),
            ("['db']['port']", "1", "2"),
            ("['db']['new']", None, "3"),
        ],
        "rows": [("[700]['tags'][1]", "'b'", "'c'"), ("[701]['n']", "701", "-1")],
        "tables": [("['array'][1, 2]", "0.0", "7.0"), ("['t']['q'][1]", "4", "5")],
        "box": [(".inner.held[1]['k']", "'v'", "'w'")],
        "texts": [("[0] line 2", "'two'", "'2'")],
        "moved": [("['b']['x']", "1", "2"), ("['a']", None, "0")],
        "types": [("['a']", "[1]", "(1,)"), ("['b']['k']", "[1]", "1")],
        "round": [("['all']", ANY, ANY), ("['k']['self']", ANY, ANY), ("['k']['x']", "1", "2")],
        "deep": [("[0][0][0][0][0][0][0]", "[[1]]", "[[2]]")],
        "hidden": [("[0] line 1", "hidden = [lambda: 1]", "hidden[0] = lambda: 2")],
    }
    assert "    config['db']['port']: 1 → 2" in str(session.diff("before")).splitlines()


def test_two_snapshots_are_compared_in_both_directions(session: Session) -> None:
    session.run("x = [1, 2]")
    session.snapshot("one")
    session.run("x.append(3)\ny = 1")
    session.snapshot("two")
    session.run("del x, y")
    assert told(session.diff("one", "two")) == {"changed x": [("[2]", None, "3")], "added y": []}
    assert told(session.diff("two", "one")) == {"changed x": [("[2]", "3", None)], "removed y": []}
    assert session.diff("one", "one").changes == []


HELD = """
import io, random, array, collections
import numpy as np, pandas as pd
binary, text = io.BytesIO(b"x"), io.StringIO("one\\ntwo")
rng, legacy, plain = np.random.default_rng(1), np.random.RandomState(1), random.Random(1)
numbers, ends, view = array.array("i", [1, 2]), collections.deque([1]), memoryview(bytearray(b"ab"))
places, lazy = iter([1, 2]), (x for x in [1, 2])
dates = pd.Series([1, 2], name="n")
table = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
counts, column = np.zeros(3, int), np.zeros(2, int)
long = "x" * 3000
class Sum:
    kind = 1
    def __add__(self, other):
        return 1
log = open("/dev/null")
"""
MOVED = """
binary.write(b"y"), text.write("ONE"), rng.random(), legacy.rand(), plain.random()
numbers[1], view[0] = 3, 120
ends.append(2), next(places), next(lazy)
dates.name = "m"
table["b"] = table["b"].astype("int8"); table["c"] = 1.5
counts = counts.astype(float); column = column.astype(object); column[0] = 0.0
long = long[:1500] + "y" + long[1501:]
Sum.kind = 2
def add(self, other):
    return 2
Sum.__add__ = add
del add
"""


def test_what_attributes_do_not_show_is_compared_and_told(session: Session) -> None:
    session.run(HELD, check=True)
    session.snapshot("before")
    session.run("other = 1", check=True)
    same = session.diff("before")
    assert [change.name for change in same.changes] == ["other"]
    assert same.uncompared == {"log": "_io.TextIOWrapper"}
    session.run(MOVED, check=True)
    found = told(session.diff("before"))
    places = {name.removeprefix("changed "): rows for name, rows in found.items() if name != "added other"}
    piece = "x" * 80
    assert {
        name: rows for name, rows in places.items() if name not in ("plain", "legacy", "lazy", "rng")
    } == {
        "binary": [("[0:16]", "b'x'", "b'y'")],
        "column": [("[0]", "0", "0.0")],
        "counts": [],
        "dates": [(".name", "'n'", "'m'")],
        "ends": [("[1]", None, "2")],
        "long": [("[1440:1520]", repr(piece), repr(f"{piece[:60]}y{piece[61:]}"))],
        "numbers": [("[1]", "2", "3")],
        "places": [(" state", "['builtins.iter', [1, 2], 0]", "['builtins.iter', [1, 2], 1]")],
        "Sum": [
            (".kind", "1", "2"),
            (".__add__ line 1", "def __add__(self, other):", "def add(self, other):"),
            (".__add__ line 2", "return 1", "return 2"),
        ],
        "table": [
            ("['b'].dtype", "int64", "int8"),
            ("['c'].dtype", None, "float64"),
            ("['c'][0]", None, "1.5"),
            ("['c'][1]", None, "1.5"),
        ],
        "text": [(" line 1", "'one'", "'ONE'")],
        "view": [],
    }
    assert {"plain", "legacy", "lazy"} <= set(places)
    ((label, before, after),) = places["rng"]
    assert label == " state['state']['state']"
    assert before != after
    lines = str(session.diff("before")).splitlines()
    assert "~ counts: numpy.ndarray[int64] 3, 24 bytes → numpy.ndarray[float64] 3, 24 bytes" in lines
    assert lines[-1] == "not compared: log (_io.TextIOWrapper)"


def test_objects_that_variables_no_longer_share_are_seen(session: Session) -> None:
    session.run(
        "import copy\nfirst = [1]\nsecond = first\nheld = {'k': [first]}\nkept = (first,)\nword = name = 'a'"
        "\nclass Box: pass\nbox = Box()\nbox.inside = other = Box()\ndef f(): pass\nfunctions = [f]",
        check=True,
    )
    session.snapshot("a")
    session.run("third = first; added = held", check=True)
    assert [change.kind for change in session.diff("a").changes] == ["added", "added"]
    session.run(
        "second, held, box = list(second), copy.deepcopy(held), copy.deepcopy(box)\n"
        "word = ''.join(['a']); del third, added"
    )
    parted = ("yes", "no")
    assert told(session.diff("a")) == {
        "changed box": [(" shares an object with other", *parted)],
        "changed held": [
            (" shares an object with first", *parted),
            (" shares an object with second", *parted),
        ],
        "changed second": [(" shares an object with first", *parted)],
        "changed kept": [(" shares an object with second", *parted)],
    }


def test_code_that_runs_when_it_is_looked_at_changes_nothing(session: Session) -> None:
    session.run(
        "seen = []\nclass Loud:\n    def __repr__(self):\n        seen.append(1)\n"
        "        open('/tmp/seen', 'a').write('x')\n        return f'loud {len(seen)}'\nloud = Loud()"
    )
    session.snapshot("a")
    session.run("loud.x = 1")
    assert "changed loud" in told(session.diff("a"))
    assert session.value("seen") == []
    session.restore("a")
    assert session.value("seen") == []


def test_what_takes_too_long_is_said_to_and_the_rest_is_compared(session: Session) -> None:
    session.run(
        "import time\nclass Slow:\n    def __repr__(self): time.sleep(600)\nslow = Slow()\nx = 1", check=True
    )
    session.snapshot("a")
    session.run("x = 2")
    found = session.diff("a")
    assert [change.name for change in found.changes] == ["x"]
    assert found.uncompared == {"slow": "it took longer than 4 s"}
    assert str(found).splitlines()[-1] == "not compared: slow (it took longer than 4 s)"
    assert found.same == 1  # the class


def test_several_that_take_too_long_are_each_named_and_what_came_before_them_is_compared(
    session: Session,
) -> None:
    """With less time for each and for all than there is, but none less for the answer."""
    session.run(
        "import time\nfrom kernel_runtime.guest import reading\n"
        "reading.VARIABLE_SECONDS, reading.LISTING_SECONDS = 0.5, 1.5\n"
        "class Slow:\n    def __repr__(self): time.sleep(600)\n"
        "a = 1\nb, c, d, e, f = (Slow() for _ in range(5)); g = f",
        check=True,
    )
    session.snapshot("a")
    session.run("a = 2")
    found = session.diff("a")
    assert [change.name for change in found.changes] == ["a"]
    assert list(found.uncompared) == ["b", "c", "d", "e", "f", "g"]
    assert found.uncompared["b"] == "it took longer than 0.5 s"
    assert {found.uncompared[name] for name in "efg"} == {"the 1.5 s for all variables were over"}


@pytest.mark.slow
def test_a_reader_that_is_held_up_is_ended_and_the_snapshot_stays(session: Session) -> None:
    session.run(
        "import time, signal\nclass Stuck:\n    def __repr__(self):\n"
        "        signal.signal(signal.SIGALRM, signal.SIG_IGN)\n        time.sleep(600)\nstuck = Stuck()\nx = 1"
    )
    session.snapshot("a")
    with pytest.raises(Conflict, match="took longer than"):
        session.diff("a")
    session.run("x = 5")
    session.restore("a")
    assert session.value("x") == 1


def test_files_written_since_a_snapshot_are_named_and_others_are_not(session: Session) -> None:
    session.run("open('/tmp/old.txt', 'w').write('1'); open('/tmp/gone.txt', 'w').write('1')")
    session.run("import time; time.sleep(0.05)")
    session.snapshot("a")
    assert session.written_since("a") == []
    session.run(
        "import os; os.makedirs('/tmp/d'); open('/tmp/d/new.txt', 'w').write('1'); open('here.csv', 'w')"
    )
    named = session.written_since("a")
    assert any(name.endswith("/tmp/d/new.txt") for name in named)
    assert any(name.endswith("here.csv") for name in named)
    assert not any("old.txt" in name for name in named)


def test_what_was_removed_beside_a_file_that_was_written_is_told(session: Session, directory: Path) -> None:
    session.run("open('data.csv', 'w').write('1')\nimport time; time.sleep(0.05)")
    session.snapshot("a")
    session.run("import os; open('out.txt', 'w').write('1'); os.remove('data.csv')")
    assert session.written_since("a") == [
        f"{directory}/ (entries were made, renamed or removed)",
        f"{directory}/out.txt",
    ]


def test_files_in_the_first_directory_are_named_wherever_the_code_works_now(
    session: Session, directory: Path
) -> None:
    session.run(
        "import os, time; os.makedirs('/tmp/sub', exist_ok=True); os.chdir('/tmp/sub'); time.sleep(0.05)"
    )
    session.snapshot("a")
    session.run(
        f"open({str(directory / 'far.txt')!r}, 'w').write('1'); os.rmdir('/tmp/sub'); time.sleep(0.05)"
    )
    session.snapshot("nowhere")
    assert f"{directory}/far.txt" in session.written_since("a")
    session.run(f"time.sleep(0.05); open({str(directory / 'later.txt')!r}, 'w').write('1')")
    named = session.written_since("nowhere")
    assert f"{directory}/later.txt" in named
    assert f"{directory}/far.txt" not in named


def test_unknown_and_dropped_names_are_told(session: Session) -> None:
    session.snapshot("a")
    session.drop("a")
    with pytest.raises(NotFound, match="no snapshot 'a'"):
        session.diff("a")
    with pytest.raises(NotFound, match="no snapshot 'b'"):
        session.written_since("b")


def test_budget_zero_restoring_while_code_runs_and_two_restores_at_once(directory: Path) -> None:
    async def work() -> None:
        async with AsyncSession(memory="512M", workdir=directory) as session:
            await session.run("x = 1")
            await session.snapshot("a")
            begun = asyncio.Event()
            code = "try:\n    print('on')\n    while True: pass\nexcept KeyboardInterrupt: x = 2"
            running = asyncio.create_task(session.run(code, on_output=lambda _: begun.set()))
            await begun.wait()
            for refused in (session.restore("a"), session.snapshot("b"), session.diff("a"), session.undo()):
                with pytest.raises(Conflict, match="a cell is running"):
                    await refused
            session.interrupt()
            await running
            assert await session.value("x") == 2
            both = await asyncio.gather(session.restore("a"), session.restore("a"), return_exceptions=True)
            assert any(not isinstance(one, BaseException) for one in both)
            assert all(isinstance(one, Conflict) for one in both if isinstance(one, BaseException))
            assert await session.value("x") == 1

    asyncio.run(work())
    with Session(memory="512M", workdir=directory, snapshots=Budget(automatic=0, count=0)) as session:
        session.run("x = 1")
        with pytest.raises(Conflict, match="count is 0"):
            session.snapshot("a")
        with pytest.raises(
            Conflict, match="cannot be undone, there is no snapshot before: automatic snapshots are off"
        ):
            session.undo()
        assert session.value("x") == 1


def test_a_paused_guest_is_kept_compared_and_brought_back(session: Session) -> None:
    session.run("x = 1")
    session.pause()
    session.snapshot("a")
    session.run("x = 2")
    session.pause()
    assert told(session.diff("a")) == {"changed x": []}
    session.pause()
    session.restore("a")
    assert session.value("x") == 1
    session.pause()
    session.redo()
    assert session.value("x") == 2


FORGED = {
    "no JSON": "b'nonsense'",
    "another shape": "b'{}'",
    "too many": "b'[' + b','.join([b'{\"name\":\"x\",\"type\":\"t\"}'] * 2001) + b']'",
    "a long name": 'b\'[{"name":"\' + b\'x\' * 500 + b\'","type":"t"}]\'',
    "deep": "b'[' * 200 + b']' * 200",
    "a field more": 'b\'[{"name":"x","type":"t","run":"me"}]\'',
    "a negative size": 'b\'[{"name":"x","type":"t","size":-1}]\'',
}


@pytest.mark.parametrize("forged", [*FORGED.values(), None], ids=[*FORGED.keys(), "control"])
def test_a_guest_that_forges_its_listing_is_caught(session: Session, forged: str | None) -> None:
    """Its code reaches what answers for it: the answer is foreign, and checked as such."""
    session.run("x = 1")
    if forged is not None:
        session.run(f"import msgspec; msgspec.json.encode = lambda value: {forged}")
    session.snapshot("a")
    if forged is None:
        assert session.diff("a").changes == []
    else:
        with pytest.raises((ProtocolViolation, Conflict)):
            session.diff("a")
    assert session.run("1 + 1").result == "2"


def test_an_answer_of_other_places_than_asked_for_is_caught(session: Session) -> None:
    session.run("x = [1]")
    session.snapshot("a")
    session.run(
        "x.append(2)\nfrom kernel_runtime.guest import reading\n"
        "from kernel_runtime.domain.variables import Part\n"
        "reading._parts_of = lambda value, span: [Part(start=5, stop=4, digest='00')]"
    )
    with pytest.raises(ProtocolViolation, match="other places"):
        session.diff("a")


def test_more_than_fits_is_an_error_and_no_flood(session: Session) -> None:
    session.run("x = 1\nimport msgspec; msgspec.json.encode = lambda value: b'x' * (64 << 20)")
    session.snapshot("a")
    with pytest.raises((Conflict, ProtocolViolation)):
        session.diff("a")
    assert session.run("1 + 1").result == "2"
