"""Run a whole notebook headless in the sandboxed kernel, through nbclient.

The kernel is always ours, whatever kernelspec the notebook names, and needs no installed
kernelspec. Whoever runs it watches through a ``Watcher``; what happened is an ``Outcome``.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import sys
import tempfile
import time
from typing import IO, TYPE_CHECKING, Any, Protocol

import msgspec
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.verdict import Verdict
from kernel_runtime.jupyter.guests import limit_seen_inside
from kernel_runtime.jupyter.settings import cell_source, tighten

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nbformat import NotebookNode

    from kernel_runtime.jupyter.settings import Settings

KEY = "kernel_runtime"
_KERNEL_MODULE = "kernel_runtime.jupyter.kernel"


class CellReport(msgspec.Struct, kw_only=True):
    """What became of one code cell; ``status``: ok, error, expected-error, skipped, not-run."""

    index: int
    line: str
    status: str = "not-run"
    seconds: float = 0.0


class Failure(msgspec.Struct, kw_only=True):
    """Why a run ended early; ``cell`` is the cell's place in the notebook (0 first), or None."""

    cell: int | None
    line: str
    ename: str
    evalue: str
    traceback: list[str]
    verdict: Verdict | None = None


class Outcome(msgspec.Struct, kw_only=True):
    """``status``: ok, error (a cell raised), limit, refused, lost, interrupted. ``standing``: level and rung of
    the guest, and the walls that it was without."""

    status: str
    seconds: float
    cells: list[CellReport]
    failure: Failure | None = None
    standing: dict[str, Any] = {}


class Watcher(Protocol):
    """Is told what happens while a notebook runs, in its order."""

    def begin(self, cells: Sequence[CellReport]) -> None: ...

    def cell_started(self, cell: CellReport) -> None: ...

    def text(self, cell: CellReport, name: str, text: str) -> None: ...

    def cell_ended(self, cell: CellReport) -> None: ...


# -- before the run -----------------------------------------------------------------------------


def tighten_by(notebook: NotebookNode, settings: Settings) -> None:
    """Apply limits and level of the notebook's own metadata, which may only tighten."""
    place = "the notebook's metadata"
    if KEY not in notebook.metadata:
        return
    try:
        source = cell_source(msgspec.json.encode({KEY: notebook.metadata[KEY]}))
    except Invalid as error:
        raise Invalid(str(error).replace("cell metadata", place, 1)) from None
    tighten(settings, None if source is None else msgspec.structs.replace(source, place=place))


def clear_outputs(notebook: NotebookNode) -> None:
    """Forget outputs of an earlier run, so that a partial notebook shows this run only."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "skip-execution" not in cell.metadata.get("tags", ()):
            cell.outputs = []
            cell.execution_count = None
            cell.metadata.pop("execution", None)


def first_line(source: str) -> str:
    """The first line of a cell that says something."""
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("#")), lines[0] if lines else "")


# -- the run ------------------------------------------------------------------------------------


def run_notebook(
    notebook: NotebookNode, *, settings: Settings, workdir: Path, watcher: Watcher, startup: float = 60.0
) -> Outcome:
    """Run every cell of ``notebook`` in place, until one fails that may not.

    Blocks; must be called in the main thread for Ctrl-C to interrupt the running cell (a second
    Ctrl-C ends the kernel). Outputs so far stay in ``notebook`` whatever the outcome.
    """
    run = _Run(notebook, watcher)
    watcher.begin(run.cells)
    started = time.monotonic()
    with tempfile.TemporaryFile() as stderr:
        manager = _manager(settings)
        client = _Client(run, manager, startup_timeout=startup)
        status = asyncio.run(_execute(run, client, workdir, stderr))
    return Outcome(
        status=status,
        seconds=time.monotonic() - started,
        cells=run.cells,
        failure=run.failure,
        standing=run.standing,
    )


def _manager(settings: Settings) -> AsyncKernelManager:
    manager = AsyncKernelManager()
    manager._kernel_spec = KernelSpec(
        argv=[sys.executable, "-P", "-m", _KERNEL_MODULE, "-f", "{connection_file}", *kernel_flags(settings)],
        display_name="Python (kernel_runtime)",
        language="python",
        interrupt_mode="message",
    )
    return manager


def kernel_flags(settings: Settings) -> list[str]:
    """Command-line flags of our kernel for these settings."""
    amounts = msgspec.structs.asdict(settings.limits)
    given = {"level": settings.level} | {
        name: "none" if value is None else value for name, value in amounts.items()
    }
    given |= {
        name: value
        for name in ("check", "policy", "rung", "flood", "manifest")
        if (value := getattr(settings, name))
    }
    given |= {name: "\n".join(value) for name in ("allow", "deny") if (value := getattr(settings, name))}
    return [f"--KernelRuntime.{name}={value}" for name, value in given.items()]


def _environment() -> dict[str, str]:
    """Ours, without the settings that are in the flags already: there the environment is stronger."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KERNEL_RUNTIME_")}


async def _execute(run: _Run, client: _Client, workdir: Path, stderr: IO[bytes]) -> str:
    """Run it and say how it ended; the run's ``failure`` says the rest."""
    try:
        await client.async_execute(cwd=str(workdir), env=_environment(), stderr=stderr, cleanup_kc=True)
    except (CellExecutionError, _Stopped):
        pass  # cell_executed has noted it
    except (DeadKernelError, RuntimeError, asyncio.CancelledError) as error:
        if not run.stopped:
            run.lost(error, _tail(stderr))
    finally:
        atexit.unregister(client._cleanup_kernel)  # nbclient forgets to when the kernel does not start
    run.close()
    return run.status()


def _tail(file: IO[bytes], size: int = 4000) -> str:
    file.seek(0, 2)
    file.seek(max(0, file.tell() - size))
    return file.read().decode("utf-8", "replace").strip()


class _Stopped(Exception):
    """Ends a run between two cells."""


class _Run:
    """One run's bookkeeping: what each cell is at, and the failure that ends it."""

    def __init__(self, notebook: NotebookNode, watcher: Watcher) -> None:
        self.notebook = notebook
        self.watcher = watcher
        self.cells = [
            CellReport(index=index, line=first_line(cell.source))
            for index, cell in enumerate(notebook.cells)
            if cell.cell_type == "code" and cell.source.strip()
        ]
        self._by_index = {cell.index: cell for cell in self.cells}
        self.failure: Failure | None = None
        self.standing: dict[str, Any] = {}
        self.current: CellReport | None = None
        self.interrupts = 0
        self.stopped = False
        self._began = 0.0

    # hooks of nbclient, in the order they come for a cell

    def cell_considered(self, cell: NotebookNode, cell_index: int) -> None:
        report = self._by_index.get(cell_index)
        if report is not None and "skip-execution" in cell.metadata.get("tags", ()):
            report.status = "skipped"
            self.watcher.cell_ended(report)

    def cell_started(self, cell: NotebookNode, cell_index: int) -> None:
        self.current = self._by_index[cell_index]
        self._began = time.monotonic()
        self.watcher.cell_started(self.current)

    def cell_executed(self, cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]) -> None:
        report = self._by_index[cell_index]
        report.seconds = time.monotonic() - self._began
        content = execute_reply["content"]
        self.standing = execute_reply.get("metadata", {}).get(KEY, {}).get("standing", self.standing)
        if content["status"] == "ok":
            report.status = "ok"
        elif "raises-exception" in cell.metadata.get("tags", ()) and not self.interrupts:
            report.status = "expected-error"
        else:
            report.status = "error"
            self._fail(report, content, execute_reply.get("metadata", {}))
        self.watcher.cell_ended(report)
        self.current = None
        if self.interrupts:  # nbclient would go on after a cell that may fail
            raise _Stopped

    def _fail(self, report: CellReport, content: dict[str, Any], metadata: dict[str, Any]) -> None:
        self.failure = Failure(
            cell=report.index,
            line=report.line,
            ename=str(content.get("ename", "Error")),
            evalue=str(content.get("evalue", "")),
            traceback=[str(line) for line in content.get("traceback", [])],
            verdict=read_verdict(metadata),
        )

    def text(self, name: str, text: str) -> None:
        if self.current is not None:
            self.watcher.text(self.current, name, text)

    # ends

    def lost(self, error: BaseException, stderr: str) -> None:
        """The kernel died or never came up; what it said last is the best explanation."""
        self.failure = Failure(
            cell=self.current.index if self.current else None,
            line=self.current.line if self.current else "",
            ename=type(error).__name__,
            evalue=str(error),
            traceback=stderr.splitlines()[-15:],
        )

    def close(self) -> None:
        if self.current is not None:
            self.current.status = "error"
            self.current.seconds = time.monotonic() - self._began
            self.watcher.cell_ended(self.current)

    def status(self) -> str:
        if self.interrupts:
            return "interrupted"
        return "ok" if self.failure is None else status_of(self.failure)


def read_verdict(metadata: dict[str, Any]) -> Verdict | None:
    """The verdict our kernel puts into the metadata of an execute_reply."""
    found = metadata.get(KEY, {}).get("verdict")
    try:
        return None if found is None else msgspec.convert(found, Verdict, strict=False)
    except msgspec.ValidationError:
        return None


def status_of(failure: Failure) -> str:
    """``error``, ``limit``, ``refused`` or ``lost``."""
    if failure.verdict is not None:
        if failure.verdict.is_limit:
            return "limit"
        return "refused" if failure.verdict.reason == "seccomp" else "lost"
    if limit_seen_inside(failure.ename, failure.evalue):
        return "limit"
    if failure.ename in ("WallUnavailable", "CapabilityDenied", "CheckRefused"):
        return "refused"
    if (
        failure.ename in ("GuestLost", "ZygoteLost", "ProtocolViolation", "DeadKernelError")
        or failure.cell is None
    ):
        return "lost"
    return "error"


class _Client(NotebookClient):
    """nbclient, with our kernel, text as it comes, and an interrupt that keeps the notebook."""

    def __init__(self, run: _Run, manager: AsyncKernelManager, **options: Any) -> None:
        super().__init__(
            run.notebook,
            km=manager,
            timeout=None,
            record_timing=True,
            on_notebook_start=self._started,
            on_cell_start=run.cell_considered,
            on_cell_execute=run.cell_started,
            on_cell_executed=run.cell_executed,
            **options,
        )
        self._run = run
        self._manager = manager
        self._task: asyncio.Task[Any] | None = None

    def _started(self, notebook: NotebookNode) -> None:
        # nbclient's own SIGINT handler throws the kernel away under the running cell's feet
        self._task = asyncio.current_task()
        with contextlib.suppress(RuntimeError, ValueError):
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGINT, self._interrupted)
            loop.add_signal_handler(signal.SIGTERM, self._stop)

    def _interrupted(self) -> None:
        self._run.interrupts += 1
        if self._run.interrupts == 1:
            self._pending = asyncio.ensure_future(self._manager.interrupt_kernel())
        else:
            self._stop()

    def _stop(self) -> None:
        self._run.interrupts += 1
        self._run.stopped = True
        if self._task is not None:
            self._task.cancel()

    def process_message(
        self, msg: dict[str, Any], cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        if msg["msg_type"] == "stream":
            self._run.text(msg["content"]["name"], msg["content"]["text"])
        return super().process_message(msg, cell, cell_index)
