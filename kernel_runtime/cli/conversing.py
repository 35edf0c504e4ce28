"""One piece of code in a guest, with the terminal as its output, its prompt and its Ctrl-C."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

import click
import msgspec

from kernel_runtime.cli.options import LIMIT_OPTIONS
from kernel_runtime.cli.outcome import OF_STATUS, colours_wanted, status_of_verdict
from kernel_runtime.cli.terminal import harmless, write_guest_text
from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.domain.verdict import Reason, Verdict
from kernel_runtime.jupyter.guests import converse, limit_seen_inside
from kernel_runtime.jupyter.line import Line

if TYPE_CHECKING:
    from kernel_runtime.jupyter.guests import Guest
    from kernel_runtime.result import Output, Result


def status_of_error(ename: str, evalue: str) -> str:
    """``interrupted``, ``limit`` (seen from inside), ``refused`` or ``error``."""
    if ename == "KeyboardInterrupt":
        return "interrupted"
    if ename == CapabilityDenied.__name__:
        return "refused"
    return "limit" if limit_seen_inside(ename, evalue) else "error"


class Conversation(msgspec.Struct, kw_only=True):
    """What came of it; ``stdout`` and ``stderr`` only if they were captured. ``standing``: what the guest
    stood behind; ``denied``: system calls that its walls refused."""

    status: str = "ok"
    seconds: float = 0.0
    stdout: str = ""
    stderr: str = ""
    result: str | None = None
    ename: str | None = None
    evalue: str | None = None
    traceback: list[str] = []
    verdict: Verdict | None = None
    denied: list[str] = []
    standing: dict[str, object] = {}


class Terminal:
    """Shows a guest's outputs on the terminal, or keeps their text when ``capture``."""

    def __init__(self, guest: Guest, *, capture: bool, prompts: bool) -> None:
        self._guest = guest
        self._capture = capture
        self._prompts = prompts

    def run(self, code: str) -> Conversation:
        """Run ``code`` to its end; errors of the guest are in what is returned, not raised."""
        return _conversation(converse(self._guest, code, self._handle), capture=self._capture)

    def _handle(self, event: Output | Line) -> None:
        if isinstance(event, Line):
            self._ask(event)
        elif not self._capture:
            self._show(event)

    def _show(self, output: Output) -> None:
        match output["output_type"]:
            case "stream":
                write_guest_text(sys.stderr if output["name"] == "stderr" else sys.stdout, output["text"])
            case "display_data" | "execute_result":
                write_guest_text(sys.stdout, _plain(output) + "\n")

    def _ask(self, line: Line) -> None:
        try:
            text = self._typed(line) if self._prompts else None
        except KeyboardInterrupt:
            self._guest.interrupt()  # and no answer: the guest might hear that one first
            return
        line.answer(text)

    def _typed(self, line: Line) -> str | None:
        shown = f"[guest] {harmless(line.prompt, colours=False)}"
        if line.password:
            return getpass.getpass(shown)
        click.echo(shown, nl=False, err=True)
        typed = sys.stdin.readline()
        return typed.rstrip("\n") if typed else None


def _plain(output: Output) -> str:
    """An output as text; a picture becomes its mime types."""
    data = output.get("data")
    if not isinstance(data, dict):
        return ""
    text = data.get("text/plain")
    return text if isinstance(text, str) else f"<{', '.join(map(str, data))}>"


def _conversation(result: Result, *, capture: bool) -> Conversation:
    done = Conversation(
        seconds=result.seconds, verdict=result.verdict, result=result.result, denied=result.denied
    )
    if capture:
        done.stdout, done.stderr = result.stdout, result.stderr
    if result.error is not None:
        error = result.error
        done.ename, done.evalue, done.traceback = error.ename, error.evalue, error.traceback
        done.status = status_of_error(error.ename, error.evalue)
    if result.verdict is not None:
        done.status = status_of_verdict(result.verdict)
    return done


def finish(outcome: Conversation, *, as_json: bool) -> int:
    """Say how it ended; returns the exit code."""
    code = OF_STATUS[outcome.status]
    if as_json:
        summary = msgspec.to_builtins(outcome) | {"exit_code": code}
        click.echo(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode())
    elif outcome.verdict is not None:
        if outcome.verdict.raised:  # the code's own error: its traceback says where
            click.echo(harmless("\n".join(outcome.traceback), colours=colours_wanted()), err=True)
        click.echo(f"Error: {outcome.verdict.explain()}{_way_out(outcome.verdict)}", err=True)
    elif outcome.traceback:
        click.echo(harmless("\n".join(outcome.traceback), colours=colours_wanted()), err=True)
    elif outcome.ename:
        click.echo(harmless(f"Error: {outcome.ename}: {outcome.evalue}", colours=False), err=True)
    return code


def _way_out(verdict: Verdict) -> str:
    """Which option sets the limit that was met."""
    name = next((name for name in (verdict.amount, verdict.reason) if name in LIMIT_OPTIONS), "")
    name = "open_files" if verdict.reason is Reason.FILES else name
    return f"; {LIMIT_OPTIONS[name][0]} sets another" if verdict.is_limit and name else ""
