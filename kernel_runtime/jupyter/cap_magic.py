"""``%cap``: what this notebook may do, as the manifest, the policy and the grants have it now."""

from __future__ import annotations

import contextlib
import html
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import StorageFailed
from kernel_runtime.jupyter.front_magics import Bench, Bundle, Magic, Parser
from kernel_runtime.jupyter.page_text import clean_terminal
from kernel_runtime.jupyter.spent import in_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.broker.gate import Gate

Row = tuple[str, str, str]
_WORDS = {"allow": "granted", "ask": "asked", "deny": "denied"}
_FREE = "log and storage need no grant"


def _parser() -> Parser:
    return Parser(
        "cap",
        "Show what this notebook may ask of the host: what is granted, what you are asked about, what is denied, "
        "and which rule says so. Nothing is asked and nothing changes.",
    )


async def _cap(bench: Bench, asked: Any) -> Bundle:
    del asked
    broker: Any = (await bench.session()).broker()
    gate: Gate = broker.gate
    with contextlib.suppress(StorageFailed):
        gate.renew()
    rows, remarks = list(_rows(broker)), [*_remarks(gate), *filter(None, [in_session(broker.usage)])]
    return {"text/plain": _as_text(rows, remarks), "text/html": _as_html(rows, remarks)}


def _rows(broker: Any) -> Iterator[Row]:
    """(effect, scope, rule and reason): what the manifest asks; without one, what is granted and what rules say; and
    what the person has denied."""
    from kernel_runtime.domain.decide import Request  # with all of what decides: not at each start
    from kernel_runtime.domain.outlook import outlook
    from kernel_runtime.domain.scopes import parse_scope

    gate, caller, denied = broker.gate, broker.caller, broker.denied
    whose = Request(scope=parse_scope("clock"), principal=caller.principal, session=caller.session)
    grants, _ = gate.standing(whose)
    for one in outlook(gate.manifest, grants, gate.policy):
        why = "; ".join(part for part in (one.rule, f'"{one.reason}"' if one.reason else "") if part)
        yield _WORDS[one.effect], one.scope, "; but ".join((why, *one.but))
    if gate.manifest.asks is None:
        for grant in grants:
            yield _WORDS["allow"], str(grant.scope), str(grant)
        for rule in gate.policy.rules:
            confirmed = rule.effect == "allow" and gate.policy.confirm
            yield _WORDS["ask" if confirmed else rule.effect], str(rule.scope), str(rule)
    for scope in denied:
        if not grants.covering(parse_scope(scope)):
            yield _WORDS["deny"], scope, "the person, for this session"


def _remarks(gate: Gate) -> list[str]:
    manifest = gate.manifest
    if manifest.asks is None:
        declares, which = "declares nothing: it may ask for anything", "what"
    else:
        things = "1 thing" if len(manifest.asks) == 1 else f"{len(manifest.asks)} things"
        declares, which = f"asks for {things}; anything else is denied", "of these, what"
    rest = "you are asked" if gate.policy.default == "ask" else "denied"
    return [
        f"{manifest.title} {declares}",
        f"{which} no rule and no grant speaks of: {rest}; {_FREE}",
    ]


def _as_text(rows: list[Row], remarks: list[str]) -> str:
    width = max((len(row[1]) for row in rows), default=0)
    lines = [f"{effect:<7}  {scope:<{width}}  {why}" for effect, scope, why in rows]
    return "\n".join(clean_terminal(line) for line in [remarks[0], *lines, *remarks[1:]])


def _as_html(rows: list[Row], remarks: list[str]) -> str:
    head = "<tr><th></th><th>scope</th><th>decided by</th></tr>" if rows else ""
    cells = ["<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows]
    first, *rest = (f"<p>{html.escape(text)}</p>" for text in remarks)
    return f"{first}<table>{head}{''.join(cells)}</table>{''.join(rest)}"


MAGICS = (Magic(name="cap", parser=_parser, run=_cap),)
