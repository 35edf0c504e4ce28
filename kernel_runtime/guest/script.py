"""A script file run in the guest as Python would: ``__main__``, ``sys.argv``, its own tracebacks."""

from __future__ import annotations

import asyncio
import linecache
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from kernel_runtime.guest.interrupts import show_users_own

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType

#: The magic by which a guest of level strict runs a script, in its own language.
MAGIC = "kernel_runtime_script"


class ScriptEnded(Exception):
    """How a script ended: ``exit STATUS`` or ``error TYPE``; it has printed the rest itself."""


def run(
    names: dict[str, Any],
    source: str,
    path: str,
    arguments: Sequence[str],
    translate: Callable[[str, str], CodeType] | None = None,
) -> None:
    """Run ``source`` as the file ``path`` in ``names``; ``ScriptEnded`` unless it ends well.

    ``translate(source, path)`` compiles it, where the level has a language of its own. The shell's
    running event loop is put aside: a script calls ``asyncio.run()``.
    """
    names.update(__file__=path, __name__="__main__")
    sys.argv[:] = [path, *arguments]
    sys.path.insert(0, os.path.dirname(path))
    linecache.cache[path] = (len(source), None, source.splitlines(True), path)
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        ended = _run(names, source, path, translate or _compiled)
    finally:
        asyncio._set_running_loop(loop)
        if loop is not None:
            asyncio.set_event_loop(loop)
    if ended:
        raise ScriptEnded(ended)


def _compiled(source: str, path: str) -> CodeType:
    return compile(source, path, "exec", dont_inherit=True)


def _run(names: dict[str, Any], source: str, path: str, translate: Callable[[str, str], CodeType]) -> str:
    try:
        exec(translate(source, path), names)  # noqa: S102 - the guest's own code, in the guest
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    except SystemExit as end:
        if end.code in (None, 0):
            return ""
        if isinstance(end.code, int):
            return f"exit {end.code}"
        print(end.code, file=sys.stderr)
        return "exit 1"
    except BaseException as error:  # noqa: BLE001 - as the interpreter itself: whatever it is, it is shown
        show_users_own(error)
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, None if isinstance(error, SyntaxError) else trace)
        return f"error {type(error).__name__}"
    return ""
