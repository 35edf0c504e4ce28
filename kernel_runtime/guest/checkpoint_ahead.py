"""Large lists and dicts, pickled by a helper while the writer finds out what belongs together.

The helper takes each of them as if it were alone, which most are. What turns out to be otherwise,
or to need more than a stream, the writer pickles again. It says first which of them are plain: the
writer need not look into these. They are pickled before any other, whose hooks could change them.
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
from kernel_runtime.guest import checkpoint_plain as plain

if TYPE_CHECKING:
    from collections.abc import Callable

    Pickle = Callable[[Any, str, plain.Texts | None], "Outcome | None"]

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
_decode_names = msgspec.msgpack.Decoder(set[str]).decode


class Ahead:
    """Streams of the variables ``names``, one after another, from a helper. ``pickle`` writes a variable
    into a file, without a memo if it is given its texts; it answers None where the stream is not all of it.

    ``closed`` are those that seem plain; ``plain`` says, when the helper has looked at all of them, which are.
    """

    def __init__(
        self,
        variables: dict[str, Any],
        pickle: Pickle,
        let_go: Callable[[], None],
    ) -> None:
        large = {name: value for name, value in variables.items() if is_large(value)}
        closed = [name for name, value in large.items() if plain.seems(value)]
        names = [*closed, *(name for name in large if name not in closed)]
        work = _Work({name: large[name] for name in names}, closed, pickle)
        self._helper = helpers.begin(work.run, let_go) if large and _is_room() else None
        self.names = names if self._helper else []
        self.closed = closed if self._helper else []
        self._file = os.fdopen(self._helper.pipe, "rb", closefd=False) if self._helper else None

    def plain(self) -> set[str]:
        """Which of the closed ones are plain; none if the helper is gone. Their streams come first."""
        try:
            found = _decode_names(self._sized()) if self.closed else set()
        except EOFError:
            found = set()
        self.names.sort(key=lambda name: name not in found)
        return found

    def copy(self, file: Any) -> Outcome | None:
        """The next stream, as its pickler wrote it. ``EOFError``: the helper is gone."""
        while (size := _SIZE.unpack(self._read(_SIZE.size))[0]) != _END:
            file.write(self._read(size))
        outcome: Outcome | None = _decode(self._sized())
        return outcome

    def _sized(self) -> bytes:
        (size,) = _SIZE.unpack(self._read(_SIZE.size))
        return self._read(size)

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


def is_large(value: Any) -> bool:
    return type(value) in (list, dict, set, tuple) and len(value) >= _LARGE


def _is_room() -> bool:
    """Whether the session, the writer and a helper could each have all of it: pickling copies pages."""
    most, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return (
        most == resource.RLIM_INFINITY or 3 * 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < most
    )


class _Work:
    """What the helper does."""

    def __init__(self, variables: dict[str, Any], closed: list[str], pickle: Pickle) -> None:
        self._variables = variables
        self._closed = closed
        self._pickle = pickle

    def run(self, pipe: int) -> None:
        outlet = _Outlet(pipe)
        texts = {name: plain.texts_of(self._variables[name]) for name in self._closed}
        if self._closed:
            outlet.write(msgspec.msgpack.encode([name for name in texts if texts[name] is not None]))
        # What is not plain may run code of the user's: it comes after those that are.
        for name in sorted(self._variables, key=lambda name: texts.get(name) is None):
            try:
                outcome = self._pickle(outlet, name, texts.get(name))
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
