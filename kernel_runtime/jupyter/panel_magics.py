"""``%resources`` and its kin, as lines among other magics and as help; alone in a cell they open at once
(``panels/openers.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.jupyter.front_magics import Bench, Bundle, Magic, Parser

if TYPE_CHECKING:
    from kernel_runtime.jupyter.guest import Session


def _resources_parser() -> Parser:
    return Parser(
        "resources",
        "Open the panel of resources: memory, CPU, disk, network, processes and output against their limits, "
        "as live charts, with throttle, pause, interrupt and kill. It opens while a cell runs, too.",
    )


async def _resources(bench: Bench, _: Any) -> Bundle:
    return await bench.panel("%resources")


def _permissions_parser() -> Parser:
    parser = Parser(
        "permissions",
        "Open the panel of permissions: what is asked, granted and denied, by which rule; grant and revoke with a "
        "click; search the audit trail. %permissions suggest proposes lines of a policy from what was asked in vain.",
    )
    parser.add_argument("action", nargs="?", choices=("suggest",), metavar="suggest", help="propose a policy")
    return parser


async def _permissions(bench: Bench, asked: Any) -> Bundle:
    return await bench.panel("%permissions suggest" if asked.action else "%permissions")


def _suggest(session: Session, words: list[str]) -> list[str]:
    return [] if words else ["suggest"]


def _logs_parser() -> Parser:
    return Parser(
        "logs",
        "Open the panel of logs: stdout, stderr, records, the host's words and the audit trail, by level and source, "
        "searched, followed, and exported to a file beside the notebook.",
    )


async def _logs(bench: Bench, _: Any) -> Bundle:
    return await bench.panel("%logs")


MAGICS = (
    Magic(name="resources", parser=_resources_parser, run=_resources),
    Magic(name="permissions", parser=_permissions_parser, run=_permissions, offers=_suggest),
    Magic(name="logs", parser=_logs_parser, run=_logs),
)
