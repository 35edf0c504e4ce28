"""The peer without walls: a process as warm as the zygote that forks on request.

Run as a program: ``forker.py MODULE…``; each line on stdin is code for a child (behind ``!`` for this process itself), and
has its answers on stdout, a line each.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import sys

from kernel_runtime.sandbox.syscalls import set_child_subreaper


def main() -> None:
    for name in sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    set_child_subreaper()  # what a child leaves behind is buried here
    gc.collect()
    gc.freeze()
    _say("ready")
    for line in sys.stdin:
        if line.startswith("!"):
            _run(line[1:])
            gc.collect()
            gc.freeze()
            _say("done")
            continue
        pid = os.fork()
        if pid == 0:
            _say("started")
            _say(_run(line))
            os._exit(0)
        os.waitpid(pid, 0)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        _say("gone")


def _run(line: str) -> str:
    """What the code of a line prints, in one line."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(line.encode().decode("unicode_escape"), globals())
    return " ".join(out.getvalue().split()) or "nothing"


def _say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


if __name__ == "__main__":
    main()
