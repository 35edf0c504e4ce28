"""The reference pages, proven against the code."""

from __future__ import annotations

import re

import click
import pytest

from kernel_runtime.cli import commands, outcome
from kernel_runtime.cli.options import LIMIT_OPTIONS
from kernel_runtime.domain.amounts import show_amount
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.manifest import Anchors, parse_manifest
from kernel_runtime.domain.policy import parse_policy_file
from kernel_runtime.domain.rules import Layer
from kernel_runtime.domain.scopes import FORMS, Kind
from kernel_runtime.domain.tables import (
    ConditionTable,
    ManifestTable,
    PermissionTable,
    PolicyTable,
    SecurityTable,
    UiTable,
)
from kernel_runtime.domain.verdict import Reason
from kernel_runtime.jupyter.settings import NAMES

CONTEXT = click.Context(commands)


@pytest.fixture(scope="module")
def limits_page(root):
    return (root / "docs/reference/limits.md").read_text()


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_each_limit_is_documented_with_its_option_and_default(limits_page, name):
    row = re.search(rf"^\| `{name}` \|.*$", limits_page, re.MULTILINE)
    assert row is not None
    assert f"`{LIMIT_OPTIONS[name][0]}`" in row[0]
    assert row[0].endswith(f"| {show_amount(name, getattr(Limits(), name))} |")


@pytest.mark.parametrize("word", [*Level, *Reason])
def test_each_level_and_reason_is_documented(limits_page, word):
    assert f"`{word}`" in limits_page


def test_each_setting_of_the_kernel_is_documented(root):
    page = (root / "docs/reference/kernelspec.md").read_text()
    assert [name for name in NAMES if f"`{name}`" not in page] == []


def test_each_exit_code_is_documented(root):
    page = (root / "docs/reference/cli.md").read_text()
    assert [code for code in outcome.OF_STATUS.values() if f"| {code} |" not in page] == []


@pytest.mark.parametrize("name", commands.list_commands(CONTEXT))
def test_each_command_and_option_has_a_help_text(name):
    command = commands.get_command(CONTEXT, name)
    assert command is not None
    assert command.help
    silent = [
        option.name for option in command.params if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []


@pytest.mark.parametrize("kind", Kind)
def test_each_scope_is_documented_in_its_form(root, kind):
    page = (root / "docs/reference/capabilities.md").read_text()
    row = re.search(rf"^\| `{kind}` \|.*$", page, re.MULTILINE)
    assert row is not None
    assert f"| `{FORMS[kind]}` |" in row[0].replace("\\|", "|")


@pytest.mark.parametrize(
    "table", [ConditionTable, ManifestTable, PolicyTable, PermissionTable, SecurityTable, UiTable]
)
def test_each_key_of_manifest_and_policy_is_documented(root, table):
    page = (root / "docs/reference/capabilities.md").read_text()
    assert [name for name in table.__struct_fields__ if f"`{name}`" not in page] == []


@pytest.mark.parametrize("group", ["policy", "secrets", "audit"])
def test_each_command_of_a_group_and_its_options_have_a_help_text(group):
    commands_of = commands.get_command(CONTEXT, group)
    assert isinstance(commands_of, click.Group)
    for command in commands_of.commands.values():
        assert command.help
        options = [option for option in command.params if isinstance(option, click.Option)]
        assert [option.name for option in options if not option.help] == []


def test_the_examples_of_the_howto_are_valid(root):
    page = (root / "docs/howto/permissions.md").read_text()
    manifest, policy = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    anchors = Anchors("/srv/app", "/home/ann")
    assert parse_manifest(manifest, "app.toml", anchors).asks is not None
    assert len(parse_policy_file(policy, "policy.toml", Layer.USER, anchors).rules) == 4


def test_each_option_of_the_magic_is_documented(root):
    from kernel_runtime.jupyter import magics

    source = (root / "kernel_runtime/jupyter/magics.py").read_text()
    page = (root / "docs/howto/magic.md").read_text()
    assert magics is not None
    options = set(re.findall(r'"(--[a-z]+)"', source))
    assert [option for option in options if not re.search(rf"`{option}\b", page)] == []
