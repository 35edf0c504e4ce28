"""``sys.stdout`` and ``sys.stderr`` of the guest: text becomes Stream frames, in order."""

from __future__ import annotations

import _thread
import io
import os
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from kernel_runtime import wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernel_runtime.guest.connection import Connection
    from kernel_runtime.guest.interrupts import Interrupts

#: A burst of lines is sent line by line this often per interval, then gathered.
_LINES_AT_ONCE = 8
_INTERVAL = 0.05
_SIZE = 64 * 1024
_CHUNK = 256 * 1024


class Console:
    """Gathers what is written and sends it: at once while lines are few, else every 50 ms.

    What stays behind is sent by a thread that lives only as long as text waits: without it,
    text before a long computation would not show. No thread outlives the text by 50 ms, and
    none lives through a fork.
    """

    def __init__(self, connection: Connection, interrupts: Interrupts) -> None:
        self._connection = connection
        self._interrupts = interrupts
        self._parent: ContextVar[str] = ContextVar("kernel_runtime_parent")
        self._last_parent = ""
        self._lock = threading.RLock()
        self._key = ("", "")
        self._pieces: list[str] = []
        self._size = 0
        self._window = 0.0
        self._lines = 0
        self._ticking = False
        self._stop = threading.Event()
        self._stopped = threading.Event()
        self.silent = False

    @property
    def parent(self) -> str:
        """Request of this context, or of the last cell for contexts that never had one."""
        return self._parent.get(self._last_parent)

    def set_parent(self, request: str, *, everywhere: bool) -> Any:
        """Name the request that text of this context (or of all others, too) belongs to."""
        if everywhere:
            self._last_parent = request
        return self._parent.set(request)

    def reset_parent(self, token: Any) -> None:
        self._parent.reset(token)

    def write(self, name: str, text: str) -> None:
        if self.silent:
            _write_all(1 if name == "stdout" else 2, text)
            return
        key = (self.parent, name)
        with self._interrupts, self._lock:
            if key != self._key:
                self._drain()
                self._key = key
            self._pieces.append(text)
            self._size += len(text)
            if self._size >= _SIZE or (text[-1:] == "\n" and self._may_send()):
                self._drain()
            elif not self._ticking:
                self._start_ticking()

    def flush(self) -> None:
        """Send what waits; every other frame does this first, so order is kept."""
        if self._pieces:
            with self._interrupts, self._lock:
                self._drain()

    def _may_send(self) -> bool:
        now = time.monotonic()
        if now - self._window > _INTERVAL:
            self._window, self._lines = now, 0
        self._lines += 1
        return self._lines <= _LINES_AT_ONCE

    def _drain(self) -> None:
        if not self._pieces:
            return
        text = "".join(self._pieces)
        self._pieces, self._size = [], 0
        parent, name = self._key
        for start in range(0, len(text), _CHUNK):
            piece = _encodable(text[start : start + _CHUNK])
            self._connection.send(wire.Stream(parent=parent, name=name, text=piece))

    def _start_ticking(self) -> None:
        self._stop.clear()
        self._stopped = threading.Event()
        self._ticking = True
        try:
            _thread.start_new_thread(self._tick, (self._stopped,))
        except RuntimeError:
            # no thread to be had (a limit): do without gathering
            self._ticking = False
            self._drain()

    def _tick(self, stopped: threading.Event) -> None:
        while not self._stop.wait(_INTERVAL):
            with self._lock:
                if not self._pieces:
                    self._ticking = False
                    break
                self._drain()
        stopped.set()

    def settle(self) -> None:
        """Send everything and end the thread, if there is one (before any fork)."""
        self.flush()
        if self._ticking:
            self._stop.set()
            self._stopped.wait()
            self._ticking = False

    def orphan(self) -> None:
        """In a child that user code forked: text goes to the plain descriptors 1 and 2."""
        self.silent = True
        self._lock = threading.RLock()
        self._pieces, self._size, self._ticking = [], 0, False


class Stream(io.TextIOBase):
    """One of the two streams, as ``print`` sees it. Shape of ipykernel's OutStream."""

    def __init__(self, name: str, console: Console) -> None:
        super().__init__()
        self.name = name
        self._console = console
        self._fd = 1 if name == "stdout" else 2

    @property
    def encoding(self) -> str:  # type: ignore[override] # an attribute there
        return "UTF-8"

    @property
    def errors(self) -> str:  # type: ignore[override] # an attribute there
        return "replace"

    def write(self, text: str) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text)}")
        if text:
            self._console.write(self.name, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override] # any buffer there
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._console.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        """The plain descriptor: what a subprocess writes there arrives as well."""
        return self._fd

    def set_parent(self, parent: dict[str, Any]) -> None:
        self._console.set_parent(request_of(parent), everywhere=True)

    def set_thread_parent(self, parent: dict[str, Any]) -> Any:
        return self._console.set_parent(request_of(parent), everywhere=False)

    def reset_thread_parent(self, token: Any) -> None:
        self._console.reset_parent(token)


class Header(dict[str, Any]):
    """A message header that remembers the request (frame id) it came with."""

    request: str = ""


def request_of(parent: Any) -> str:
    """The request a parent message or header stands for; "" when it stands for none."""
    if not isinstance(parent, dict):
        return ""
    header = parent.get("header", parent)
    if isinstance(header, Header):
        return header.request
    return str(header.get("msg_id", "")) if isinstance(header, dict) else ""


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _write_all(fd: int, text: str) -> None:
    data = memoryview(text.encode(errors="replace"))
    while data:
        data = data[os.write(fd, data) :]
