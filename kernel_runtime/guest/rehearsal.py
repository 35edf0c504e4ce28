"""The first cell, run before any fork where no user code runs, and all its traces removed.

What Python specialises and what IPython and pandas cache for their first cell is then there for all
guests. Done in each of them it takes milliseconds, and copies a page of memory for each function.
"""

from __future__ import annotations

import contextlib
import linecache
import sys
import tempfile
import types
from typing import TYPE_CHECKING, Any

from kernel_runtime.guest.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_runtime.guest.shell_kernel import GuestKernel

_PLAIN = "1 + 1"
_TABLE = "import pandas\npandas.DataFrame({'a': [1, 2, 3]})"
#: After so many calls every supported Python has specialised a function.
_TIMES = 10


def rehearse(kernel: GuestKernel) -> None:
    """A rehearsal that fails is none: guests work without it."""
    cells = (_PLAIN, _TABLE) if "pandas" in sys.modules else (_PLAIN,)
    with _leaving_no_trace(kernel), contextlib.suppress(Exception):
        for cell in cells * _TIMES:
            kernel.shell.run_cell(cell, store_history=False)


@contextlib.contextmanager
def _leaving_no_trace(kernel: GuestKernel) -> Iterator[None]:
    """The namespace, the outputs and what the kernel only has in a live branch are as before."""
    shell, hook = kernel.shell, kernel.shell.displayhook
    spaces: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (space, dict(space)) for space in (shell.user_ns, shell.user_ns_hidden, shell.user_ns["_oh"])
    ]
    shown = (hook._, hook.__, hook.___)
    last = (shell.last_execution_result, shell.last_execution_succeeded)
    tempfile.tempdir = "/tmp"  # noqa: S108 — a name only: looking for one would write to the host's
    kernel.interrupts = Interrupts()
    kernel.mending = types.SimpleNamespace(streams=lambda: None)  # type: ignore[assignment] # a stand-in
    try:
        yield
    finally:
        del kernel.interrupts, kernel.mending
        tempfile.tempdir = None
        for space, kept in spaces:
            space.clear()
            space.update(kept)
        for name in shell.compile._filename_map:
            linecache.cache.pop(name, None)
        shell.compile._filename_map.clear()
        hook._, hook.__, hook.___ = shown
        shell.last_execution_result, shell.last_execution_succeeded = last
