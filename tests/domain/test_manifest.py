"""Manifests: what is written is what is asked, and what is wrong is placed by file, line and key."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_runtime.domain.conditions import Conditions, Quota, Rate
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.manifest import (
    Anchors,
    parse_cell,
    parse_manifest,
    parse_notebook,
    parse_pyproject,
    slug,
    undeclared,
)

ANCHORS = Anchors("/srv/app", "/home/ann")
WHOLE = """\
id = "forecast"
name = "Forecast"
version = "1.4.0"
description = "Sales, next week."
entry_points = { main = "forecast.app:main" }
dependencies = ["pandas>=2"]

[limits]
memory = "512M"
cpu = 30
network = "1G"
storage = "10M"
api_calls = "1000/day"

[ui]
title = "Forecast"
panels = ["chart"]

[security]
level = "strict"
allowed_domains = ["*.example.org"]
blocked_apis = ["os.system"]
data_encryption = true

[[permissions]]
type = "net"
resource = "api.example.org"
actions = ["GET", "post"]
reason = "prices"
conditions = { rate = "60/min", arguments = { path = "/v1/*" } }

[[permissions]]
type = "files"
resource = "./data/**"
actions = ["read"]

[[permissions]]
type = "cache"
"""


def test_everything_that_may_be_written_is_read() -> None:
    manifest = parse_manifest(WHOLE, "app.toml", ANCHORS)
    assert manifest.asks is not None
    assert [str(ask.scope) for ask in manifest.asks] == [
        "cache",
        "files:read:/srv/app/data/**",
        "net:api.example.org/GET",
        "net:api.example.org/POST",
    ]
    net = manifest.asks.items[-1]
    assert net.conditions == Conditions(rate=Rate(60, 60.0), arguments=(("path", "/v1/*"),))
    assert (net.place, net.reason) == ("permissions[0]", "prices")
    assert manifest.level is Level.STRICT
    assert manifest.limits == {"memory": 512 * 1024**2, "cpu": 30.0, "network": 1024**3}
    assert manifest.storage == 10 * 1024**2
    assert manifest.calls == Conditions(quota=Quota(calls=1000, per="day"))
    assert manifest.table.entry_points == {"main": "forecast.app:main"}


def test_no_permissions_and_an_empty_list_of_them_are_different() -> None:
    assert parse_manifest('id = "a"', "app.toml", ANCHORS).asks is None
    nothing = parse_manifest('id = "a"\npermissions = []', "app.toml", ANCHORS)
    assert nothing.asks is not None
    assert len(nothing.asks) == 0
    actionless = 'id = "a"\npermissions = [{type = "net", resource = "example.org", actions = []}]'
    asks = parse_manifest(actionless, "app.toml", ANCHORS).asks
    assert asks is not None
    assert len(asks) == 0


def test_the_stamp_changes_with_what_is_asked() -> None:
    one, same = (parse_manifest(WHOLE, name, ANCHORS).stamp for name in ("a", "b"))
    assert one == same
    assert parse_manifest(WHOLE.replace('"GET", ', ""), "a", ANCHORS).stamp != one


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('version = "1.4.0"', 'versoin = "1"', "app.toml:3: versoin: no key is called 'versoin'; did you mean 'version'"),
        ('id = "forecast"', "", "app.toml: the key 'id' is missing at the top"),
        ('id = "forecast"', 'id = "For Cast"', "app.toml:1: id: is to be at most 64 lower-case letters, digits, _, . and -, a letter first, like monthly-report, not 'For Cast'"),
        ("cpu = 30", 'cpu = "soon"', "app.toml:10: limits.cpu: 'soon' is not a time"),
        ("cpu = 30", "cpv = 30", "app.toml:10: limits.cpv: no limit is called 'cpv'; did you mean 'cpu'"),
        ('memory = "512M"', 'memry = ["512M"]', "app.toml:9: limits.memry: no limit is called 'memry'; did you mean 'memory'"),
        ('network = "1G"', 'network = ["1G"]', "app.toml:11: limits.network: is to be text or a number, not a list"),
        ('main = "forecast.app:main"', 'main = "forecast.app:main", rest = "a b"', "app.toml:5: entry_points.rest: is to be a module and a function in it with a colon between, like report.monthly:main, not 'a b'"),
        ('version = "1.4.0"', 'version = "v 1"', "app.toml:3: version: is to be at most 64 letters, digits, ., + and -, a letter or digit first, like 1.2.0, not 'v 1'"),
        ('["chart"]', '["Chart"]', "app.toml:17: ui.panels[0]: is to be at most 64 lower-case"),
        ('path = "/v1/*"', 'path = 1', "app.toml:30: permissions[0].conditions.arguments.path: is to be text, not a whole number"),
        ('memory = "512M"', 'memory = "1K"', "app.toml:9: limits.memory: 1K is below"),
        ('"1000/day"', '"often"', "app.toml:13: limits.api_calls: 'often'"),
        ('level = "strict"', 'level = "strickt"', "app.toml:20: security.level: 'strickt' is not known here; did you mean 'strict'"),
        ('["os.system"]', '[""]', "app.toml:22: security.blocked_apis[0]: ''"),
        ("data_encryption = true", 'data_encryption = "yes"', "app.toml:23: security.data_encryption: is to be true or false, not text"),
        ('type = "net"', 'type = "nett"', "app.toml:26: permissions[0].type: 'nett' is not known here; did you mean 'net'"),
        ('"api.example.org"', '"https://api.example.org"', "app.toml:27: permissions[0].resource:"),
        ('"api.example.org"', '"api.example.com"', "app.toml:27: permissions[0].resource: 'api.example.com' is not among"),
        ('"GET", "post"', '"G T"', "app.toml:28: permissions[0].actions: 'G T' is no method"),
        ('"60/min"', '"60/moon"', "app.toml:30: permissions[0].conditions.rate: '60/moon' is no rate"),
        ("rate =", "rato =", "app.toml:30: permissions[0].conditions.rato: no key is called 'rato'; did you mean 'rate'"),
        ('actions = ["read"]', "", "app.toml:32: permissions[1]: files needs actions: some of read, write"),
        ('actions = ["read"]', 'actions = ["reed"]', "app.toml:35: permissions[1].actions: 'reed' is not an action"),
        ('"./data/**"', '"../data"', "app.toml:34: permissions[1].resource: '../data' is to be an absolute path"),
        ('"./data/**"', '"./data\\u001b[2K"', "app.toml:34: permissions[1].resource: '/srv/app/data\\x1b[2K' is no short line"),
        ('"./data/**"', '"./data/\\u202etxt"', "app.toml:34: permissions[1].resource: '/srv/app/data/\\u202etxt' is no short line"),
        ('type = "cache"', 'type = "cache"\nresource = "x"', "app.toml:39: permissions[2].resource: cache is about"),
        ("[limits]", "[limits", "app.toml: not valid TOML"),
    ],
)  # fmt: skip
def test_a_mistake_is_placed(old: str, new: str, said: str) -> None:
    assert old in WHOLE
    with pytest.raises(Invalid) as caught:
        parse_manifest(WHOLE.replace(old, new), "app.toml", ANCHORS)
    assert str(caught.value).startswith(said)


def test_no_allowed_domains_is_no_network() -> None:
    text = 'id = "a"\nsecurity = { allowed_domains = [] }\npermissions = [{ type = "net", resource = "*" }]'
    with pytest.raises(Invalid, match=r"app.toml:3: permissions.0..resource: '\*' is not among"):
        parse_manifest(text, "app.toml", ANCHORS)


def test_pyproject_lends_name_and_version() -> None:
    text = '[project]\nname = "Fore_Cast"\nversion = "2.0"\n\n[tool.kernel-runtime]\npermissions = []\n'
    manifest = parse_pyproject(text, "pyproject.toml", ANCHORS)
    assert (manifest.id, manifest.version, manifest.asks is not None) == ("fore_cast", "2.0", True)
    with pytest.raises(Invalid, match=r"pyproject.toml:6: permisions: .*did you mean 'permissions'"):
        parse_pyproject(text.replace("permissions", "permisions"), "pyproject.toml", ANCHORS)
    with pytest.raises(
        Invalid, match=r"pyproject.toml:1: the key 'id' is missing in \[tool.kernel-runtime\]"
    ):
        parse_pyproject(text[text.index("[tool") :], "pyproject.toml", ANCHORS)
    with pytest.raises(Invalid, match="no table"):
        parse_pyproject("[project]\nname = 'x'", "pyproject.toml", ANCHORS)


def test_a_notebook_asks_in_its_metadata_beside_its_settings() -> None:
    mine = {"level": "strict", "flood": "end", "permissions": [{"type": "secret", "resource": "KEY"}]}
    text = json.dumps({"metadata": {"kernel_runtime": mine}, "cells": []}, indent=1)
    manifest = parse_notebook(text, "My report.ipynb", "My report", ANCHORS)
    assert manifest.id == "my-report"
    assert manifest.asks is not None
    assert [str(ask.scope) for ask in manifest.asks] == ["secret:KEY"]
    with pytest.raises(Invalid, match=r"r.ipynb:9: permissions\[0\].resurce: .*'resource'"):
        parse_notebook(text.replace("resource", "resurce"), "r.ipynb", "r", ANCHORS)


def test_a_notebook_without_a_table_declares_nothing() -> None:
    for text in (
        "{}",
        '{"metadata": {}}',
        '{"metadata": {"kernel_runtime": {"limits": {"memory": "1G"}}}}',
        "[]",
    ):
        assert parse_notebook(text, "r.ipynb", "r", ANCHORS).asks is None
    with pytest.raises(Invalid, match="not valid JSON"):
        parse_notebook("{", "r.ipynb", "r", ANCHORS)


def test_no_app_can_have_it_that_nothing_is_written_down() -> None:
    with pytest.raises(Invalid, match=r"app.toml:3: security.audit_logging: every decision is written down"):
        parse_manifest('id = "a"\n[security]\naudit_logging = false', "app.toml", ANCHORS)


def test_a_notebooks_table_is_a_table() -> None:
    with pytest.raises(Invalid, match=r"r.ipynb.*: is to be a table, not a list"):
        parse_notebook('{"metadata": {"kernel_runtime": ["cache"]}}', "r.ipynb", "r", ANCHORS)


def test_any_name_has_an_id() -> None:
    assert [slug(name) for name in ("A b", "42", "é", "x" * 99)] == ["a-b", "app", "app", "x" * 64]
    assert undeclared("2nd try").asks is None


@pytest.mark.parametrize(
    ("own", "given", "held"),
    [
        ("strict", "moderate", "strict"),
        ("permissive", "moderate", "moderate"),
        ("moderate", "strict", "strict"),
    ],
)
def test_a_manifest_only_tightens(own: str, given: str, held: str) -> None:
    text = f'id = "x"\nlimits = {{ memory = "1G", pids = 9999 }}\nsecurity = {{ level = "{own}" }}'
    limits, level = parse_manifest(text, "app.toml", Anchors()).tightened(Limits(), Level(given))
    assert (level, limits.memory, limits.pids) == (held, 1 << 30, Limits().pids)


# -- the head of a cell ----------------------------------------------------------------------------------

CELL = """\
%%app prices

# /// app
# version = "2"
#
# [limits]
# memory = "256M"
# [[permissions]]
# type = "net"
# resource = "api.example.org"
# ///
print("hello")
"""


def test_a_cell_has_its_manifest_at_its_head() -> None:
    manifest = parse_cell(CELL, "%%app", "prices", ANCHORS)
    assert (manifest.id, manifest.version, manifest.limits) == ("prices", "2", {"memory": 256 << 20})
    assert manifest.asks is not None
    assert [str(ask.scope) for ask in manifest.asks] == ["net:api.example.org"]
    named = CELL.replace('# version = "2"', '# id = "other"')
    assert parse_cell(named, "%%app", "prices", ANCHORS).id == "other"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%app\nprint(1)\n" + CELL, "%%app: the cell does not begin with its manifest"),
        ("%%app", "does not begin with its manifest: comments from '# /// app' to '# ///'"),
        (CELL.replace("# ///\n", ""), "%%app:3: the manifest has no end: '# ///'"),
        (
            CELL.replace("resource =", "resurce ="),
            r"%%app:10: permissions\[0\].resurce: .*did you mean 'resource'",
        ),
        (CELL.replace('"256M"', '"lots"'), "%%app:7: limits.memory: "),
        (CELL.replace("# [limits]", "# [limits"), "%%app.*line 6"),
    ],
)
def test_what_is_wrong_in_the_head_of_a_cell_is_placed_by_its_line(cell: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        parse_cell(cell, "%%app", "app", ANCHORS)


@given(
    st.lists(
        st.sampled_from(["# /// app", "# ///", "#", "# id = 'a'", "# [limits]", "x = 1", "", "#y", "\x0c"])
    )
)
def test_any_cell_is_read_or_refused(lines: list[str]) -> None:
    try:
        assert parse_cell("\n".join(lines), "%%app", "app", ANCHORS).id
    except Invalid as error:
        assert "%%app" in str(error)
