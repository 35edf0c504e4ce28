"""What may come next in a manifest that is being written: the words that it is read with."""

from __future__ import annotations

import pytest

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import OF_APPS, Limits
from kernel_runtime.domain.manifest import Anchors, parse_manifest
from kernel_runtime.domain.manifest_words import METHODS, Next, following
from kernel_runtime.domain.scopes import ACTIONS, Kind
from kernel_runtime.domain.tables import ConditionTable, ManifestTable, PermissionTable, SecurityTable

TOP = list(ManifestTable.__struct_fields__)
KINDS = [str(kind) for kind in Kind]
OF_PERMISSIONS = list(PermissionTable.__struct_fields__)
EVENTS = list(ACTIONS[Kind.EVENTS])


def quoted(texts: list[str]) -> list[str]:
    return [f'"{text}"' for text in texts]


def without(names: list[str], *gone: str) -> list[str]:
    return [name for name in names if name not in gone]


@pytest.mark.parametrize(
    ("text", "offers", "word"),
    [
        ("", TOP, ""),
        ("per", TOP, "per"),
        ('name = "x"\nversion = "1"\nde', without(TOP, "name", "version"), "de"),
        ("[limits]\n", [*Limits.__struct_fields__, *OF_APPS], ""),
        ('[limits]\nmemory = "1G"\n\nm', [*without(list(Limits.__struct_fields__), "memory"), *OF_APPS], "m"),
        ('limits = { memory = "1G", ', [*without(list(Limits.__struct_fields__), "memory"), *OF_APPS], ""),
        ("[security]\nle", list(SecurityTable.__struct_fields__), "le"),
        ("[security]\nlevel = ", quoted([*Level]), ""),
        ('[security]\nlevel = "str', [*Level], "str"),
        ("security.level", TOP, "security.level"),
        ("[security]\ndata_encryption = t", ["true", "false"], "t"),
        ("[[permissions]]\n", OF_PERMISSIONS, ""),
        ('[[permissions]]\ntype = "clock"\n[[permissions]]\nty', OF_PERMISSIONS, "ty"),
        ("[[permissions]]\ntype = ", quoted(KINDS), ""),
        ("[[permissions]]\ntype = '", KINDS, ""),
        ('[[permissions]]\ntype = "ev', KINDS, "ev"),
        ('permissions = [\n  { type = "clock" },\n  { type = "', KINDS, ""),
        ('permissions = [{ type = "clock" }, { ty', OF_PERMISSIONS, "ty"),
        ('[[permissions]]\ntype = "events"\nactions = ["publish", "', EVENTS, ""),
        ('[[permissions]]\ntype = "net"\nactions = [', quoted([*METHODS]), ""),
        ('permissions = [{ type = "db", actions = ["r', ["read", "write"], "r"),
        ('[[permissions]]\ntype = "clock"\nactions = ["', [], ""),
        ("[[permissions]]\n[permissions.conditions]\n", list(ConditionTable.__struct_fields__), ""),
        ('[permissions.conditions.quota]\nper = "', ["day", "hour", "total"], ""),
        ("[[permissions]]\nconditions = { quota = { per = ", quoted(["day", "hour", "total"]), ""),
        ("[[per", ["permissions"], "per"),
        ("# a [remark\n[ui]\n", ["title", "panels"], ""),
    ],
)
def test_what_may_come_next(text: str, offers: list[str], word: str) -> None:
    assert following(text) == Next(offers, word)


@pytest.mark.parametrize(
    "text",
    [
        "# le",
        "type ",
        'name = "',
        'name = "x"',
        "[no-such-table]\n",
        "[entry_points]\n",
        "[limits]\nmemory = ",
        'description = """\n[security]\nle',
        'dependencies = ["',
        "limits = { }",
        "]]}}[[[",
    ],
)
def test_where_there_is_nothing_to_say_nothing_is_offered(text: str) -> None:
    assert following(text).offers == []


def test_tables_with_a_header_are_offered_and_are_read() -> None:
    plain = following("[").offers
    assert {"limits", "security", "ui", "entry_points", "permissions.conditions.quota"} <= set(plain)
    assert "permissions" not in plain
    for name in without(plain, "permissions.conditions.arguments"):
        begun = '[[permissions]]\ntype = "clock"\n' if name.startswith("permissions.") else ""
        filled = "calls = 1\n" if name.endswith("quota") else ""
        parse_manifest(f'id = "a"\n{begun}[{name}]\n{filled}', "app.toml", Anchors())
    with pytest.raises(Invalid):  # the control
        parse_manifest('id = "a"\n[permission]\n', "app.toml", Anchors())


def test_any_beginning_of_a_manifest_is_read() -> None:
    whole = (
        'id = "a"\n[[permissions]]\ntype = "net" # [x\nresource = "h"\nactions = ["GET", \'POST\']\n'
        'conditions = { quota = { calls = 5, per = "day" }, arguments = { a = "*" } }\n[limits]\nmemory = "1G"\n'
    )
    parse_manifest(whole, "app.toml", Anchors())
    for end in range(len(whole)):
        assert isinstance(following(whole[:end]), Next)
