"""Repairs after a cell that damaged its own process: builtins, streams, descriptors."""

from __future__ import annotations

import builtins
import os
import sys
from typing import TYPE_CHECKING, Any

from kernel_runtime.guest.connection import lift
from kernel_runtime.guest.stdio import Stream

if TYPE_CHECKING:
    from kernel_runtime.guest.stdio import Console


#: What was imported when the shell was built, and the builtins. Kept before any fork: to copy them
#: in each branch would touch every module, and with it a page of memory each.
_modules: dict[str, Any] = {}
_builtins: dict[str, Any] = {}


def remember() -> None:
    """To be called once, where the shell is built."""
    _builtins.update(vars(builtins))
    imported: dict[str, Any] = dict(sys.modules)
    _modules.update((name, module) for name, module in imported.items() if module is not None)


class Mending:
    """What the process had when the branch began, and how to bring it back.

    Only what is *gone* comes back: a builtin or a stream that user code replaced by something
    that works stays replaced, as in any Python.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: dict[str, Any] = vars(builtins)
        self._builtins = _builtins or dict(self._live)
        self._copies = [(fd, lift(fd)) for fd in (0, 1, 2)]
        self._install()

    @property
    def copies(self) -> list[int]:
        """The descriptors that lead where 0, 1 and 2 do."""
        return [copy for _, copy in self._copies]

    def renew_copies(self) -> None:
        """0, 1 and 2 lead elsewhere from now on."""
        for fd, copy in self._copies:
            os.dup2(fd, copy, inheritable=False)

    def _install(self) -> None:
        for name in ("stdout", "stderr"):
            setattr(sys, name, Stream(name, self._console))

    def builtins(self) -> str:
        """Put deleted builtins back (using none of them); returns their names."""
        missing = self._builtins.keys() - self._live.keys()
        for name in missing:
            self._live[name] = self._builtins[name]
        return ", ".join(sorted(missing)) if missing else ""

    def __call__(self) -> None:
        """Repair everything; says so in one line on stderr when something was missing."""
        emptied = self._imports()
        missing = self.builtins()
        self.streams()
        self._descriptors()
        if missing:
            sys.stderr.write(f"kernel_runtime: deleted builtins were restored: {missing}\n")
        if emptied:
            sys.stderr.write(
                "kernel_runtime: sys.modules had been emptied; what the shell needs was restored\n"
            )

    def _imports(self) -> bool:
        """Without these two nothing can be imported any more, not even to say so."""
        emptied = "builtins" not in sys.modules or "sys" not in sys.modules
        if emptied:
            sys.modules.update(_modules)
        return emptied

    def streams(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name, None)
            if type(stream) is Stream and not stream.closed:
                continue
            if not _usable(stream):
                setattr(sys, name, Stream(name, self._console))

    def _descriptors(self) -> None:
        for fd, copy in self._copies:
            try:
                os.fstat(fd)
            except OSError:
                os.dup2(copy, fd)


def _usable(stream: Any) -> bool:
    try:
        stream.write("")
        stream.flush()
    except Exception:  # noqa: BLE001 - user code's object: whatever it raises, it is unusable
        return False
    return True
