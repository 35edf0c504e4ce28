"""``kernel-runtime policy``: which rules hold, what would be granted, what to allow."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.capabilities import Powers
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.manifest import undeclared
from kernel_runtime.domain.policy import Policy
from kernel_runtime.domain.schemas import schema
from kernel_runtime.domain.scopes import parse_request
from kernel_runtime.state import State

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Invoke = Callable[..., Result]
    Program = Callable[..., subprocess.CompletedProcess[str]]
    Notebook = Callable[..., Path]

APP = """
id = "forecast"
version = "1.2"
permissions = [
  { type = "net", resource = "*.example.org", actions = ["GET"], reason = "prices" },
  { type = "process" },
]
"""


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the policies nor the state of whoever runs the tests."""
    tmp_path.chmod(0o755)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(tmp_path / "state"))


def user_policy(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config" / "kernel-runtime" / "policy.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_show_names_file_and_line_of_each_rule(invoke: Invoke, tmp_path: Path) -> None:
    path = user_policy(tmp_path, 'default = "deny"\nallow = ["cache"]\n\n[[deny]]\nscope = "process"\n')
    shown = invoke("policy", "show", "--allow", "clock", "--deny", "env:X")
    assert shown.exit_code == 0
    for part in (
        f"{path} (user, default deny)",
        f"{path}:5",
        f"{path}:2",
        "--deny",
        "grant clock",
        "speaks of: deny",
    ):
        assert part in shown.stdout
    found = json.loads(invoke("policy", "show", "--json").stdout)
    assert [(rule["effect"], rule["scope"], rule["place"]) for rule in found["rules"]] == [
        ("deny", "process", f"{path}:5"),
        ("allow", "cache", f"{path}:2"),
    ]


def test_show_tells_a_project_that_nobody_trusts(invoke: Invoke, tmp_path: Path) -> None:
    own = tmp_path / ".kernel-runtime" / "policy.toml"
    own.parent.mkdir()
    own.write_text('allow = ["net:*"]')
    own.chmod(0o644)
    assert "unheeded, the project is not trusted: allow net:*" in invoke("policy", "show").stdout
    user_policy(tmp_path, f'trusted_projects = ["{tmp_path}"]')
    assert "unheeded" not in invoke("policy", "show").stdout


def test_check_says_what_would_be_granted_asked_and_denied(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text(APP)
    asked = invoke("policy", "check", "app.toml")
    assert asked.exit_code == 1
    assert "ask   net:*.example.org/GET" in asked.stdout
    assert "prices" in asked.stdout
    denied = invoke("policy", "check", ".", "--deny", "process", "--allow", "net:*", "--json")
    effects = {one["scope"]: one["effect"] for one in json.loads(denied.stdout)["asks"]}
    assert effects == {"net:*.example.org/GET": "allow", "process": "deny"}
    assert denied.exit_code == 1
    assert invoke("policy", "check", "app.toml", "--allow", "process", "--allow", "net:*").exit_code == 0


def test_check_decides_requests(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text(APP)
    policy = tmp_path / "team.toml"
    policy.write_text('allow = [{ scope = "net:a.example.org", arguments = { path = "/v1/*" } }]')
    policy.chmod(0o644)
    words = [
        "policy",
        "check",
        "app.toml",
        "--policy",
        "team.toml",
        "--json",
        "--request",
        "net:a.example.org/GET",
    ]

    def decision(*more: str) -> dict[str, str]:
        made: dict[str, str] = json.loads(invoke(*words, *more).stdout)["requests"][0]
        return made

    assert decision("--argument", "path=/v1/x")["effect"] == "allow"
    assert decision("--argument", "path=/v1/x", "--level", "strict")["effect"] == "ask"
    refused = decision("--argument", "path=/v2")
    assert refused["effect"] == "deny"
    assert "team.toml:1" in refused["rule"]
    other = json.loads(invoke("policy", "check", "app.toml", "--json", "--request", "net:b.org/GET").stdout)
    assert other["requests"][0]["rule"] == "the manifest"


def test_check_reads_notebooks(invoke: Invoke, notebook: Notebook) -> None:
    asking = notebook("1", kernel_runtime={"permissions": [{"type": "secret", "resource": "KEY"}]})
    found = json.loads(invoke("policy", "check", asking, "--json", "--allow", "secret:KEY").stdout)
    assert (found["app"], found["declared"], found["asks"][0]["effect"]) == ("nb", True, "allow")
    plain = invoke("policy", "check", notebook("1", name="plain.ipynb"))
    assert plain.exit_code == 0
    assert "declares no permissions" in plain.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "none.toml"], "cannot be read"),
        (["check", "app.toml", "--allow", "nett:x"], "did you mean 'net'"),
        (["check", "app.toml", "--policy", "none.toml"], "does not exist"),
        (["check", "app.toml", "--request", "net:x.org"], "name a method"),
        (["check", "app.toml", "--request", "cache", "--argument", "path"], "NAME=TEXT"),
        (
            ["check", "wrong.toml"],
            "wrong.toml:2: permisions: no key is called 'permisions'; did you mean 'permissions'",
        ),
        (["show", "--policy", "open.toml"], "other users may write this policy"),
    ],
)
def test_bad_input_is_told_and_has_its_exit_code(
    invoke: Invoke, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "app.toml").write_text(APP)
    (tmp_path / "wrong.toml").write_text('id = "x"\npermisions = []')
    (tmp_path / "open.toml").write_text("")
    (tmp_path / "open.toml").chmod(0o666)
    done = invoke("policy", *words)
    assert done.exit_code == 2
    assert said in done.stderr


def test_suggest_proposes_what_was_asked_in_vain(invoke: Invoke, tmp_path: Path) -> None:
    empty = invoke("policy", "suggest")
    assert (empty.exit_code, empty.stdout) == (0, "")
    with State(tmp_path / "state") as state:
        gate = state.gate(undeclared("report"), Policy())
        for _ in range(2):
            gate.ask(Request(scope=parse_request("net:api.example.org/GET")))
    proposed = invoke("policy", "suggest", "--app", "report").stdout
    assert tomllib.loads(proposed) == {"allow": ["net:api.example.org/GET"]}
    assert "2 times, by report" in proposed
    assert invoke("policy", "suggest", "--app", "other").stdout == ""
    (tmp_path / "proposed.toml").write_text(proposed)
    (tmp_path / "proposed.toml").chmod(0o644)
    assert "net:api.example.org/GET" in invoke("policy", "show", "--policy", "proposed.toml").stdout


def test_suggest_for_one_app_leaves_out_its_copies(invoke: Invoke, tmp_path: Path) -> None:
    for place, scope in (("mine", "env:MINE"), ("copy", "env:COPY")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "app.toml").write_text('id = "forecast"')
        with State(tmp_path / "state") as state:
            manifest = Powers(manifest=str(tmp_path / place)).placed_manifest()
            state.gate(manifest, Policy()).ask(Request(scope=parse_request(scope)))
    both = invoke("policy", "suggest", "--app", "forecast").stdout
    assert tomllib.loads(both) == {"allow": ["env:COPY", "env:MINE"]}
    for app in ("mine", "mine/app.toml"):
        proposed = invoke("policy", "suggest", str(tmp_path / app)).stdout
        assert tomllib.loads(proposed) == {"allow": ["env:MINE"]}
    named = invoke("policy", "suggest", str(tmp_path), "--name", "notebook")
    assert (named.exit_code, named.stdout) == (0, "")
    assert "--name needs APP" in invoke("policy", "suggest", "--name", "notebook").stderr


def test_schema_is_printed(invoke: Invoke) -> None:
    for name in ("manifest", "policy"):
        assert json.loads(invoke("policy", "schema", name).stdout)["title"] == schema(name)["title"]
