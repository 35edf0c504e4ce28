"""``kernel-runtime policy``: which rules hold, what an app would get, and what to allow."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from kernel_runtime.cli import outcome
from kernel_runtime.cli.capabilities import capability_options, holding
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.rules import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kernel_runtime.capabilities import Powers
    from kernel_runtime.domain.decide import Decision
    from kernel_runtime.domain.manifest import Manifest
    from kernel_runtime.domain.matching import Index
    from kernel_runtime.domain.outlook import Outlook
    from kernel_runtime.domain.policy import Policy
    from kernel_runtime.domain.rules import Grant

_STYLES = {Effect.ALLOW: "green", Effect.ASK: "yellow", Effect.DENY: "red"}
_CHECK_EPILOG = """\b
Examples:
  kernel-runtime policy check app.toml
  kernel-runtime policy check notebook.ipynb --allow net:api.example.org
  kernel-runtime policy check app.toml --request net:api.example.org/GET --argument path=/v1/items

\b
Exit codes:
  0  all of it is granted
  1  some of it would be asked, or is denied
  2  bad input: a manifest, policy or scope that is malformed, or that another user could have written
"""


@click.group("policy")
def policy_command() -> None:
    """See which rules grant, and try them on an app; nothing is run."""


@policy_command.command("show")
@capability_options
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def show_command(as_json: bool, **options: Any) -> None:
    """Show the rules that hold in this directory, and from which file and line each comes."""
    grants, policy = holding(options, Path.cwd())
    if as_json:
        click.echo(json.dumps(_policy_for_programs(grants, policy), indent=2, ensure_ascii=False))
    else:
        _print_policy(grants, policy)


@policy_command.command("check", epilog=_CHECK_EPILOG)
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--request", "requests", metavar="SCOPE", multiple=True, help="Decide this one request, too.")
@click.option(
    "--argument", "arguments", metavar="NAME=TEXT", multiple=True, help="An argument of the requests."
)
@click.option("--tenant", metavar="NAME", default="", help="The tenant of the requests.")
@capability_options
@click.option("--json", "as_json", is_flag=True, help="Print the decisions as JSON.")
def check_command(
    manifest: Path,
    requests: tuple[str, ...],
    arguments: tuple[str, ...],
    tenant: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what of the things a manifest asks for would be granted, asked or denied.

    MANIFEST: an app.toml, a pyproject.toml, a notebook, or a directory with one of the first two.
    """
    from kernel_runtime.apps.manifests import read_manifest
    from kernel_runtime.domain.outlook import outlook

    app = read_manifest(manifest)
    grants, policy = holding(options, manifest if manifest.is_dir() else manifest.parent, app.level)
    outlooks = outlook(app, grants, policy)
    decisions = [(text, _decide(app, grants, policy, text, arguments, tenant)) for text in requests]
    if as_json:
        click.echo(json.dumps(_check_for_programs(app, outlooks, decisions), indent=2, ensure_ascii=False))
    else:
        _print_check(app, outlooks, decisions)
    effects = [one.effect for one in outlooks] + [decision.effect for _, decision in decisions]
    granted = all(effect is Effect.ALLOW for effect in effects)
    raise click.exceptions.Exit(outcome.SUCCESS if granted else outcome.USER_ERROR)


def _named_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--name",
        metavar="NAME",
        help="APP is a directory: what runs there under this name, without a manifest.",
    )(command)


@policy_command.command("suggest")
@click.argument("app", required=False, type=click.Path(exists=True, path_type=Path))
@_named_option
@click.option("--app", "called", metavar="ID", help="Only what apps of this id asked for, wherever they lie.")
@click.option("--since", metavar="TIME", help="Only the last TIME, like 2h or 7d.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def suggest_command(
    app: Path | None, name: str | None, called: str | None, since: str | None, as_json: bool
) -> None:
    """Propose a policy.toml from requests in the audit log that were asked or denied.

    APP: only what this one asked for (its app.toml or pyproject.toml, a directory with one of them, a notebook, or
    a script). Another that calls itself the same is another app.
    """
    from kernel_runtime.domain.limits import parse_seconds
    from kernel_runtime.domain.suggestion import suggest
    from kernel_runtime.state import State

    if name and app is None:
        raise click.UsageError("--name needs APP, the directory")
    begin = time.time() - parse_seconds(since, "--since") if since else 0.0
    wanted = {"app": called} if called else {}
    if app is not None:
        wanted["holder"] = _powers(app, name).placed_manifest().holder
    with State() as state:
        found = suggest(state.audit.records(wanted, since=begin))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2, ensure_ascii=False))
    elif not (found.allow or found.undeclared or found.refused):
        click.echo("# nothing was asked for in vain: there is nothing to suggest", err=True)
    else:
        click.echo(found.toml(), nl=False)


@policy_command.command("revoke")
@click.argument("scope")
@click.argument("app", type=click.Path(exists=True, path_type=Path))
@_named_option
def revoke_command(scope: str, app: Path, name: str | None) -> None:
    """Take back what a person granted an app of exactly SCOPE, also in its sessions that are open.

    APP: its app.toml or pyproject.toml, a directory with one of them, a notebook, or a script.
    """
    from kernel_runtime.domain.policy import Policy
    from kernel_runtime.domain.scopes import parse_scope
    from kernel_runtime.state import State

    taken = parse_scope(scope, "SCOPE")
    manifest = _powers(app, name).placed_manifest()
    with State() as state:
        gate = state.gate(manifest, Policy())
        gate.recall()
        count = gate.revoke(taken)
    remembered = "1 grant was" if count == 1 else f"{count} grants were"
    click.echo(f"revoked: {taken}; {remembered} remembered, and sessions that are open have it no longer")


def _powers(app: Path, name: str | None) -> Powers:
    from kernel_runtime.capabilities import Powers

    return Powers(name=name, directory=str(app)) if name else Powers(manifest=str(app))


@policy_command.command("schema")
@click.argument("name", type=click.Choice(["manifest", "policy"]))
def schema_command(name: str) -> None:
    """Print the JSON Schema of app.toml (manifest) or policy.toml (policy), for editors."""
    from kernel_runtime.domain.schemas import schema

    click.echo(json.dumps(schema(name), indent=2))


def _decide(
    manifest: Manifest,
    grants: Index[Grant],
    policy: Policy,
    text: str,
    arguments: tuple[str, ...],
    tenant: str,
) -> Decision:
    """One request, now; nothing is counted or written down."""
    from kernel_runtime.broker.gate import host_clock
    from kernel_runtime.domain.decide import Request, decide
    from kernel_runtime.domain.scopes import parse_request

    pairs = dict(_pair(one) for one in arguments)
    request = Request(scope=parse_request(text, "--request"), arguments=pairs, tenant=tenant)
    return decide(manifest, grants, policy, request, host_clock(0.0), {})


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise Invalid(f"--argument: {text!r} is to be NAME=TEXT")
    return name, value


def _policy_for_programs(grants: Index[Grant], policy: Policy) -> dict[str, object]:
    return {
        "default": policy.default,
        "sources": [
            {"name": s.name, "layer": s.layer, "default": s.default, "trusted": s.trusted}
            for s in policy.sources
        ],
        "rules": [
            {
                "effect": rule.effect,
                "scope": str(rule.scope),
                "conditions": rule.conditions.words,
                "layer": rule.layer,
                "place": rule.place,
                "reason": rule.reason,
                "heeded": rule not in policy.unheeded,
            }
            for rule in (*policy.rules, *policy.unheeded)
        ],
        "grants": [{"scope": str(grant.scope), "place": grant.place} for grant in grants],
    }


def _print_policy(grants: Index[Grant], policy: Policy) -> None:
    from rich.text import Text

    from kernel_runtime.cli.terminal import console, one_line

    screen = console()
    for source in policy.sources:
        trust = "" if source.trusted else ", not trusted: it may only deny and ask"
        screen.print(
            Text(one_line(f"{source.name} ({source.layer}, default {source.default}{trust})", 300), "dim")
        )
    for line in (*policy.rules, *grants):
        effect = getattr(line, "effect", Effect.ALLOW)
        screen.print(Text.assemble("  ", (f"{effect:<6}", _STYLES[effect]), one_line(str(line), 300)))
    for rule in policy.unheeded:
        screen.print(Text(f"  unheeded, the project is not trusted: {one_line(str(rule), 300)}", "dim"))
    screen.print(
        f"what no rule speaks of: {policy.default}" + (", also what rules allow: ask" * policy.confirm)
    )


def _check_for_programs(
    app: Manifest, outlooks: Iterable[Outlook], decisions: Iterable[tuple[str, Decision]]
) -> dict[str, object]:
    made = [{"request": text, **msgspec.to_builtins(decision)} for text, decision in decisions]
    for one in made:
        one.pop("charges")
    return {
        "app": app.id,
        "version": app.version,
        "stamp": app.stamp,
        "declared": app.asks is not None,
        "asks": [msgspec.to_builtins(one) for one in outlooks],
        "requests": made,
    }


def _print_check(app: Manifest, outlooks: list[Outlook], decisions: list[tuple[str, Decision]]) -> None:
    from rich.text import Text

    from kernel_runtime.cli.terminal import console, one_line

    screen = console()
    screen.print(Text(one_line(f"{app.title} ({app.place})", 300), "bold"))
    if app.asks is None:
        screen.print("  declares no permissions: whatever it requests is decided when it does")
    elif not outlooks:
        screen.print("  asks for nothing: whatever it requests is denied")
    for one in outlooks:
        why = f"  {one.reason}" if one.reason else ""
        line = one_line(f"{one.scope}  {one.rule}{why}", 300)
        screen.print(Text.assemble("  ", (f"{one.effect:<6}", _STYLES[one.effect]), line))
        for rule in one.but:
            screen.print(Text(f"         but {one_line(rule, 300)}", "dim"))
    for text, decision in decisions:
        line = one_line(f"request {text}  {decision.reason} ({decision.rule})", 300)
        screen.print(Text.assemble("  ", (f"{decision.effect:<6}", _STYLES[decision.effect]), line))
