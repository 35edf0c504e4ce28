"""Running a script file as Python would: ``__main__``, ``sys.argv``, plain tracebacks, exit status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kernel_runtime.cli.advising import advise
from kernel_runtime.cli.conversing import Conversation, Terminal, finish, status_of_error
from kernel_runtime.cli.guests import guest_for
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level
from kernel_runtime.guest.script import MAGIC
from kernel_runtime.jupyter.document import read_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kernel_runtime.jupyter.settings import Settings

_RUNNER = "__kernel_runtime_script__"


def run_script_file(
    path: Path, arguments: Sequence[str], settings: Settings, workdir: Path | None, *, as_json: bool
) -> int:
    """Run it in a guest of its own; returns the exit code."""
    source = _source(path)
    directory = (workdir or path.parent).resolve()
    if not directory.is_dir():
        raise Invalid(f"--workdir: {directory} is not a directory")
    advise(source, settings, directory, script=True)
    with guest_for(settings, workdir=directory, name=path.name, manifest=path) as guest:
        done = Terminal(guest, capture=as_json, prompts=True).run(
            script_cell(source, str(path.resolve()), arguments, settings.level)
        )
        done.standing = guest.standing
    return finish(_as_script(done), as_json=as_json)


def script_cell(source: str, path: str, arguments: Sequence[str], level: Level = Level.MODERATE) -> str:
    """The cell that runs a script."""
    if level is Level.STRICT:
        line = json.dumps([path, *arguments])
        return f"get_ipython().run_cell_magic({MAGIC!r}, {line!r}, {source!r})\n"
    run = f"globals().pop({_RUNNER!r}).run(globals(), {source!r}, {path!r}, {list(arguments)!r})"
    return f"import kernel_runtime.guest.script as {_RUNNER}\n{run}\n"


def _source(path: Path) -> str:
    import io
    import tokenize

    data = read_bytes(path)
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return io.TextIOWrapper(io.BytesIO(data), encoding).read()
    except (SyntaxError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not Python source: {error}") from None


def _as_script(done: Conversation) -> Conversation:
    """The script has printed its own traceback: keep only how it ended."""
    if done.ename != "ScriptEnded":
        return done
    kind, _, detail = (done.evalue or "").partition(" ")
    done.traceback = []
    if kind == "exit":
        done.ename, done.evalue = "SystemExit", f"the script exited with status {detail}"
    else:
        done.ename, done.evalue = detail or "Error", "its traceback is above"
    done.status = status_of_error(detail, "")
    return done
