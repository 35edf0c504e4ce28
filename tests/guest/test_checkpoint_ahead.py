"""A helper pickles large lists and dicts ahead: the checkpoint is the same, byte for byte, without it."""

from __future__ import annotations

import pytest

from kernel_runtime.store.memory import MemoryStore
from tests.store.guests import load, save

#: In the writer: small is large enough, there are two cores, and what the helper made is written down in ``ahead``.
HELPED = """
import os
from kernel_runtime.guest import checkpoint_ahead, checkpoint_hashing, checkpoint_helper, checkpoint_save
checkpoint_ahead._LARGE, checkpoint_hashing._ENOUGH = 3, 1
os.sched_getaffinity = lambda _: {0, 1}
take = checkpoint_save._Save._take_ahead
def noted(self, ahead, alone):
    made = take(self, ahead, alone)
    if expected is not None and sorted(made) != expected:
        raise SystemExit(f"pickled ahead: {sorted(made)}")
    return made
checkpoint_save._Save._take_ahead = noted
"""
ONE_CORE = HELPED + "os.sched_getaffinity = lambda _: {0}\nos.fork = None\n"
NO_PROCESS = HELPED + "def refuse(): raise BlockingIOError(11, 'no more processes')\nos.fork = refuse\n"
DIES = HELPED + "checkpoint_helper.Helper._live = lambda *_: os._exit(1)\n"
DIES_MIDWAY = HELPED + (
    "put, parent = checkpoint_ahead._Outlet._put, os.getpid()\n"
    "def dying(self, data):\n"
    "    put(self, data)\n"
    "    if len(data) > 1000: self.drain(0); os.kill(os.getpid(), 9)\n"
    "checkpoint_ahead._Outlet._put = dying\n"
)
DIES_LOOKING = HELPED + (
    "from kernel_runtime.guest import checkpoint_plain\nparent, look = os.getpid(), checkpoint_plain.texts_of\n"
    "def dying(value): return look(value) if os.getpid() == parent else os._exit(1)\n"
    "checkpoint_plain.texts_of = dying\n"
)
#: What only seems to be plain is found to be something else in the middle.
IN_THE_MIDDLE = HELPED + "from kernel_runtime.guest import checkpoint_plain\ncheckpoint_plain._PIECE = 2\n"
NO_ROOM = HELPED + "import resource; resource.getrlimit = lambda _: (1000, 1000)\n"

STATE = """
import numpy as np
class Point:
    def __init__(self, n): self.n, self.at = n, [n]
records = [{"id": n, "name": f"user {n}", "tags": ["a", f"c{n}"]} for n in range(9_000)]
points = {n: Point(n) for n in range(5)}
big = np.arange(300_000.)
numbers = {1, 2, 3, 4}
"""


def program(setting: str, expected: list[str] | None, state: str = STATE) -> str:
    """One that hides in ``__builtins__`` what is no variable."""
    hidden = f"exec({setting!r}, {{'__builtins__': __builtins__, 'expected': {expected!r}}})\n"
    return hidden + state


def kept(store, setting, expected, state=STATE):
    one = save(store, program(setting, expected, state))
    return one, store.groups(one.id)


def others_of(groups):
    """All but the definitions, where a text may be the same object as another, or not."""
    return [group for group in groups if group.number != 0]


def test_what_is_alone_is_taken_from_the_helper():
    store = MemoryStore()
    one, _ = kept(store, HELPED, ["numbers", "points", "records"])
    check = "result = [records[7]['tags'] == ['a', 'c7'], type(points[2]) is Point and points[2].at == [2], numbers == {1, 2, 3, 4}, bool(big[-1] == 299_999)]"
    assert load(store, one.id, check)[1] == [True] * 4


@pytest.mark.parametrize("setting", [ONE_CORE, NO_PROCESS, DIES, DIES_LOOKING, DIES_MIDWAY, NO_ROOM])
def test_without_the_helper_the_checkpoint_is_the_same(setting):
    store = MemoryStore()
    _, helped = kept(store, HELPED, ["numbers", "points", "records"])
    other, alone = kept(store, setting, [])
    assert others_of(alone) == others_of(helped)
    assert other.added == next(group.parts[0].size for group in alone if group.number == 0)


@pytest.mark.parametrize(
    ("expected", "state"),
    [
        ([], "a = [[], 1, 2]; b = [a[0], 1, 2]"),
        ([], "import numpy as np; a = [np.zeros(5_000), 1, 2]"),
        ([], "a = [open('/dev/null'), 1, 2]"),
        ([], "inner = []\ndef f(): return inner\na = [inner, 1, 2]"),
        (["a", "d"], "a = [1, 2, 3]; b = [[], 1, 2]; c = b[0]; d = [4, 5, 6]"),
    ],
)
def test_what_is_not_alone_or_not_a_stream_is_pickled_again(expected, state):
    store = MemoryStore()
    helped, groups = kept(store, HELPED, expected, state)
    alone, others = kept(store, ONE_CORE, [], state)
    assert groups == others
    assert (helped.names, helped.skipped) == (alone.names, alone.skipped)


@pytest.mark.parametrize(
    ("expected", "state", "check"),
    [
        (["c"], "a = [[n] for n in range(9)]; b = a[4]; c = [[n] for n in range(9)]", "a[4] is b and b == [4]"),
        ([], "a = [[n] for n in range(9)]; b = [a, 1]", "b[0] is a and a[4] == [4]"),
        ([], "a = b = [[n] for n in range(9)]", "a is b and a[4] == [4]"),
        ([], "a = {n: [n] for n in range(9)}\ndef f(found=a): return found", "f() is a and a[4] == [4]"),
        (["a"], "a = [[n] for n in range(9)]; a[4].append(a)", "a[4][1] is a"),
        (["a", "c"], "a = [[n] for n in range(9)]; c = dict(enumerate('text' + str(n) for n in range(9)))", "c[8] == 'text8'"),
        (["a", "c"], "a = [[n] for n in range(9)]; class_ = type('class_', (), {}); c = [class_()] * 9", "c[0] is c[8] and type(c[0]) is class_"),
    ],
)  # fmt: skip
def test_what_seems_plain_is_looked_at(expected, state, check):
    store = MemoryStore()
    one, groups = kept(store, IN_THE_MIDDLE, expected, state)
    _, others = kept(store, IN_THE_MIDDLE + "os.sched_getaffinity = lambda _: {0}\n", [], state)
    assert others_of(groups) == others_of(others)
    assert load(store, one.id, f"result = bool({check})")[1] is True


def test_a_writer_whose_helper_is_stuck_ends():
    """What is not wanted of it is not waited for."""
    state = (
        "class Slow:\n    def __reduce__(self):\n        import os, time\n"
        "        if os.getpid() != me: time.sleep(3600)\n        return Slow, ()\n"
        "import os; me = os.getpid(); a = [[], Slow(), 2]; b = [a[0]]\n"
    )
    one = save(MemoryStore(), program(HELPED, [], state))
    assert {"a", "b"} <= set(one.names)
