"""Level strict's language: ordinary notebooks run, refusals name construct and line."""

from __future__ import annotations

import ast
import contextlib
import re
import sys
import warnings
from importlib.metadata import requires, version
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_runtime.guest.check_rules import default_policy
from kernel_runtime.guest.restricted import Language, PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.guest.conftest import Host, Outcome


PIECES = [
    "x",
    "y",
    "f",
    "_z",
    "_",
    "__class__",
    "os",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "=",
    "+=",
    ":=",
    "==",
    ".",
    ".a",
    ".format",
    "._b",
    "*",
    "**",
    "->",
    "lambda",
    "def",
    "class",
    "A:",
    "\n",
    "try:",
    "except*",
    "except:",
    "with",
    "as",
    "for",
    "in",
    "if",
    "else:",
    "match",
    "case",
    "_:",
    "async",
    "await",
    "yield",
    "import",
    "from",
    "global",
    "nonlocal",
    "del",
    "@",
    "'a'",
    "f'{x}'",
    "1",
    "+",
    "not",
    "\n    ",
]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, new_guest: type[Host]) -> Iterator[Host]:
    host = new_guest(str(tmp_path_factory.mktemp("strict")), level="strict")
    yield host
    host.close()


def shown(outcome: Outcome) -> str:
    """The traceback as a person reads it."""
    (error,) = outcome.published("error")
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error["traceback"]))


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


# code, line, what the message says
REFUSED = [
    (
        "x = 1\nx.__class__.__subclasses__()",
        2,
        "the attribute __class__: not allowed at level strict; use type(x)",
    ),
    ("y = (lambda: 0)\n\ny.__globals__", 3, "__globals__"),
    ("def f():\n    return [].__class__", 2, "__class__"),
    ("g = (i for i in ())\ng.gi_frame", 2, "the attribute gi_frame"),
    ("eval('1')", 1, "uses eval: not allowed at level strict; use ast.literal_eval"),
    ("print(1)\nexec('1')", 2, "uses exec"),
    ("compile('1', '', 'eval')", 1, "uses compile"),
    ("__import__('os')", 1, "__import__"),
    ("__builtins__", 1, "__builtins__"),
    ("globals()", 1, "globals"),
    ("import os\nimport ctypes", 2, "imports ctypes"),
    ("import subprocess as sp", 1, "imports subprocess"),
    ("from os import system", 1, "imports os.system"),
    ("import os as o\no.popen('x')", 2, "uses os.popen (as o.popen)"),
    ("import importlib\nimportlib.import_module('os')", 1, "importlib"),
    ("from numpy.ctypeslib import load_library", 1, "numpy.ctypeslib"),
    ("import sys\nsys._getframe()", 2, "sys._getframe"),
    ("from math import *", 1, "from math import *: not allowed at level strict; name what you need"),
    ("import pandas._libs", 1, "the private pandas._libs"),
    ("_guard_ = 1", 1, "the name _guard_"),
    ("def __import__(n): pass", 1, "the name __import__"),
    ("match 1:\n    case int(__class__=c): pass", 2, "__class__ in a pattern"),
    ("!ls -l", 1, "a shell line (!ls -l)"),
    ("files = !ls", 1, "a shell line"),
    ("%run other.py", 1, "the magic %run"),
    ("%%bash\nls", 1, "the magic %bash"),
    ("get_ipython().kernel", 1, "get_ipython"),
    ("import kernel_runtime.guest.restricted", 1, "kernel_runtime"),
]


@pytest.mark.parametrize(("code", "line", "message"), REFUSED, ids=lambda value: repr(value)[:30])
def test_refusals_name_construct_and_line(strict: Host, code: str, line: int, message: str) -> None:
    outcome = strict.run(f"ran = True\n{code}" if not code.startswith("%%") else code)
    assert outcome.error == "PolicyError"
    text = shown(outcome)
    assert message in text
    where = line if code.startswith("%%") else line + 1
    assert re.search(rf"Cell In\[1\], line {where}\n", text)
    assert f"(line {where}" in text
    assert "^" in text
    assert "restricted.py" not in text


def test_nothing_of_a_refused_cell_has_run(strict: Host) -> None:
    strict.run("before = 1")
    assert strict.run("before = 2\neval('3')").error == "PolicyError"
    assert strict.run("before").result == "1"


def test_the_caret_stands_at_the_place_also_behind_other_letters(strict: Host) -> None:
    text = shown(strict.run("x = 'äöü'; eval('1')"))
    line, caret = text.splitlines()[1:3]
    assert caret.index("^") == line.index("eval")


def test_other_lines_are_named_too(strict: Host) -> None:
    text = shown(strict.run("import ctypes\nx = 1\neval('2')\nexec('3')"))
    assert "(line 1; there is more in lines 3, 4)" in text


# -- what only shows while it runs ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("import os\ndef f(m): return m.system\nf(os)", "PolicyRefusal", "os.system: not allowed"),
        ("import os\nname = 'system'\ngetattr(os, name)", "PolicyRefusal", "os.system: not allowed"),
        ("n = '__class__'\ngetattr(1, n)", "PolicyRefusal", "the attribute __class__"),
        ("'{0.__class__}'.format(1)", "PolicyRefusal", "the attribute __class__"),
        ("'{k.__class__}'.format_map({'k': 1})", "PolicyRefusal", "the attribute __class__"),
        ("str.format('{0.__class__}', 1)", "PolicyRefusal", "the attribute __class__"),
        ("f = getattr('{0.__class__}', 'format')\nf(1)", "PolicyRefusal", "the attribute __class__"),
        ("'{0:{1.__class__}}'.format(1, 2)", "PolicyRefusal", "the attribute __class__"),
        ("setattr(1, '__class__', 2)", "PolicyRefusal", "the attribute __class__"),
        ("import json\njson._default_decoder", "PolicyRefusal", "the private attribute _default_decoder"),
        ("import json\njson.loads = print", "PolicyRefusal", "setting loads of the module json"),
        ("import json\nvars(json)", "PolicyRefusal", "vars of a module"),
        (
            "f = type('S', (str,), {'__eq__': lambda *a: True, '__hash__': lambda s: 0})('__class__')\ngetattr(1, f)",
            "TypeError",
            "attribute name must be string",
        ),
    ],
)
def test_guards_refuse_while_it_runs(strict: Host, code: str, error: str, message: str) -> None:
    outcome = strict.run(code)
    assert outcome.error == error
    text = shown(outcome)
    assert message in text
    assert "restricted_guards" not in text
    assert "string.py" not in text
    assert "Cell In[1], line" in text


def test_an_import_refused_while_it_runs_is_an_import_error(strict: Host) -> None:
    code = "def guard(): return getattr\nload = [].append\nimport sys\nname = 'modules'\ngetattr(sys, name)"
    assert strict.run(code).error == "PolicyRefusal"
    language = "from kernel_runtime.guest.restricted_guards import Guards"
    assert strict.run(language).error == "PolicyError"


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
    assert "uses eval" in shown(outcome)


def test_tracebacks_keep_lines_and_sources(strict: Host) -> None:
    text = shown(
        strict.run(
            "import json\ndef load(text):\n    # a comment\n    return json.loads(text)['k']\n\nload('{}')"
        )
    )
    assert "Cell In[1], line 6\n" in text
    assert "----> 6 load('{}')" in text
    assert "Cell In[1], line 4, in load(text)" in text
    assert "----> 4     return json.loads(text)['k']" in text
    assert text.endswith("KeyError: 'k'")
    plain = shown(strict.run("x = 1\nx.nothing"))
    assert plain.endswith("AttributeError: 'int' object has no attribute 'nothing'")
    assert "restricted" not in plain


def test_long_sums_are_compiled(strict: Host) -> None:
    assert strict.run("x = 1\n" + " + ".join(["x"] * 500)).result == "500"


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join))
def test_no_source_breaks_the_language(source: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    try:
        rewritten = Language(default_policy()).restrict(tree, source, "<cell>")
    except PolicyError as error:
        assert error.lineno is not None
        assert error.lineno <= source.count("\n") + source.count("\r") + source.count("\f") + 1
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(SyntaxError):  # "return" outside a function, say
            compile(rewritten, "<cell>", "exec")


def test_an_ordinary_syntax_error_is_python_s_own(strict: Host) -> None:
    assert strict.run("def f(:\n  pass").error == "SyntaxError"


def test_reset_does_not_lift_it(strict: Host) -> None:
    assert strict.run("%reset -f").reply["status"] == "ok"
    assert strict.run("eval('1')").error == "PolicyError"
    assert strict.run("n = '__class__'\ngetattr(1, n)").error == "PolicyRefusal"


def test_releases_with_known_advisories_are_not_taken() -> None:
    """CVE-2026-76825 and those before it are mended in 8.4."""
    (wanted,) = [text for text in requires("kernel-runtime") or [] if text.startswith("restrictedpython")]
    assert ">=8.4" in wanted
    assert tuple(map(int, version("RestrictedPython").split(".")[:2])) >= (8, 4)


def test_other_levels_have_all_of_python_and_do_not_pay(guest: Host) -> None:
    assert guest.run("eval('1 + 1')").result == "2"
    loaded = "import sys; [m for m in sys.modules if m.startswith(('RestrictedPython', 'kernel_runtime.guest.restr'))]"
    assert guest.run(loaded).result == "[]"
