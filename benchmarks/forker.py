"""The peer without walls: a process as warm as the zygote that forks on request.

Run as a program: ``forker.py MODULE…``, commands on stdin, one answer line each on stdout.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import sys


def main() -> None:
    for name in sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    _say("ready")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _say("started")
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(line.encode().decode("unicode_escape"), {})
            _say(" ".join(out.getvalue().split()) or "nothing")
            os._exit(0)
        os.waitpid(pid, 0)
        _say("gone")


def _say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


if __name__ == "__main__":
    main()
