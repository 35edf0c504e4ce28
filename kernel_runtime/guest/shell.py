"""The guest's shell: prepared once where no user code runs, then alive in each branch."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import platform
import random
import re
import sys
import threading
from typing import TYPE_CHECKING, Any

from kernel_runtime.guest import threads
from kernel_runtime.guest.headroom import Headroom
from kernel_runtime.guest.mending import remember
from kernel_runtime.guest.shell_session import IOPUB, SHELL, FrameSession, to_json
from kernel_runtime.guest.stdio import Header

if TYPE_CHECKING:
    from kernel_runtime import wire
    from kernel_runtime.guest.connection import Connection
    from kernel_runtime.guest.interrupts import Interrupts
    from kernel_runtime.guest.mending import Mending
    from kernel_runtime.guest.shell_kernel import GuestKernel
    from kernel_runtime.guest.stdio import Console

_TRAIT = re.compile(r"--([A-Z]\w*)\.(\w+)=(.*)", re.DOTALL)
#: Level strict's language; other levels do not pay for it.
RESTRICTED = "kernel_runtime.guest.restricted"
REHEARSAL = "kernel_runtime.guest.rehearsal"
#: Every writer of a checkpoint needs it, after it was forked.
WRITER = "kernel_runtime.guest.checkpoint_save"
#: What it puts among the variables by itself.
_OF_IPYTHON = re.compile(r"_{1,3}|_i{0,3}\d*|_(?:ih|oh|dh|exit_code)|__\w*__")
_INLINE = "module://matplotlib_inline.backend_inline"


@functools.cache
def prepare() -> Shell:
    """Import IPython and ipykernel and build the shell: no thread, no descriptor, no file.

    Built once: in the zygote if its image asks for it, else in the session's pid 1.
    """
    # ipykernel imports debugpy (16 MB) to see whether it is there; we do when it is wanted.
    sys.modules.setdefault("debugpy", None)  # type: ignore[arg-type] # what makes an import fail
    try:
        shell = Shell(_build())
        remember()
        return shell
    finally:
        if sys.modules.get("debugpy", ...) is None:
            del sys.modules["debugpy"]
            sys.modules.pop("ipykernel.debugger", None)  # to be imported again, with it


def _build() -> GuestKernel:
    from traitlets.config import Config

    from kernel_runtime.guest import clients, imports, shell_displays, shell_magics
    from kernel_runtime.guest.shell_kernel import GuestKernel, Profile

    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    session = FrameSession()
    kernel: GuestKernel = GuestKernel.instance(
        config=config,
        session=session,
        iopub_socket=IOPUB,
        profile_dir=Profile(),
        log=logging.getLogger("kernel_runtime.guest"),
    )
    shell_displays.install(kernel.shell)
    imports.tell(clients.LIBRARIES)
    shell_magics.install(kernel)
    _warm_up(kernel)
    return kernel


def _warm_up(kernel: GuestKernel) -> None:
    """Imports and caches that the first cell or completion would otherwise pay for."""
    for module in ("IPython.core.completer", "pexpect", "kernel_runtime.guest.loop"):
        importlib.import_module(module)
    kernel.shell.transform_cell("1+1")
    kernel.shell.display_formatter.format(1)
    kernel.shell.inspector.info(print)


class Shell:
    """The prepared kernel; ``begin`` gives it the things of one live branch."""

    def __init__(self, kernel: GuestKernel) -> None:
        self.kernel = kernel
        self._about = {
            "python": platform.python_version(),
            "implementation": kernel.implementation_version,
            "banner": kernel.banner,
            "language_info": kernel.language_info,
            "help_links": kernel.help_links,
        }

    def warm(self) -> None:
        """Where time does not matter: what the first error, table, plot and snapshot, and checkpoints, would pay for."""
        importlib.import_module(RESTRICTED).warm()  # once, for the strict ones among many guests
        importlib.import_module(WRITER)
        shell = self.kernel.shell
        try:
            compile("1 +", "<warm-up>", "exec")
        except SyntaxError as error:
            shell.InteractiveTB.structured_traceback(type(error), error, error.__traceback__)
        pandas = sys.modules.get("pandas")
        if pandas is not None:
            shell.display_formatter.format(pandas.DataFrame({"a": [1]}))
        os.environ.setdefault("MPLBACKEND", _INLINE)
        _plot_inline()
        importlib.import_module(REHEARSAL).rehearse(self.kernel)
        threads.openmp_libraries()

    @property
    def session(self) -> FrameSession:
        session: FrameSession = self.kernel.session
        return session

    @property
    def namespace(self) -> dict[str, Any]:
        """The user's variables."""
        namespace: dict[str, Any] = self.kernel.shell.user_ns
        return namespace

    def variables(self, *, private: bool = False) -> list[str]:
        """The names that the notebook has given, without what the shell itself put there. ``private``: also those that
        begin with ``_`` and are none of IPython's (``_``, ``_3``, ``_i3``, ``_oh``, …)."""
        hidden = self.hidden
        return [
            name
            for name, value in self.namespace.items()
            if not (_OF_IPYTHON.fullmatch(name) if private else name.startswith("_"))
            and not (name in hidden and hidden[name] is value)
        ]

    @property
    def hidden(self) -> dict[str, Any]:
        """IPython's own names among them, with what these stood for at first."""
        hidden: dict[str, Any] = self.kernel.shell.user_ns_hidden
        return hidden

    def begin(
        self,
        begin: wire.Begin,
        connection: Connection,
        console: Console,
        interrupts: Interrupts,
        mending: Mending,
    ) -> None:
        """Connect the kernel with this branch's connection and settings."""
        kernel, shell = self.kernel, self.kernel.shell
        kernel.begin, kernel.connection, kernel.console = begin, connection, console
        kernel.interrupts, kernel.mending = interrupts, mending
        kernel.headroom = Headroom()
        self.session.connection, self.session.console = connection, console
        shell.init_environment()
        os.environ.setdefault("MPLBACKEND", _INLINE)
        shell.execution_count = begin.execution_count + 1
        home = os.environ.get("HOME") or "/tmp"  # noqa: S108 - a name only, nothing is made there
        shell.ipython_dir = os.path.join(home, ".ipython")
        shell.profile_dir.location = os.path.join(shell.ipython_dir, "profile_default")
        if begin.arguments:
            _apply_arguments(shell, begin.arguments)
        if begin.level == "strict":
            importlib.import_module(RESTRICTED).enforce(shell, begin.blocked)
        _reseed(begin.seed)
        _plot_inline()
        _adopt_threads(kernel)

    def info(self) -> bytes:
        """The JSON of ``Ready``: what the front needs for kernel info."""
        from ipykernel.compiler import get_tmp_directory

        return to_json(
            self._about
            | {
                "threads": threading.active_count(),
                "cells": get_tmp_directory() + os.sep,
            }
        )

    def info_restored(self, restored: dict[str, Any]) -> bytes:
        """The JSON of a thawed branch's ``Ready``. No more: a banner's tip would draw a random number."""
        return to_json({"restored": restored})

    def works(self, request: wire.Request) -> bool:
        """Whether a cell can be run, after one has failed in what runs it: user code may have broken that."""
        from kernel_runtime.guest.shell_kernel import to_message

        try:
            self.kernel.set_parent([], to_message(request))
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            self.kernel.shell.run_cell("pass", store_history=False, silent=True)
        except (KeyboardInterrupt, MemoryError, RecursionError):
            return True  # not for good
        except BaseException:  # noqa: BLE001 - whatever it is
            return False
        return True

    def fail(self, request: wire.Request, error: BaseException) -> None:
        """Answer a request whose handler itself failed; what was answered stays."""
        if self.session.replied == request.id or not request.kind.endswith("_request"):
            return
        content: dict[str, Any] = {
            "status": "error",
            "ename": type(error).__name__,
            "evalue": str(error),
            "traceback": [],
        }
        parent = {"header": Header()}
        parent["header"].request = request.id
        if request.kind == "execute_request":
            self.session.send(IOPUB, "error", _error_only(content), parent)
            content |= {"execution_count": request.count, "user_expressions": {}, "payload": []}
        self.session.send(SHELL, request.kind.removesuffix("_request") + "_reply", content, parent)

    def abort(self, request: wire.Request) -> None:
        """Answer an execute request that an error before it has cancelled."""
        from kernel_runtime.guest.shell_kernel import to_message

        self.session.send(
            SHELL, "execute_reply", {"status": "aborted"}, to_message(request), metadata={"status": "aborted"}
        )

    def tidy(self) -> None:
        """After a request: end the loop thread that ``%%bash`` leaves, unless it has work."""
        scripts = self.kernel.shell.magics_manager.registry.get("ScriptMagics")
        if scripts is not None and scripts.event_loop is not None and not scripts.bg_processes:
            scripts.stop_event_loop()


def _error_only(content: dict[str, Any]) -> dict[str, Any]:
    return {name: content[name] for name in ("ename", "evalue", "traceback")}


def _apply_arguments(shell: Any, arguments: list[str]) -> None:
    """Traits given on the kernel's command line (``--InteractiveShell.xmode=Plain``)."""
    from traitlets.config.loader import Config, DeferredConfigString

    config = Config()
    for argument in arguments:
        given = _TRAIT.fullmatch(argument)
        if given and given[1] != "HistoryManager":
            config[given[1]][given[2]] = DeferredConfigString(given[3])
    if config:
        for configurable in (shell, *shell.configurables):
            configurable.update_config(config)
        shell.InteractiveTB.set_mode(mode=shell.xmode)


def _reseed(seed: bytes) -> None:
    """Random numbers are each branch's own, where a numpy imported by the zygote gave all the same; a branch that
    begins with the seed of another one draws what that drew."""
    random.seed(seed or None)
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(list(seed) or None)


#: What matplotlib was told, by the zygote perhaps: to tell it again takes a guest 1.5 ms and a MiB.
_told = {"backend": ""}


def _plot_inline() -> None:
    """matplotlib reads MPLBACKEND when it is imported: tell one imported by the zygote."""
    matplotlib, chosen = sys.modules.get("matplotlib"), os.environ["MPLBACKEND"]
    if matplotlib is None or _told["backend"] == chosen:
        return
    matplotlib.rcParams._set("backend", chosen)
    backend = sys.modules.get("matplotlib_inline.backend_inline")
    if backend is not None:
        backend._enable_matplotlib_integration()
    _told["backend"] = chosen


def _adopt_threads(kernel: GuestKernel) -> None:
    """Threads print into the cell that started them (a new thread has an empty context)."""
    start, bootstrap = threading.Thread.start, threading.Thread._bootstrap_inner  # type: ignore[attr-defined] # private

    def start_owned(self: threading.Thread) -> None:
        self.__dict__["_kernel_runtime_parent"] = kernel.get_parent()
        start(self)

    def bootstrap_owned(self: threading.Thread) -> None:
        parent = self.__dict__.pop("_kernel_runtime_parent", None)
        if parent:
            kernel.adopt(parent)
        bootstrap(self)

    threading.Thread.start = start_owned  # type: ignore[method-assign] # on purpose
    threading.Thread._bootstrap_inner = bootstrap_owned  # type: ignore[attr-defined] # private
