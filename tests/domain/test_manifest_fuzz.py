"""Manifests and policies by chance: what people and strangers may write is read, or ``Invalid``, within bounded time.

``make fuzz`` runs more of the same.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.limits import FLOORS
from kernel_runtime.domain.manifest import Anchors, Manifest, parse_manifest, parse_notebook, parse_pyproject
from kernel_runtime.domain.policy import Source, parse_policy_file
from kernel_runtime.domain.rules import Layer
from kernel_runtime.domain.scopes import Kind, parse_scope
from kernel_runtime.domain.tables import (
    ConditionTable,
    ManifestTable,
    PermissionTable,
    QuotaTable,
    RuleTable,
    SecurityTable,
    UiTable,
)
from tests.domain import test_manifest, test_policy

if TYPE_CHECKING:
    from collections.abc import Iterator

ANCHORS = Anchors("/srv/app", "/home/ann")


@contextmanager
def bounded() -> Iterator[None]:
    """Whatever it says, it says so without being waited for: a bound that no machine comes near."""
    begun = time.process_time()
    yield
    assert time.process_time() - begun < 30


def app(text: str) -> Manifest | None:
    """What becomes of an ``app.toml``; None: it is ``Invalid``, and it is told where."""
    try:
        with bounded():
            manifest = parse_manifest(text, "app.toml", ANCHORS)
    except Invalid as error:
        assert str(error).startswith("app.toml:")
        return None
    check_manifest(manifest)
    return manifest


def policy(text: str) -> Source | None:
    """What becomes of a ``policy.toml``, in the same way."""
    try:
        with bounded():
            source = parse_policy_file(text, "policy.toml", Layer.USER, ANCHORS)
    except Invalid as error:
        assert str(error).startswith("policy.toml:")
        return None
    for rule in source.rules:
        assert parse_scope(str(rule.scope)) == rule.scope
    return source


def check_manifest(manifest: Manifest) -> None:
    """What was read makes sense: amounts that are finite and enough, scopes that may be said again."""
    for name, amount in manifest.limits.items():
        assert amount is None or (isinstance(amount, int | float) and FLOORS[name] <= amount < math.inf)
    assert manifest.storage is None or 0 <= manifest.storage < math.inf
    for ask in manifest.asks or ():
        assert parse_scope(str(ask.scope)) == ask.scope


# -- texts -----------------------------------------------------------------------------------------------

_bits = st.sampled_from(
    ['"', "'", '"""', "=", ".", "[", "]", "[[", "]]", "{", "}", ",", "#", "\n", "\\", "-", "*", ":", "/", "0", "inf"]
)  # fmt: skip
_changes = st.lists(
    st.tuples(st.integers(0, 2_000), st.integers(0, 12), _bits | st.text(max_size=8)), min_size=1, max_size=5
)


def changed(text: str, changes: list[tuple[int, int, str]]) -> str:
    """With pieces of it replaced by others."""
    for place, length, piece in changes:
        at = place % len(text)
        text = text[:at] + piece + text[at + length :] or " "
    return text


@given(_changes)
def test_a_manifest_that_was_whole_once(changes: list[tuple[int, int, str]]) -> None:
    app(changed(test_manifest.WHOLE, changes))


@given(_changes)
def test_a_policy_that_was_whole_once(changes: list[tuple[int, int, str]]) -> None:
    policy(changed(test_policy.WHOLE, changes))


@given(st.text(max_size=200) | st.lists(_bits | st.sampled_from(["id", "a", "allow", "limits"])).map("".join))
def test_any_text(text: str) -> None:
    app(text)
    policy(text)


# -- tables ----------------------------------------------------------------------------------------------


def words(*kinds: Any) -> st.SearchStrategy[str]:
    """The keys of these tables, and any other."""
    known = sorted({name for kind in kinds for name in kind.__struct_fields__})
    return st.sampled_from(known) | st.text(max_size=8)


_said = st.sampled_from([
    *Kind, "a", "1.0", "512M", "30s", "1000/day", "60/min", "Mon-Fri 08:00-18:00", "hour", "strict", "example.org",
    "*.example.org", "./data/**", "~/x", "GET", "read",
    "../..", "a:b", "[::1]", "%00",
])  # fmt: skip
_numbers = st.integers() | st.floats() | st.integers(0, 10).map(lambda n: 10 ** (n * n))
_plain = _said.map(str) | st.text(max_size=20) | st.booleans() | _numbers
_keys = words(
    ManifestTable, PermissionTable, SecurityTable, UiTable, RuleTable, ConditionTable, QuotaTable
) | st.sampled_from(sorted(FLOORS))
_values = st.recursive(
    _plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)


def one_of(**values: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A table with some of its keys as they are meant; now and then one of them, or another, is anything."""
    right = st.fixed_dictionaries({}, optional=values)
    wrong = st.dictionaries(st.sampled_from(sorted(values)) | _keys, _values, max_size=1)
    return right | right | st.builds(lambda a, b: a | b, right, wrong)


def several(*texts: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(texts), max_size=3)


_scopes = st.sampled_from([
    "cache", "clock", "net:example.org", "net:*.example.org:443/GET", "files:read:/srv/**", "files:write:~/x",
    "secret:K", "env:HOME", "db:x:read", "call:a.b", "events:publish:a.*", "process", "ui:chart",
])  # fmt: skip
_conditions: dict[str, Any] = {
    "when": st.sampled_from(["Mon-Fri 08:00-18:00", "Sat 22:00-02:00 UTC"]),
    "until": st.datetimes(timezones=st.timezones() | st.just(dt.UTC)),
    "rate": st.sampled_from(["60/min", "1/s"]),
    "quota": one_of(calls=st.integers(0), bytes=st.just("10M"), per=st.just("day")),
    "arguments": st.dictionaries(st.text(max_size=5), st.sampled_from(["/v1/*", "x"]), max_size=2),
    "tenants": several("red", "blue"),
}
_more = {"conditions": one_of(**_conditions), "reason": st.text(max_size=20)}
_permission = st.one_of(
    one_of(type=st.just("net"), resource=st.just("a.example.org"), actions=several("GET", "post"), **_more),
    one_of(type=st.just("files"), resource=st.just("./data/**"), actions=several("read", "write"), **_more),
    one_of(type=st.sampled_from(sorted(Kind)), resource=_said, actions=several("read", "GET"), **_more),
).map(lambda table: {"type": "cache"} | table)
_limits = st.dictionaries(
    st.sampled_from(["memory", "disk", "network", "storage"]),
    st.sampled_from(["512M", "1G", 2**30]),
    max_size=3,
)
_manifests = one_of(
    id=st.just("a"),
    name=st.text(max_size=20),
    version=st.just("1.0"),
    permissions=st.lists(_permission, max_size=2),
    limits=_limits | st.dictionaries(st.sampled_from(sorted(FLOORS)), _plain, max_size=1),
    ui=one_of(title=_said, panels=several("chart", "table")),
    security=one_of(
        level=st.just("strict"), allowed_domains=several("*.example.org"), blocked_apis=several("os.system")
    ),
)
_rule = one_of(reason=st.text(max_size=20), **_conditions)
_rules = st.lists(
    _scopes | st.builds(lambda table, scope: {"scope": scope} | table, _rule, _scopes), max_size=2
)
_policies = one_of(
    default=st.just("deny"),
    allow=_rules,
    ask=_scopes.map(lambda s: [s]),
    deny=_rules,
    trusted_projects=several("~/a"),
)


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")
    return value.isoformat() if isinstance(value, dt.datetime) else repr(value)


def written(table: dict[str, Any]) -> str:
    return "".join(f"{toml(key)} = {toml(value)}\n" for key, value in table.items())


@given(_manifests)
def test_any_table_of_a_manifest(table: dict[str, Any]) -> None:
    app(written({"id": "a"} | table))


@given(_policies)
def test_any_table_of_a_policy(table: dict[str, Any]) -> None:
    policy(written(table))


@given(_manifests | _values)
def test_any_table_elsewhere(table: Any) -> None:
    """In the metadata of a notebook, and among the tools of a project."""
    notebook = json.dumps({"metadata": {"kernel_runtime": table}}, default=str)
    project = f"[tool]\nkernel-runtime = {toml(table)}\n"
    for read in (
        lambda: parse_notebook(notebook, "r.ipynb", "r", ANCHORS),
        lambda: parse_pyproject(project, "pyproject.toml", ANCHORS),
    ):
        try:
            with bounded():
                check_manifest(read())
        except Invalid as error:
            assert str(error).startswith(("r.ipynb:", "pyproject.toml:"))


def test_the_tables_of_chance_are_read_where_they_are_right() -> None:
    """The control: that writer's TOML is TOML, and what is meant in the tables above is valid."""
    until = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    conditions = {"rate": "60/min", "when": "Mon-Fri 08:00-18:00", "until": until}
    asked = {"type": "net", "resource": "example.org", "actions": ["GET"], "conditions": conditions}
    manifest = app(written({"id": "a", "permissions": [asked], "limits": {"memory": "512M", "cpu": 1e1}}))
    assert manifest is not None
    assert manifest.asks is not None
    assert len(manifest.asks) == 1
    source = policy(written({"allow": ["secret:K", {"scope": "net:example.org:443/GET", **conditions}]}))
    assert source is not None
    assert len(source.rules) == 2


# -- what takes long where it is read carelessly ---------------------------------------------------------

_MISTAKE = '\nid = "a"\nno_such_key = 1\n'
LONG = {
    "digits": f"id = {'9' * 50_000}",
    "digits of a limit": f'id = "a"\nlimits = {{ memory = {"9" * 4_000} }}',
    "spaces after a bracket": f'name = """\n[{" " * 100_000}\n"""{_MISTAKE}',
    "spaces after two": f'name = """\n[[ a {" " * 100_000}\n"""{_MISTAKE}',
    "spaces after a key": f'name = """\na{" " * 100_000}\n"""{_MISTAKE}',
    "parts of a key": f'name = """\n{"a." * 100_000}\n"""{_MISTAKE}',
    "quotes": f'name = """\n{chr(39) * 100_000}\n"""{_MISTAKE}',
    "brackets": "a = " + "[" * 100_000,
    "braces": "a = " + "{a=" * 100_000,
    "a long key": f'id = "a"\n{"k" * 200_000} = 1',
    "a long word": f'id = "a"\n[limits]\nmemory = "{"9" * 200_000}"',
    "parents": f'id = "a"\npermissions = [{{ type = "files", resource = "/{"../" * 50_000}", actions = ["read"] }}]',
    "stars": f'id = "a"\npermissions = [{{ type = "net", resource = "{"*." * 50_000}x" }}]',
    "an entry": f'id = "a"\nentry_points = {{ a = "{"a." * 50_000}" }}',
    "a window": f'allow = [{{ scope = "cache", when = "{"Mon-" * 50_000}" }}]',
    "a pattern": f'allow = [{{ scope = "cache", arguments = {{ a = "{"*a" * 50_000}" }} }}]',
    "colons": f'allow = ["{":" * 100_000}"]',
}


@pytest.mark.parametrize("what", LONG)
def test_nothing_takes_long(what: str) -> None:
    assert app(LONG[what]) is None
    assert policy(LONG[what]) is None
