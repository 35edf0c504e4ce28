"""Ordinary notebooks run at level strict, and IPython stays IPython."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.guest.conftest import Host


ORDINARY = {
    "items": ("d = {'a': 1}; d['a'] += 1; l = [1, 2, 3]; l[1:] = [9]; del l[0]; d['a'], l", "(2, [9])"),
    "in place": ("x = 1; x += 1; x **= 3; x <<= 1; x", "16"),
    "attributes": ("class A: pass\na = A(); a.n = 1; a.n += 2; del_me = a; a.n", "3"),
    "slices": ("'abcdef'[1:5:2], [1, 2, 3][-2:]", "('bd', [2, 3])"),
    "formats": (
        "n = 2.5; f'{n:.2f} {n!r:>5}', '{:>3}|{k}'.format(1, k=2), '{a[0]}'.format_map({'a': [7]})",
        "('2.50   2.5', '  1|2', '7')",
    ),
    "comprehensions": (
        "[i for i in range(3)], {i: -i for i in (1,)}, {1 for _ in 'ab'}, sum(i for i in (1, 2))",
        "([0, 1, 2], {1: -1}, {1}, 3)",
    ),
    "unpacking": ("a, (b, *c) = 1, (2, 3, 4); first, *_ = 'xyz'; a, b, c, first", "(1, 2, [3, 4], 'x')"),
    "stars": (
        "def f(*a, k=0, **kw): return a, k, kw\nf(*[1], 2, **{'k': 3, 'z': 4})",
        "((1, 2), 3, {'z': 4})",
    ),
    "lambda and walrus": ("f = lambda v, /, *, w=1: (u := v + w) * u\nf(1)", "4"),
    "loops": (
        "out = []\nfor i, (a, b) in enumerate([(1, 2)]):\n    out += [i, a, b]\nelse:\n    out += ['e']\nout",
        "[0, 1, 2, 'e']",
    ),
    "generators": (
        "def g():\n    got = yield 1\n    yield from [got, 3]\nit = g(); next(it), it.send(2), next(it)",
        "(1, 2, 3)",
    ),
    "nonlocal": (
        (
            "def f():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n"
            "    return up\nu = f(); u(); u()"
        ),
        "2",
    ),
    "global": ("total = 0\ndef add():\n    global total\n    total += 5\nadd(); total", "5"),
    "classes": (
        (
            "class Base:\n    n: int = 0\n    def __init__(self, v):\n        self._v = v; self.__w = 1\n"
            "        type(self).n += 1\n    @property\n    def v(self):\n        return self._v + self.__w\n"
            "    def __eq__(self, other):\n        return self._v == other._v\n"
            "class Sub(Base):\n    def __init__(self, v):\n        super().__init__(v)\n"
            "s = Sub(4); s._v += 1; s.v, Base.n, Sub.n, s == Sub(5), type(s).__name__"
        ),
        "(6, 0, 1, True, 'Sub')",
    ),
    "dataclasses": (
        (
            "from dataclasses import dataclass, field\n@dataclass(order=True)\nclass P:\n    x: int = 1\n"
            "    y: list = field(default_factory=list)\nP(2) > P(), P(3)"
        ),
        "(True, P(x=3, y=[]))",
    ),
    "enum, abc, namedtuple": (
        (
            "import abc, enum\nfrom collections import namedtuple\nclass C(enum.Enum):\n    R = 1\n"
            "class B(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\n"
            "N = namedtuple('N', 'p q')\nC.R.value, N(1, 2)._replace(p=3)._asdict()"
        ),
        "(1, {'p': 3, 'q': 2})",
    ),
    "decorators": (
        "import functools\n@functools.lru_cache\ndef fib(n): return n if n < 2 else fib(n-1) + fib(n-2)\nfib(30)",
        "832040",
    ),
    "try": (
        (
            "try:\n    1/0\nexcept (ZeroDivisionError, KeyError) as e:\n    out = type(e).__name__\nelse:\n    out = 0\n"
            "finally:\n    done = 1\nout, done"
        ),
        "('ZeroDivisionError', 1)",
    ),
    "except star": (
        (
            "try:\n    raise ExceptionGroup('g', [ValueError(1), KeyError(2)])\nexcept* ValueError as g:\n"
            "    a = len(g.exceptions)\nexcept* KeyError:\n    b = 1\na, b"
        ),
        "(1, 1)",
    ),
    "with": (
        (
            "import contextlib, io\n@contextlib.contextmanager\ndef c():\n    yield 1, 2\n"
            "with c() as (a, b), io.StringIO('t') as f:\n    r = a + b, f.read()\nr"
        ),
        "(3, 't')",
    ),
    "match": (
        (
            "class Pt:\n    __match_args__ = ('x',)\n    def __init__(self, x): self.x = x\n"
            "match {'k': [1, 2, 3], 'p': Pt(4), 'z': 1}:\n    case {'k': [a, *b], 'p': Pt(x=4) as p, **rest} if a: r = a, b, p.x, rest\n"
            "    case 1 | None | 'q': r = 0\n    case _: r = 1\nr"
        ),
        "(1, [2, 3], 4, {'z': 1})",
    ),
    "hints": (
        "from typing import Optional\nx: int = 1\ny: Optional[str]\ndef f(a: 'int', *b: int) -> list[int]: return [a, *b]\nf(x)",
        "[1]",
    ),
    "await": (
        (
            "import asyncio\nasync def agen():\n    for i in range(3):\n        yield i\nclass Ctx:\n"
            "    async def __aenter__(self): return 5\n    async def __aexit__(self, *e): ...\n"
            "async def main():\n    async with Ctx() as c:\n        async for i in agen():\n            c += i\n"
            "    return c, [i async for i in agen()]\nawait main()"
        ),
        "(8, [0, 1, 2])",
    ),
    "builtins": (
        "sorted(zip('ba', reversed([1, 2]))), getattr('x', 'upper')(), hasattr(1, 'nope'), vars(type('T', (), {'a': 1})())",
        "([('a', 1), ('b', 2)], 'X', False, {})",
    ),
    "imports": (
        "import json, re, datetime as dt\nfrom importlib import metadata\nfrom math import sqrt as _root\nre.compile('a').pattern, _root(4)",
        "('a', 2.0)",
    ),
    "own names": ("_mine = 1\nif __name__ == '__main__':\n    _mine += 1\n_mine", "2"),
    "files of its own": (
        "from pathlib import Path\nPath('note').write_text('hi'); open('note').read()",
        "'hi'",
    ),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_code_runs(strict: Host, name: str) -> None:
    code, result = ORDINARY[name]
    outcome = strict.run(code)
    assert outcome.reply["status"] == "ok", outcome.reply
    assert outcome.result == result


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters came with Python 3.12")
def test_type_parameters(strict: Host) -> None:
    code = "type Pair[T] = tuple[T, T]\nclass Box[T]:\n    def __init__(self, v: T): self.v = v\ndef f[T](b: Box[T]) -> T: return b.v\nf(Box(3))"
    assert strict.run(code).result == "3"


def test_pandas_as_people_write_it(strict: Host) -> None:
    code = """
import numpy as np
import pandas as pd
df = pd.DataFrame({"a": [1, 2, 3], "b": list("xyx")})
df["a"] += 1
df.loc[df["a"] > 2, "a"] *= 10
df["c"] = df.a.apply(lambda v: f"{v:>4}")
df.columns = [name.upper() for name in df.columns]
for i, (a, b) in enumerate(df[["A", "B"]].itertuples(index=False)):
    print(i, a, b)
groups = df.groupby("B", as_index=False).agg(total=("A", "sum"))
x = np.arange(6).reshape(2, 3)
x[:, 1:] -= 1
(df.query("A > 1").eval("D = A * 2").assign(E=x.sum()).sort_values("A")[::-1].head(1), groups.shape)
"""
    outcome = strict.run(code, timeout=60)
    assert outcome.text() == "0 2 x\n1 30 y\n2 40 x\n"
    assert outcome.result is not None
    assert "40" in outcome.result
    assert outcome.result.endswith("(2, 2))")


# -- IPython stays IPython -----------------------------------------------------------------------------


def test_history_and_magics(strict: Host) -> None:
    strict.run("del _", count=100)  # a cell before this one bound it: IPython keeps what is the user's
    strict.run("41", count=101)
    assert strict.run("_ + 1, _101, Out[101], In[-2]", count=102).result == "(42, 41, 41, '41')"
    assert "Wall time" in strict.run("%time sum(range(9))").text()
    assert "per loop" in strict.run("%%timeit -n1 -r1 t = 1\nt += 1").text()
    assert strict.run("%%capture kept\nprint(5)\n").reply["status"] == "ok"
    assert strict.run("kept.stdout").result == "'5\\n'"
    assert strict.run("%matplotlib inline").reply["status"] == "ok"
    payload = strict.run("len?").reply["payload"]
    assert "Return the number of items" in payload[0]["data"]["text/plain"]


@pytest.mark.parametrize(
    "magic", ["%timeit -n1 -r1 eval('1')", "%time eval('1')", "%%time\nx = 1\neval('1')"]
)
def test_code_within_magics_is_restricted_too(strict: Host, magic: str) -> None:
    outcome = strict.run(magic)
    assert outcome.error == "PolicyError"
    assert "uses eval" in outcome.traceback


def test_tracebacks_keep_lines_and_sources(strict: Host) -> None:
    text = strict.run(
        "import json\ndef load(text):\n    # a comment\n    return json.loads(text)['k']\n\nload('{}')"
    ).traceback
    assert "Cell In[1], line 6\n" in text
    assert "----> 6 load('{}')" in text
    assert "Cell In[1], line 4, in load(text)" in text
    assert "----> 4     return json.loads(text)['k']" in text
    assert text.endswith("KeyError: 'k'")
    plain = strict.run("x = 1\nx.nothing").traceback
    assert plain.endswith("AttributeError: 'int' object has no attribute 'nothing'")
    assert "restricted" not in plain


def test_long_sums_are_compiled(strict: Host) -> None:
    assert strict.run("x = 1\n" + " + ".join(["x"] * 500)).result == "500"
