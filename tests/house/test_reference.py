"""The reference pages, proven against the code."""

from __future__ import annotations

import importlib
import inspect
import re

import click
import pytest

import kernel_runtime
from kernel_runtime import callees
from kernel_runtime.broker import cache, call, db, events, files, host, http, log, secrets, storage
from kernel_runtime.broker.apps import parse_apps
from kernel_runtime.capabilities import HANDLERS
from kernel_runtime.cli import commands, outcome
from kernel_runtime.cli.options import LIMIT_OPTIONS
from kernel_runtime.domain import exchange, journey
from kernel_runtime.domain.amounts import KIB, MIB, show_amount
from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import Limits
from kernel_runtime.domain.log import MAX_FIELDS, MAX_MESSAGE, MAX_TEXT
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


def test_each_public_class_is_on_a_page(root):
    """The errors are all on theirs: it shows the whole module."""
    pages = "".join((root / f"docs/reference/{page}.md").read_text() for page in ("api", "errors"))
    public = [getattr(kernel_runtime, name) for name in kernel_runtime.__all__]
    classes = [one for one in public if inspect.isclass(one) and not issubclass(one, KernelRuntimeError)]
    assert {"Checkpoint", "Restored", "Restoration", "Snapshot", "Budget"} <= {
        one.__name__ for one in classes
    }
    assert [one for one in classes if not re.search(rf"autoclass:: (.*\.)?{one.__name__}\n", pages)] == []


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


#: What the guest's functions are in; its twins to be awaited are the same by another name.
SDK = ("cache", "call", "clock", "db", "env", "events", "files", "http", "log", "secrets", "storage")


#: Those that ask nothing of the host.
HOOKS = ("branches", "checkpoint")


def functions(module: str) -> dict[str, str]:
    """What a module of the sdk offers: name → what it takes, without types."""
    loaded = importlib.import_module(f"kernel_runtime.sdk.{module}")
    found = {}
    for name in loaded.__all__:
        if inspect.isfunction(value := getattr(loaded, name)):
            taken = inspect.signature(value)
            bare = [
                parameter.replace(annotation=inspect.Parameter.empty)
                for parameter in taken.parameters.values()
            ]
            found[name] = str(taken.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return found


def section(page: str, heading: str) -> str:
    """What stands below a heading, up to the next."""
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def test_each_module_for_guests_is_looked_at(root):
    modules = {path.stem for path in (root / "kernel_runtime/sdk").glob("*.py")}
    assert modules - {"__init__", "door", *HOOKS} == set(SDK) == set(HANDLERS)


@pytest.mark.parametrize("module", SDK)
def test_each_function_for_guests_is_documented_with_what_it_takes(root, module):
    page = (root / "docs/reference/sdk.md").read_text()
    heading = "## clock, env" if module in ("clock", "env") else f"## {module}"
    said, offered = section(page, heading), functions(module)
    waiting = {name: taken for name, taken in offered.items() if f"a{name}" in offered}
    assert {f"a{name}": taken for name, taken in waiting.items()} | waiting == offered, "each has its twin"
    assert [f"`{name}{taken}`" for name, taken in waiting.items() if f"`{name}{taken}`" not in said] == []
    loaded = importlib.import_module(f"kernel_runtime.sdk.{module}")
    classes = [name for name in loaded.__all__ if name not in offered]
    assert [name for name in classes if f"`{name}`" not in said] == []


@pytest.mark.parametrize("module", HOOKS)
def test_each_function_around_states_is_documented_with_what_it_takes(root, module):
    said = section((root / "docs/reference/sdk.md").read_text(), f"## {module}")
    loaded = importlib.import_module(f"kernel_runtime.sdk.{module}")
    offered = {
        name: f"{name}({', '.join(inspect.signature(value).parameters)})"
        for name, value in inspect.getmembers(loaded, inspect.isfunction)
        if value.__module__ == loaded.__name__ and not name.startswith("_")
    }
    assert offered, "the control"
    assert [call for call in offered.values() if f"`{call}`" not in said] == []


def test_each_error_for_guests_is_documented(root):
    from kernel_runtime import sdk

    page = (root / "docs/reference/sdk.md").read_text()
    errors = [name for name in sdk.__all__ if inspect.isclass(getattr(sdk, name))]
    assert [name for name in errors if f"| `{name}` |" not in page] == []


#: What each handler decodes: action → its arguments.
ACTIONS = {
    "cache": {"get": cache.Get, "set": cache.Set, "delete": cache.Delete},
    "call": {"run": call.Run},
    "clock": {"now": host.Now},
    "db": dict.fromkeys(("query", "execute"), db.Asked),
    "env": {"get": host.Get},
    "events": {
        "publish": events.Publish,
        "subscribe": events.Subscribe,
        "poll": events.Poll,
        "unsubscribe": events.Unsubscribe,
    },
    "files": {
        "open": files.Open,
        "read": files.Read,
        "list": files.Named,
        "stat": files.Named,
        "write": files.Write,
        "remove": files.Named,
    },
    "http": {"request": http._KNOWN},
    "log": {"write": log.Write},
    "secrets": {"get": secrets.Get},
    "storage": {
        "get": storage.Get,
        "set": storage.Set,
        "delete": storage.Delete,
        "keys": storage.Keys,
        "used": storage.Used,
    },
}
IN_CODE = {
    "cache": cache._ACTIONS,
    "db": db._WAYS,
    "events": events._ACTIONS,
    "files": files.Files()._actions,
    "storage": storage._ACTIONS,
}


@pytest.mark.parametrize("capability", HANDLERS)
def test_each_action_of_a_handler_is_documented_with_its_arguments(root, capability):
    said = section((root / "docs/reference/capabilities.md").read_text(), f"### `{capability}`")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", said, re.MULTILINE))
    actions = ACTIONS[capability]
    assert set(rows) == set(actions) == set(IN_CODE.get(capability, actions))
    for action, taken in actions.items():
        names = set(getattr(taken, "__struct_fields__", taken))
        assert set(re.findall(r"`(\w+)`", rows[action])) == names, action


@pytest.mark.parametrize(
    ("capability", "bounds"),
    [
        ("cache", [f"{cache.MEMORY // MIB} MB", "30 days", "512 characters"]),
        (
            "call",
            [
                f"{exchange.MAX_ARGUMENTS // MIB} MB of arguments",
                f"{exchange.MAX_REPLY // MIB} MB of answer",
                f"{call.SECONDS:g} s unless",
                f"{call.MOST_SECONDS:g} s at most",
                f"{call.MOST_AT_ONCE} calls of a guest",
                f"{callees.MOST_GUESTS} called guests",
                f"{journey.MAX_DEPTH} calls within",
            ],
        ),
        ("db", [f"{db.MOST_ROWS:,} at most", f"{db.MOST_SECONDS:g} s", f"{db.MOST_AT_ONCE} queries"]),
        (
            "events",
            [
                f"{events.MAX_MESSAGE // KIB} KB",
                f"{events.MAX_SUBSCRIPTIONS} subscriptions",
                f"{events.WAITING:,} messages",
                f"{events.WAITING_BYTES // MIB} MB",
            ],
        ),
        ("files", [f"{files.MOST_BYTES >> 20} MiB", f"{files.MOST_ENTRIES:,} entries"]),
        (
            "http",
            [
                f"{http.MAX_BYTES // MIB} MB",
                f"{http.MAX_SECONDS:g} s",
                f"{http._MOST_REDIRECTS} redirects",
                f"{http._ATTEMPTS} attempts",
            ],
        ),
        (
            "log",
            [f"{MAX_MESSAGE:,} characters", f"{MAX_FIELDS} fields of {MAX_TEXT:,}", f"{log.IN_MEMORY:,}"],
        ),
        ("storage", [f"{storage.QUOTA // MIB} MB", f"{storage.MAX_KEYS:,} keys"]),
    ],
)
def test_each_bound_of_a_handler_is_documented(root, capability, bounds):
    said = section((root / "docs/reference/capabilities.md").read_text(), f"### `{capability}`")
    assert [bound for bound in bounds if bound not in said] == []


def test_the_examples_of_calls_are_valid(root):
    page = (root / "docs/howto/calls.md").read_text()
    manifest, apps = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert parse_manifest(manifest, "app.toml", Anchors("/srv/app", "/home/ann")).id in parse_apps(
        apps, "apps.toml"
    )
    assert f"more than {journey.MAX_DEPTH} within each other" in page
    assert f"of more than {callees.MOST_KEPT} apps" in page
