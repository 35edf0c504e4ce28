"""A guest's frames, shown in a cell of the host's notebook.

What a guest displays is foreign to the page it lands on: contents are checked as in our own
kernel, cleaned, their display ids cannot touch displays of the host, and comms are not connected.
"""

from __future__ import annotations

import getpass
import re
import shlex
import sys
from typing import TYPE_CHECKING, Any

from kernel_runtime.domain.errors import KernelRuntimeError
from kernel_runtime.domain.level import Level
from kernel_runtime.jupyter import verdicts
from kernel_runtime.jupyter.cleaning import WIDGET, clean_bundle, clean_metadata
from kernel_runtime.jupyter.line import Line, Withdrawn
from kernel_runtime.jupyter.page_hosts import Page
from kernel_runtime.jupyter.page_text import Terminal, clean_terminal
from kernel_runtime.jupyter.prompts import shown_prompt

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from kernel_runtime.domain.verdict import Verdict
    from kernel_runtime.jupyter.cell_person import CellPerson
    from kernel_runtime.jupyter.guests import Guest
    from kernel_runtime.jupyter.panels.logbook import LogBook
    from kernel_runtime.result import Output, Result

NO_WIDGETS = (
    "note: %%sandbox shows no widgets: they need a live connection between guest and page. "
    "The kernel 'Python (kernel_runtime)' has it.\n"
)
#: Whatever a terminal or a page begins a line after.
_LINES = re.compile("[\n\v\f\x1c-\x1e\x85\u2028\u2029]")
LEFT_OUT = "(an output that may not be shown here)"


class SandboxError(KernelRuntimeError):
    """A cell in a sandbox failed; shows as what happened in there, without the host's own frames."""

    def __init__(self, ename: str, evalue: str, traceback: list[str]) -> None:
        super().__init__(f"{ename}: {evalue}" if evalue else ename)
        self.ename, self.evalue = clean_terminal(ename), clean_terminal(evalue)
        self._lines = [clean_terminal(line) for line in traceback]

    def _render_traceback_(self) -> list[str]:  # IPython's protocol for errors that draw themselves
        return self._lines


def plain_error(error: BaseException) -> SandboxError:
    """An error of ours as one line, without the host's frames."""
    shown = verdicts.trouble_from(error)
    return SandboxError(shown.ename, shown.evalue, shown.traceback)


def error_of(result: Result, name: str) -> SandboxError | None:
    """What a cell's end shows as: nothing, the guest's own traceback, or why it was ended."""
    if result.verdict is not None and not (result.verdict.raised and result.error is not None):
        return _ended(result.verdict, name)
    if result.error is not None:
        lines = result.error.traceback
        if result.verdict is not None and (way_back := _way_back(result.verdict, name)):
            lines = [*lines, f"Its variables are as the cell left them (guest {name!r}).{way_back}"]
        return SandboxError(result.error.ename, result.error.evalue, lines)
    return None


def _way_back(verdict: Verdict, name: str) -> str:
    return verdicts.way_back(verdict, f"%sandbox undo --name {shlex.quote(name)}")


def _ended(verdict: Verdict, name: str) -> SandboxError:
    what = verdicts.sentence(verdict.explain())
    kept = f"Its variables are kept.{_way_back(verdict, name)}"
    after = kept if verdict.survived else verdict.state or verdicts.NEXT
    shown = verdicts.trouble(verdicts.name_of(verdict), f"{what} (guest {name!r}) {after}", [])
    return SandboxError(shown.ename, shown.evalue, shown.traceback)


class Showing:
    """Shows one cell's outputs through ``shell``, as they come."""

    def __init__(self, shell: InteractiveShell, name: str, guest: Guest, person: CellPerson) -> None:
        self._shell = shell
        self._name = name
        self._guest = guest
        self._person = person
        self._page = Page(frames=guest.level is not Level.STRICT)
        self._noted = False
        self._terminal = Terminal()

    def show(self, event: Output | Line) -> None:
        """One output or a line to be typed; errors are raised at the end instead."""
        if isinstance(event, Line):
            self._ask(event)
        else:
            self._show(event)

    def _show(self, output: Output) -> None:
        match output["output_type"]:
            case "stream":
                self._write(output["name"], self._terminal.feed(output["name"], output["text"]))
            case "clear_output":
                self._shell.display_pub.clear_output(wait=bool(output.get("wait")))
            case "display_data" | "execute_result" | "update_display_data" as kind:
                self._display(output, update=kind == "update_display_data")

    def _ask(self, line: Line) -> None:
        """Ask the person; in the guest's name marked so that nobody takes it for the notebook's own."""
        prompt = line.prompt if line.ours else marked(self._name, line.prompt)
        # the kernel's own input() where there is one, else the terminal's
        read = getpass.getpass if line.password else input
        text: str | None = None
        try:
            text = line.read(lambda: read(prompt))
        except KeyboardInterrupt:
            self._person.interrupted()  # first: what is interrupted may ask again at once
            self._guest.interrupt()
            return
        except (
            Withdrawn,
            EOFError,
            NotImplementedError,
            RuntimeError,
            OSError,
        ):  # headless: ipykernel's own, too
            pass
        line.answer(text)

    def _write(self, name: str, text: str) -> None:
        file = sys.stderr if name == "stderr" else sys.stdout
        file.write(text)
        file.flush()

    def _display(self, output: Output, *, update: bool) -> None:
        data, metadata, transient = (_mapping(output, part) for part in ("data", "metadata", "transient"))
        if data.pop(WIDGET, None) is not None:
            self._note_widgets()
        data = clean_bundle(data, metadata, self._page)
        given = transient.get("display_id")
        self._shell.display_pub.publish(
            data=data or {"text/plain": LEFT_OUT},
            metadata=clean_metadata(metadata),
            transient={} if given is None else {"display_id": f"sandbox-{id(self._guest)}-{given}"},
            update=update,
        )

    def _note_widgets(self) -> None:
        if not self._noted:
            self._noted = True
            self._write("stderr", NO_WIDGETS)


class Hearing:
    """Writes down what one cell says, for the panel of logs."""

    def __init__(self, logs: LogBook, guest: str, cell: int) -> None:
        self._logs = logs
        self._guest = guest
        self._cell = cell

    def __call__(self, output: Output) -> None:
        if output["output_type"] == "stream":
            self._logs.stream(output["name"], output["text"], self._cell, self._guest)
        elif output["output_type"] == "error":
            said = f"{output['ename']}: {output['evalue']}".rstrip(": ")
            self._logs.record("error", said, self._cell, self._guest, source="stderr")


def marked(name: str, prompt: str) -> str:
    """A guest's prompt with its name before each line: none of them looks like one of the host's."""
    lines = _LINES.split(shown_prompt(prompt, password=False))
    return "\n".join(f"[sandbox {name}] {line}" for line in lines)


def _mapping(output: Output, part: str) -> dict[str, Any]:
    """A part of a foreign output, if it is what it should be."""
    found = output.get(part)
    return dict(found) if isinstance(found, dict) else {}
