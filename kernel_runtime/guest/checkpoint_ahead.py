"""Large lists and dicts, pickled by a helper while the writer finds out what belongs together.

The helper takes each of them as if it were alone, which most are. What turns out to be otherwise,
or to need more than a stream, the writer pickles again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.guest import checkpoint_helper as helpers

if TYPE_CHECKING:
    from collections.abc import Callable

    Pickle = Callable[[Any, dict[str, Any]], "Outcome | None"]

#: Values, at least, of a variable that is worth it.
_LARGE = 50_000
#: Bytes of streams that a helper keeps while the writer is busy.
_MOST_HELD = 64 * MIB
_SIZE = struct.Struct("<q")
_END = -1


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What a stream needs beside it: packages, and definitions by their ids, which both processes share."""

    packages: list[str]
    tokens: dict[int, str]


_decode = msgspec.msgpack.Decoder(Outcome | None).decode


class Ahead:
    """Streams of the variables ``names``, one after another, from a helper. ``pickle`` writes a variable
    into a file; it answers None where the stream is not all of it."""

    def __init__(
        self,
        variables: dict[str, Any],
        pickle: Pickle,
        let_go: Callable[[], None],
    ) -> None:
        large = {name: value for name, value in variables.items() if _is_large(value)}
        self._helper: helpers.Helper | None = None
        if large and _is_room():
            self._helper = helpers.begin(lambda pipe: _help(large, pickle, pipe), let_go)
        self.names = list(large) if self._helper else []
        self._file = os.fdopen(self._helper.pipe, "rb", closefd=False) if self._helper else None

    def copy(self, file: Any) -> Outcome | None:
        """The next stream, as its pickler wrote it. ``EOFError``: the helper is gone."""
        while (size := _SIZE.unpack(self._read(_SIZE.size))[0]) != _END:
            file.write(self._read(size))
        (size,) = _SIZE.unpack(self._read(_SIZE.size))
        outcome: Outcome | None = _decode(self._read(size))
        return outcome

    def _read(self, size: int) -> bytes:
        data = self._file.read(size) if self._file is not None else b""
        if len(data) < size:
            raise EOFError("the helper is gone")
        return data

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._helper is not None:
            self._helper.end()


def _is_large(value: Any) -> bool:
    return type(value) in (list, dict, set, tuple) and len(value) >= _LARGE


def _is_room() -> bool:
    """Whether the session, the writer and a helper could each have all of it: pickling copies pages."""
    most, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return (
        most == resource.RLIM_INFINITY or 3 * 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < most
    )


def _help(variables: dict[str, Any], pickle: Pickle, pipe: int) -> None:
    outlet = _Outlet(pipe)
    for name, value in variables.items():
        try:
            outcome = pickle(outlet, {name: value})
        except Exception:  # noqa: BLE001 — user code; the writer meets it, too, and tells
            outcome = None
        outlet.end(msgspec.msgpack.encode(outcome))
    outlet.drain(0)


class _Outlet:
    """A file for a pickler: what it writes goes into the pipe, each time with its size before it.
    The writer reads when it has time."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        os.set_blocking(pipe, False)
        # Each frame lets as much through: a writer that comes late catches up.
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, MIB)
        self._waiting: deque[memoryview] = deque()
        self._held = 0

    def write(self, data: bytes) -> int:
        self._put(_SIZE.pack(len(data)))
        self._put(bytes(data))
        return len(data)

    def end(self, outcome: bytes) -> None:
        """The end of a stream."""
        self._put(_SIZE.pack(_END) + _SIZE.pack(len(outcome)) + outcome)

    def _put(self, data: bytes) -> None:
        self._waiting.append(memoryview(data))
        self._held += len(data)
        self.drain(_MOST_HELD)

    def drain(self, most: int) -> None:
        """Write what the pipe takes; wait until at most this much is left."""
        while self._waiting:
            try:
                sent = os.write(self._pipe, self._waiting[0])
            except BlockingIOError:
                if self._held <= most:
                    return
                _wait(self._pipe)
                continue
            self._held -= sent
            self._waiting[0] = self._waiting[0][sent:]
            if not self._waiting[0]:
                self._waiting.popleft()


def _wait(pipe: int) -> None:
    waiting = select.poll()
    waiting.register(pipe, select.POLLOUT)
    waiting.poll()
