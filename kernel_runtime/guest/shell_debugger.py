"""The debugger inside the live branch: pydevd (debugpy's core) on a socket the host has passed.

Without debugpy's adapter: no process is started, no port opened, so it works at every level.
pydevd's threads live from ``start`` until the host hangs up; then the branch has one thread
again. What Jupyter adds to DAP (cells as files, variables without a stop) is answered by
``ask``: as a request while the shell is idle, through DAP's ``evaluate`` while a cell runs.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
from ipykernel.compiler import get_file_name
from IPython.core.getipython import get_ipython
from IPython.core.inputtransformer2 import leading_empty_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    Body = dict[str, Any]

_END_SECONDS = 2.0
_RUNS, _NO_STEP = 1, -1  # pydevd's STATE_RUN, and no step command
_QUIET = "PYDEVD_DISABLE_FILE_VALIDATION"


class Answer:
    """An answer whose ``repr`` is its JSON: so ``evaluate`` hands it out unquoted and uncut."""

    def __init__(self, value: Any) -> None:
        from kernel_runtime.guest.shell_session import to_json

        self._text = to_json(value).decode()

    def __repr__(self) -> str:
        return self._text


def ask(text: str) -> Answer:
    """For ``evaluate`` without a frame: ``text`` is the JSON of a request for ``Debugging.answer``."""
    return Answer(get_ipython().kernel.debugging.answer(msgspec.json.decode(text)))  # type: ignore[union-attr] # there is one


def rich(value: Any) -> Answer:
    """For ``evaluate`` in a frame: how a variable there is displayed."""
    data, metadata = get_ipython().display_formatter.format(value)  # type: ignore[union-attr] # there is one
    return Answer({"success": True, "body": {"data": data, "metadata": metadata}})


class Debugging:
    """Starts and stops pydevd, and answers what DAP has no word for."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._explorer: Any = None
        self._pydevd: Any = None
        self._threads: set[threading.Thread] = set()
        self._removed = -1
        self._commands: dict[str, Callable[[Body], Body]] = {
            "start": self._start,
            "stop": self._stop,
            "dumpCell": _dump,
            "source": _source,
            "modules": _modules,
            "inspectVariables": self._inspect,
            "variables": self._variables,
            "richInspectVariables": self._rich,
        }
        os.register_at_fork(after_in_child=self._let_go)

    def answer(self, request: Body) -> Body:
        """A request ``{command, arguments}`` → ``{success, body}`` or ``{success, message}``."""
        try:
            body = self._commands[request["command"]](request.get("arguments") or {})
        except Exception as error:  # noqa: BLE001 - user objects run code when they are looked at
            return {"success": False, "message": f"{type(error).__name__}: {error}"}
        return {"success": True, "body": body}

    # -- life ----------------------------------------------------------------------------------

    def _start(self, _: Body) -> Body:
        self._stop(_)
        sock = socket.socket(fileno=self._kernel.connection.fds.popleft())
        try:
            self._pydevd = _attach(sock)
        except BaseException:
            sock.close()
            raise
        self._threads = set(self._pydevd.created_pydb_daemon_threads)
        self._keep_empty_lines()
        return {}

    def _stop(self, _: Body) -> Body:
        if self._pydevd is not None:
            found, self._pydevd = self._pydevd, None
            _detach(found, self._threads)
            if self._removed >= 0:
                self._transforms.insert(self._removed, leading_empty_lines)
                self._removed = -1
        return {}

    def rearm(self) -> None:
        """Before each cell: an interrupt at a breakpoint leaves the thread untraced, and stopped in
        pydevd's view, so that later breakpoints are missed (jupyterlab#15012)."""
        found, interrupts = self._pydevd, self._kernel.interrupts
        if found is None or found.pydb_disposed or not interrupts.struck:
            return
        interrupts.struck = False
        state = threading.current_thread().additional_info  # type: ignore[attr-defined] # pydevd puts it there
        state.pydev_state, state.pydev_step_cmd = _RUNS, _NO_STEP
        state.update_stepping_info()
        found.enable_tracing()

    @property
    def _transforms(self) -> list[Any]:
        transforms: list[Any] = self._kernel.shell.input_transformer_manager.cleanup_transforms
        return transforms

    def _keep_empty_lines(self) -> None:
        """A breakpoint's line counts from the top of the cell, empty lines included."""
        if leading_empty_lines in self._transforms:
            self._removed = self._transforms.index(leading_empty_lines)
            del self._transforms[self._removed]

    def _let_go(self) -> None:
        """In a child that was forked: its breakpoints would stop it with nobody to resume it."""
        if self._pydevd is not None:
            _untrace()
            threading.settrace(None)
            self._pydevd.pydb_disposed = True
            self._pydevd = None

    # -- variables ---------------------------------------------------------------------------------

    def _inspect(self, _: Body) -> Body:
        _import_quietly()
        from ipykernel.debugger import VariableExplorer

        self._explorer = VariableExplorer()
        self._explorer.track()
        return {"variables": self._explorer.get_children_variables()}

    def _variables(self, arguments: Body) -> Body:
        if self._explorer is None:
            return {"variables": []}
        return {"variables": self._explorer.get_children_variables(arguments["variablesReference"])}

    def _rich(self, arguments: Body) -> Body:
        name = arguments["variableName"]
        result = self._kernel.shell.user_expressions({name: name})[name]
        if result.get("status") != "ok":
            return {"data": {}, "metadata": {}}
        return {"data": result["data"], "metadata": result["metadata"]}


def _import_quietly() -> None:
    """Import debugpy without its warning about frozen modules, which no cell is."""
    before = os.environ.get(_QUIET)
    os.environ[_QUIET] = "1"
    try:
        import debugpy.server.api  # noqa: F401 - makes pydevd importable and speak DAP
    finally:
        if before is None:
            del os.environ[_QUIET]
        else:
            os.environ[_QUIET] = before


def _attach(sock: socket.socket) -> Any:
    """What ``debugpy.listen(in_process_debug_adapter=True)`` does, but connected already."""
    _import_quietly()
    import debugpy
    import pydevd

    connect, pydevd.start_client = pydevd.start_client, lambda *_: sock
    try:
        pydevd.settrace(
            host="127.0.0.1",
            port=0,
            suspend=False,
            wait_for_ready_to_run=False,
            block_until_connected=True,
            patch_multiprocessing=False,
            notify_stdin=False,
            dont_trace_start_patterns=(os.path.dirname(debugpy.__file__),),
        )
    finally:
        pydevd.start_client = connect
    return pydevd.get_global_debugger()


def _detach(found: Any, threads: set[threading.Thread]) -> None:
    """End tracing and every thread; the next start makes a new pydevd.

    ``threads`` it began with: one that is about to end has taken itself off pydevd's own list.
    """
    import pydevd

    threads = threads | set(found.created_pydb_daemon_threads)
    pydevd.set_global_debugger(None)  # or stoptrace would wait for its threads, by polling
    pydevd.stoptrace()
    found.dispose_and_kill_all_pydevd_threads(wait=False)
    end = time.monotonic() + _END_SECONDS
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    # Python lets go of a thread a moment before the kernel does.
    while any(map(_runs, threads)) and time.monotonic() < end:
        time.sleep(0.001)


def _untrace() -> None:
    """pydevd has put a function of its own in place of ``sys.settrace``, which complains to the person."""
    own = sys.modules["pydevd_tracing"].TracingFunctionHolder._original_tracing
    (own or sys.settrace)(None)


def _runs(thread: threading.Thread) -> bool:
    return os.path.exists(f"/proc/self/task/{thread.native_id}")


def _dump(arguments: Body) -> Body:
    """Write a cell to the file that its code object will name."""
    path = get_file_name(arguments["code"])
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(arguments["code"])
    return {"sourcePath": path}


def _source(arguments: Body) -> Body:
    with open(arguments["source"]["path"], encoding="utf-8") as file:
        return {"content": file.read()}


def _modules(arguments: Body) -> Body:
    modules = list(sys.modules.copy().values())
    first = arguments.get("startModule") or 0
    last = first + (arguments.get("moduleCount") or len(modules))
    found = []
    for number, module in enumerate(modules[first:last], first):
        origin = getattr(getattr(module, "__spec__", None), "origin", None)
        if origin and origin.endswith(".py"):
            found.append({"id": number, "name": module.__name__, "path": origin})
    return {"modules": found, "totalModules": len(modules)}
