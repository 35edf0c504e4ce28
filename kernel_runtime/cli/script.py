"""Running a script file as Python would: ``__main__``, ``sys.argv``, plain tracebacks, exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel_runtime.cli.conversing import Conversation, Terminal, finish, status_of_error
from kernel_runtime.client import Session
from kernel_runtime.domain.errors import Invalid
from kernel_runtime.jupyter.document import read_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kernel_runtime.jupyter.settings import Settings

#: Runs in the guest. The shell's running event loop is put aside: a script calls asyncio.run().
_RUNNER = """
def __kernel_runtime_script__(source, path, arguments):
    import asyncio, linecache, os, sys, threading, traceback
    ScriptEnded = type("ScriptEnded", (Exception,), {})
    names = globals()
    names.pop("__kernel_runtime_script__", None)
    names.update(__file__=path, __name__="__main__")
    sys.argv[:] = [path, *arguments]
    sys.path.insert(0, os.path.dirname(path))
    linecache.cache[path] = (len(source), None, source.splitlines(True), path)
    loop, ended = asyncio._get_running_loop(), None
    asyncio._set_running_loop(None)
    try:
        exec(compile(source, path, "exec", dont_inherit=True), names)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    except SystemExit as end:
        if end.code not in (None, 0):
            ended = f"exit {end.code}" if isinstance(end.code, int) else "exit 1"
            if not isinstance(end.code, int):
                print(end.code, file=sys.stderr)
    except BaseException as error:
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, trace)
        ended = f"error {type(error).__name__}"
    finally:
        asyncio._set_running_loop(loop)
        if loop is not None:
            asyncio.set_event_loop(loop)
    if ended is not None:
        raise ScriptEnded(ended)
"""


def run_script_file(
    path: Path, arguments: Sequence[str], settings: Settings, workdir: Path | None, *, as_json: bool
) -> int:
    """Run it in a guest of its own; returns the exit code."""
    source = _source(path)
    directory = (workdir or path.parent).resolve()
    if not directory.is_dir():
        raise Invalid(f"--workdir: {directory} is not a directory")
    with Session(limits=settings.limits, level=settings.level, workdir=directory, name=path.name) as guest:
        done = Terminal(guest, capture=as_json, prompts=True).run(
            script_cell(source, str(path.resolve()), arguments)
        )
    return finish(_as_script(done), as_json=as_json)


def script_cell(source: str, path: str, arguments: Sequence[str]) -> str:
    """The cell that runs a script."""
    return f"{_RUNNER}\n__kernel_runtime_script__({source!r}, {path!r}, {list(arguments)!r})\n"


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
