"""Level strict's language: refusals name construct and line, in the source and while it runs."""

from __future__ import annotations

import ast
import contextlib
import re
import warnings
from importlib.metadata import requires, version
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_runtime import wire
from kernel_runtime.guest.check_rules import default_policy
from kernel_runtime.guest.restricted import Language, PolicyError

if TYPE_CHECKING:
    from tests.guest.conftest import Host


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
    text = outcome.traceback
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
    text = strict.run("x = 'äöü'; eval('1')").traceback
    line, caret = text.splitlines()[1:3]
    assert caret.index("^") == line.index("eval")


def test_other_lines_are_named_too(strict: Host) -> None:
    text = strict.run("import ctypes\nx = 1\neval('2')\nexec('3')").traceback
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
    text = outcome.traceback
    assert message in text
    assert "restricted_guards" not in text
    assert "string.py" not in text
    assert "Cell In[1], line" in text


def test_an_import_refused_while_it_runs_is_an_import_error(strict: Host) -> None:
    code = "def guard(): return getattr\nload = [].append\nimport sys\nname = 'modules'\ngetattr(sys, name)"
    assert strict.run(code).error == "PolicyRefusal"
    language = "from kernel_runtime.guest.restricted_guards import Guards"
    assert strict.run(language).error == "PolicyError"


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


def test_it_may_ask_for_a_line(strict: Host) -> None:
    name = strict.start("input('name? ')")
    ask = strict.until(lambda frame: isinstance(frame, wire.Ask))[-1]
    strict.send(wire.Answer(id=ask.id, text="Ada"))
    assert strict.finish(name).result == "'Ada'"


def test_releases_with_known_advisories_are_not_taken() -> None:
    """CVE-2026-76825 and those before it are mended in 8.4."""
    (wanted,) = [text for text in requires("kernel-runtime") or [] if text.startswith("restrictedpython")]
    assert ">=8.4" in wanted
    assert tuple(map(int, version("RestrictedPython").split(".")[:2])) >= (8, 4)


def test_other_levels_have_all_of_python_and_do_not_pay(guest: Host) -> None:
    assert guest.run("eval('1 + 1')").result == "2"
    loaded = "import sys; [m for m in sys.modules if m.startswith(('RestrictedPython', 'kernel_runtime.guest.restr'))]"
    assert guest.run(loaded).result == "[]"
