"""Digests of large memory, made by two processes where there are two cores.

The writer begins at the front, its helper at the back, until they meet: neither ever waits for the
other, and a helper that cannot be had, is slow or dies costs nothing but its help.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.checkpoint import DIGEST
from kernel_runtime.guest.checkpoint_chunks import BUFFER_CHUNK, digest, fixed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

#: What is hashed at a time: its digests fit into one write of a pipe, which is whole or does not happen.
PIECE = 4 * MIB
#: Less than this is done before a helper has begun.
ENOUGH = 64 * MIB


def pieces(memory: memoryview) -> list[memoryview]:
    """Memory in pieces, each of whole chunks but the last."""
    return [memory[start : start + PIECE] for start in range(0, len(memory), PIECE)]


def digests(
    work: Sequence[memoryview], seed: int, let_go: Callable[[], None]
) -> Generator[tuple[int, bytes], None, None]:
    """For each piece, in any order, its place and its chunks' digests. ``let_go`` is called in a helper."""
    helper = _Helper(work, seed, let_go)
    front, back = 0, len(work)
    try:
        while front < back:
            found = helper.next(work[back - 1])
            if found is not None:
                back -= 1
                yield back, found
            else:
                yield front, _of(work[front], seed)
                front += 1
    finally:
        helper.end()


def _of(piece: memoryview, seed: int) -> bytes:
    return b"".join(digest(chunk, seed) for chunk in fixed(piece))


class _Helper:
    """A copy of this process that hashes the pieces from the last one on; or nobody."""

    def __init__(self, work: Sequence[memoryview], seed: int, let_go: Callable[[], None]) -> None:
        self._pid = self._pipe = -1
        self._read = b""
        if sum(map(len, work)) < ENOUGH or len(os.sched_getaffinity(0)) < 2:
            return
        try:
            self._begin(work, seed, let_go)
        except OSError:  # no process or descriptor may be had
            return

    def _begin(self, work: Sequence[memoryview], seed: int, let_go: Callable[[], None]) -> None:
        self._pipe, end = os.pipe()
        try:
            os.set_blocking(self._pipe, False)
            self._pid = os.fork()
            if self._pid == 0:
                _help(work, seed, let_go, end, self._pipe)
        finally:
            os.close(end)

    def next(self, piece: memoryview) -> bytes | None:
        """The digests of the piece that it has come to, if they are there."""
        size = DIGEST * -(-len(piece) // BUFFER_CHUNK)
        if len(self._read) < size and self._pid > 0:
            self._receive()
        if len(self._read) < size:
            return None
        found, self._read = self._read[:size], self._read[size:]
        return found

    def _receive(self) -> None:
        try:
            self._read += os.read(self._pipe, PIECE)
        except BlockingIOError:
            pass

    def end(self) -> None:
        """Its help is no longer needed."""
        if self._pipe >= 0:
            os.close(self._pipe)
        if self._pid > 0:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


def _help(
    work: Sequence[memoryview], seed: int, let_go: Callable[[], None], end: int, other_end: int
) -> None:
    """The helper's whole life. When the writer ends, so does the pipe."""
    try:
        let_go()
        os.close(other_end)
        for piece in reversed(work):
            os.write(end, _of(piece, seed))
    finally:
        os._exit(0)
