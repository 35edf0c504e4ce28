"""``%files``: what the guest has changed in the notebook's directory, and what its owner keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import Invalid, KernelRuntimeError
from kernel_runtime.jupyter.front_magics import Bench, Bundle, Magic, Parser, text
from kernel_runtime.jupyter.state_text import clean

if TYPE_CHECKING:
    from kernel_runtime.domain.file_changes import Outcome
    from kernel_runtime.jupyter.guest import Session

_ACTIONS = ("diff", "keep", "drop")
_HELP = """What the guest writes in the notebook's directory lies in a layer of its own: on the host nothing has changed.

  %files              what was added (+), changed (~) and removed (-)
  %files diff PATH    one file beside the host's
  %files keep PATH    make the host's file as the guest's is; a directory: all below, but hidden files and
                      removals, which are kept by their own name. `.` is the whole directory
  %files drop [PATH]  make the guest's files as the host's are; without a path all of them"""
_SHOWN = 200


def _parser() -> Parser:
    parser = Parser("files", _HELP)
    parser.add_argument("action", nargs="?", choices=_ACTIONS, metavar="diff|keep|drop", help="what to do")
    parser.add_argument("path", nargs="?", metavar="PATH", help="relative to the notebook's directory")
    return parser


async def _files(bench: Bench, asked: Any) -> Bundle:
    files = (await bench.session()).files
    if asked.action is None:
        found = await files.changes()
        if not found.changes and not found.unread:
            return text(str(found))
        more = len(found.changes) - _SHOWN
        lines = str(found).splitlines()
        shown = lines if more <= 0 else [*lines[:_SHOWN], f"… and {more} more"]
        return text(clean("\n".join(shown)))
    if asked.action == "drop":
        return _told("as on the host again:", await files.drop(asked.path or ""))
    if asked.path is None:
        raise Invalid(f"%files {asked.action}: which one? Write its path after it")
    if asked.action == "diff":
        return text(clean(await files.diff(asked.path)) or "no text differs")
    outcome = await files.keep(asked.path)
    remark = _written_down(await bench.session(), outcome.done) if outcome.done else ""
    return _told("kept on the host:", outcome, remark)


def _written_down(session: Any, paths: list[str]) -> str:
    """What the audit log cannot be told, which is done all the same: it is the owner's own doing."""
    try:
        broker = session.broker()
        broker.gate.changed(
            [("files", f"keep:{path}") for path in paths], "%files keep", broker.caller.principal
        )
    except KernelRuntimeError as error:
        return f"the audit log has no record of it: {error}"
    return ""


def _told(what: str, outcome: Outcome, remark: str = "") -> Bundle:
    """What was done, and what was not, with the reason."""
    if not outcome.done and not outcome.refused:
        return text("no file was added, changed or removed")
    return text(what if outcome.done else "", clean(str(outcome)), remark)


def _offers(session: Session, words: list[str]) -> list[str]:
    if not words:
        return list(_ACTIONS)
    return [path for path in session.files.known if path.isprintable() and " " not in path][:_SHOWN] * (
        len(words) == 1
    )


MAGICS = (Magic(name="files", parser=_parser, run=_files, offers=_offers),)
