"""The check: names followed to where they come from, places right, and nothing makes it crash."""

from __future__ import annotations

import ast
import time
from itertools import pairwise

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kernel_runtime.domain.check import MAX_SOURCE, Checker, Finding
from kernel_runtime.domain.check_cells import split
from kernel_runtime.domain.check_policy import (
    Joined,
    Policy,
    Section,
    Severity,
    Tightened,
    check_table,
    parse_policy,
    parse_section,
    promised,
)
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.guest.check_rules import default_policy

OWN = parse_policy(
    """
[check]
block = [
  { call = "os.system", suggestion = "use shutil" },
  { call = "os.exec*" },
  { module = "ctypes" },
  { module = "sub", severity = "warning" },
  { name = "eval" },
  { name = "__globals__" },
  { call = "*.to_pickle", severity = "info" },
  { magic = "!", severity = "warning" },
  { magic = "bash" },
]
allow = ["ctypes.util"]
""",
    "own.toml",
)


def found(source: str, policy: Policy = OWN) -> list[str]:
    return [f"{f.line}:{f.column} {f.severity} {f.message}" for f in Checker(policy).source(source)]


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("import os\nos.system('x')", "2:1 error uses os.system"),
        ("import os as o\n\n  \no.system('x')", "4:1 error uses os.system (as o.system)"),
        ("from os import system as s", "1:16 error imports os.system"),
        ("def f():\n    import os\n    return os.execv", "3:12 error uses os.execv"),
        ("import os\nf = os\ng = f.system", "3:5 error uses os.system (as f.system)"),
        ("import os\ngetattr(os, 'system')('ls')", "2:1 error uses os.system (by getattr)"),
        ("__import__('os').system", "1:1 error uses os.system"),
        ("import importlib\nimportlib.import_module('os').system", "2:1 error uses os.system"),
        ("import importlib\nimportlib.import_module('ctypes.wintypes')", "2:1 error imports ctypes.wintypes"),
        ("import sys\nsys.modules['os'].system", "2:1 error uses os.system"),
        ("if (o := __import__('os')): o.system", "1:29 error uses os.system (as o.system)"),
        ("import ctypes", "1:1 error imports ctypes"),
        ("import json, ctypes.wintypes as w", "1:1 error imports ctypes.wintypes"),
        ("from ctypes import CDLL", "1:1 error imports ctypes"),
        ("import sub.part", "1:1 warning imports sub.part"),
        ("eval('1')", "1:1 error uses eval"),
        ("import builtins\nbuiltins.eval", "2:1 error uses eval"),
        ("__builtins__.eval", ""),
        ("f.__globals__", "1:1 error uses the attribute __globals__"),
        ("getattr(f, '__globals__')", "1:1 error uses __globals__ (by getattr)"),
        ("df.to_pickle('x')", "1:1 info uses df.to_pickle"),
        ("from math import *", "1:1 info imports every name of math"),
        (
            "import importlib\nimportlib.import_module(n)",
            "2:1 warning imports a module whose name is computed",
        ),
        ("import os\ngetattr(os, n)", "2:1 info takes a computed attribute of os"),
        # not meant
        ("import ctypes.util", ""),
        ("from ctypes import util", ""),
        ("def f(os): return os.system", ""),
        ("os = thing()\nos.system", ""),
        ("def eval(x): return x\neval(1)", ""),
        ("df.eval('a')", ""),
        ("import subtle", ""),
        ("x = 'os.system'", ""),
    ],
)
def test_one_finding_each(source: str, finding: str) -> None:
    assert found(source) == ([finding] if finding else []), found(source)


def test_cells_know_what_earlier_cells_imported() -> None:
    checker = Checker(OWN)
    assert checker.source("import os as o\nalias = o.path", 1) == []
    (finding,) = checker.source("o.system('x')", 2)
    assert (finding.cell, finding.line, finding.what, finding.rule) == (2, 1, "os.system", "call os.system")
    assert finding.suggestion == "use shutil"
    assert checker.source("o = 1", 3) == []


def test_magics_and_shell_lines() -> None:
    source = "x = 1\n!rm -r \\\n  y\nfor i in x:\n    files = !ls {i}\ndf?\n?df\n%time eval('1')\ntext = '''\n!no\n%no\n'''\n(1,\n %x\n)"
    with pytest.raises(Invalid, match="line 14"):  # within brackets it is no magic but an error
        found(source)
    source = source.rpartition("(1,")[0]
    assert found(source) == [
        "2:1 warning a shell line (!) is used",
        "5:13 warning a shell line (!) is used",
        "8:7 error uses eval",
    ]
    assert found("%%bash\nrm x\nif [ 1 ]; then") == ["1:1 error the magic bash is used"]
    assert found("\n%%time\nx = 1\neval('2')") == ["4:1 error uses eval"]
    assert found("%timeit -n 3 -r2 eval('1')") == ["1:18 error uses eval"]
    assert found("%%sandbox --memory 1G\neval('1')") == ["2:1 error uses eval"]
    assert found("%%html\n<b> 1 +") == []


def test_a_modulo_is_no_magic() -> None:
    assert split("x = (1\n% 2)\ny = 7 \\\n% 3\n").magics == []
    assert Checker(OWN).source("print(7\n% 3)") == []


def test_lines_stay_where_they_are() -> None:
    source = "%matplotlib inline\n!a \\\nb\nx = !c\n"
    python = split(source).python
    assert len(python.split("\n")) == len(source.split("\n"))
    ast.parse(python)


def test_plain_files_have_no_magics() -> None:
    with pytest.raises(Invalid, match="line 1"):
        Checker(OWN).source("!ls", plain=True)


@pytest.mark.parametrize(
    "source",
    [
        "def f(:",
        "x = '",
        "\x00",
        "1" * 5000,
        "(" * 500,
        "\ud800",
        "x = " + "-" * 50_000 + "1",
        "#" * (MAX_SOURCE + 1),
    ],
    ids=["syntax", "string", "null", "digits", "brackets", "surrogate", "depth", "size"],
)
def test_what_cannot_be_parsed_is_said(source: str) -> None:
    with pytest.raises(Invalid):
        Checker(OWN).source(source)


def test_aliases_in_circles_end() -> None:
    assert found("a = b\nb = a\na.system\na = a.a\nc = c()\nc.x") == []
    deep = "import os\na0 = os\n" + "\n".join(f"a{i} = a{i - 1}" for i in range(1, 400)) + "\na399.system"
    assert found(deep) == ["402:1 error uses os.system (as a399.system)"]


def test_many_meanings_of_many_names_take_no_time() -> None:
    names = [f"n{i}" for i in range(30)]
    lines = [f"{a} = {b}.x{k} if {b} else {b}({b})" for a, b in pairwise(names) for k in range(16)]
    began = time.process_time()
    found("\n".join([*lines, "n0.system", "eval('1')"]))
    assert time.process_time() - began < 5


def test_long_chains_are_read() -> None:
    assert found("x" + ".a" * 200 + "\neval('1')") == ["2:1 error uses eval"]
    assert found(" + ".join(["x"] * 200) + "\neval('1')") == ["2:1 error uses eval"]


PIECES = st.sampled_from(
    ["import os", "as", "from", "import", "*", "os.system", "(", ")", "[", "]", "{", "}", "'", '"""', "\n", "    ", ":", "=", "def f",
     "class A", "lambda", "eval", "!ls", "%time ", "%%bash\n", "?", "getattr", "__import__", ",", "\\\n", "#", "f'", "match x", "case _",
     "with", "async", "await", "x", ".", ":=", "global os", "\t", "\r", "é", "\x00", "\ud800", "try", "except*", "@", "1"]
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.text(max_size=300),
        st.lists(PIECES, max_size=40).map(" ".join),
        st.lists(PIECES, max_size=40).map("".join),
    )
)
@example("%")
@example("%%")
@example("!\\")
@example("'''\\")
def test_no_source_crashes_it(source: str) -> None:
    cell = split(source)
    assert cell.python.count("\n") == source.count("\n")
    checker = Checker(default_policy())
    try:
        findings = checker.source(source)
    except Invalid:
        return
    lines = source.count("\n") + 1
    for finding in findings:
        assert isinstance(finding, Finding)
        assert 1 <= finding.line <= max(lines, len(source.splitlines()) + 1)
        assert finding.column >= 1


# -- policies ------------------------------------------------------------------------------------


def test_the_policy_of_the_package_is_sound() -> None:
    policy = default_policy()
    assert len(policy.rules) > 60
    assert [rule.pattern for rule in policy.rules if not rule.suggestion] == []
    assert len({(rule.kind, rule.pattern) for rule in policy.rules}) == len(policy.rules)
    assert found("import os, subprocess\nos.fork()\nget_ipython().system('ls')", policy) == [
        "1:1 error imports subprocess",
        "2:1 error uses os.fork",
        "3:1 warning uses get_ipython().system",
    ]
    ordinary = "import pandas as pd, numpy as np, json\nfrom pathlib import Path\ndf = pd.read_csv('x')\ndf['a'] += 1\nPath('y').write_text(json.dumps({}))\nprint(df.eval('a'), f'{df.a}')\n%matplotlib inline\ndf.plot()"
    assert found(ordinary, policy) == []


def test_own_rules_come_first_and_the_package_s_can_be_left_out() -> None:
    base = default_policy()
    softer = parse_policy('[check]\nblock = [{module = "ctypes", severity = "info"}]', "p", base)
    rule = softer.find("module", "ctypes.util")
    assert rule is not None
    assert rule.severity is Severity.INFO
    assert softer.find("module", "subprocess")
    assert parse_policy('[check]\nallow = ["subprocess"]', "p", base).find("module", "subprocess") is None
    alone = parse_policy("[check]\ndefault = false", "p", base)
    assert alone.rules == ()


def section(text: str, **changed: bool) -> Section:
    parsed = parse_section("[check]\n" + text, "p")
    assert parsed is not None
    return msgspec.structs.replace(parsed, **changed)


def test_of_several_files_the_stricter_wins_and_nobody_lifts_another_s_rule() -> None:
    grave = section('block = [{name = "input"}]')
    light = section('block = [{name = "input", severity = "info"}]\nallow = ["subprocess"]')
    lifting = section('allow = ["input", "ctypes"]\ndefault = false')
    for order in ([grave, light, lifting], [lifting, light, grave]):
        policy = Joined(default_policy(), order)
        rule = policy.find("name", "input")
        assert rule is not None
        assert rule.severity is Severity.ERROR
        assert not policy.allows("input")
        assert policy.find("module", "subprocess") is None, "one that is trusted lifts the package's"
        assert policy.find("module", "socket") is None, "and leaves them out"
        assert policy.allows("ctypes.util")
    assert parse_section('allow = ["cache"]', "p") is None


def test_what_nobody_trusts_only_tightens() -> None:
    text = 'block = [{name = "input"}, {module = "ctypes", severity = "info"}]\nallow = ["subprocess"]\ndefault = false'
    policy = Joined(default_policy(), [section(text, trusted=False)])
    assert policy.find("name", "input") is not None
    assert policy.find("module", "subprocess") is not None
    assert not policy.allows("subprocess")
    rule = policy.find("module", "ctypes")
    assert rule is not None
    assert rule.severity is Severity.ERROR
    trusted = Joined(default_policy(), [section(text)])
    assert trusted.find("module", "subprocess") is None
    promises = Tightened(policy, promised(["math"]))
    assert promises.find("module", "math") is not None
    assert promises.find("module", "subprocess") is not None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"block": [{"name": "a*b*"}]}, "more than 1 star"),
        ({"block": [{"name": f"n{n}"} for n in range(257)]}, "more than 256 rules"),
    ],
)
def test_what_nobody_trusts_is_read_quickly(table: dict[str, object], message: str) -> None:
    check_table(table, "", "p")
    with pytest.raises(Invalid, match=message):
        check_table(table, "", "p", trusted=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[check]\nblock = [{]", r"p\.toml: not valid TOML: .*line 2"),
        ("[chek]\n", r"p\.toml:1: no key is called 'chek'; did you mean 'check'\?"),
        ("\n[check]\nblok = []", r"p\.toml:3: check: no key is called 'blok'; did you mean 'block'\?"),
        ('[check]\nblock = [\n {modul = "x"}]', r"p\.toml:3: check\.block\[0\]: no key is called 'modul'; did you mean 'module'\?"),
        ('[check]\nblock = [{module="a", name="b"}]', r"p\.toml:2: check\.block\[0\]: has to have one of .*; it has module and name"),
        ('[check]\nblock = [{severity="error"}]', r"it has none"),
        ('[check]\nblock = [\n{name="a", severity="eror"}]', r"p\.toml:3: check\.block\[0\]\.severity: 'eror' is no severity; did you mean 'error'\?"),
        ('[check]\nblock = [{name=3}]', r"p\.toml:2: check\.block\[0\]\.name: is to be text"),
        ('[check]\nblock = "os"', r"p\.toml:2: check\.block: is to be a list"),
        ("check = 3", r"p\.toml:1: check: is to be a table"),
        ("[check]\ndefault = 1", r"p\.toml:2: check\.default: is to be true or false"),
        ("[check]\nallow = [1]", r"check\.allow: is to be text"),
        ('[check]\nblock = [{call="*a*b*c*d*"}]', r"more than 3 stars"),
        ('[check]\nblock = [{name="a", suggestion=1}]', r"suggestion: is to be text"),
    ],
)  # fmt: skip
def test_a_malformed_policy_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse_policy(text, "p.toml")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200), st.text(alphabet="abc.*_", max_size=30))
def test_any_policy_is_read_or_refused(text: str, path: str) -> None:
    for policy in (text, f"[check]\nblock = [{{name = {text!r}}}]", f"[check]\nallow = [{text!r}]"):
        try:
            parsed = parse_policy(policy, "p")
        except Invalid:
            continue
        for kind in ("module", "name", "call", "magic"):
            parsed.find(kind, path)
        parsed.speaks_of(path)


def test_one_file_may_hold_the_rules_for_capabilities_too() -> None:
    text = (
        'default = "deny"\nallow = ["net:example.org", { scope = "cache" }]\n[check]\nallow = ["subprocess"]'
    )
    assert parse_policy(text, "p").allow == ("subprocess",)


@pytest.mark.parametrize("text", ['allow = ["multiprocessing"]', "deny = [{ module = 'os' }]", "ask = [3]"])
def test_what_belongs_below_check_is_not_lost_beside_it(text: str) -> None:
    with pytest.raises(Invalid, match=r"p:1: (allow|deny|ask): .* below \[check\]"):
        parse_policy(text, "p")
