"""Digests of large memory, made by two processes where there are two cores.

The writer begins at the front, its helper at the back, until they meet: neither waits for the other.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kernel_runtime.domain.amounts import MIB
from kernel_runtime.domain.checkpoint import DIGEST
from kernel_runtime.guest import checkpoint_helper as helpers
from kernel_runtime.guest.checkpoint_chunks import BUFFER_CHUNK, digest, fixed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

#: What is hashed at a time: its digests fit into one write of a pipe, which is whole or does not happen.
PIECE = 4 * MIB
#: Less than this is done before a helper has begun.
_ENOUGH = 64 * MIB


def pieces(memory: memoryview) -> list[memoryview]:
    """Memory in pieces, each of whole chunks but the last."""
    return [memory[start : start + PIECE] for start in range(0, len(memory), PIECE)]


def digests(
    work: Sequence[memoryview], seed: int, let_go: Callable[[], None] | None
) -> Generator[tuple[int, bytes], None, None]:
    """For each piece, in any order, its place and its chunks' digests. ``let_go`` is called in a helper;
    None: there is to be none."""
    helped = _Helped(work, seed, let_go)
    front, back = 0, len(work)
    try:
        while front < back:
            found = helped.take(work[back - 1])
            if found is not None:
                back -= 1
                yield back, found
            else:
                yield front, _of(work[front], seed)
                front += 1
    finally:
        helped.end()


def _of(piece: memoryview, seed: int) -> bytes:
    return b"".join(digest(chunk, seed) for chunk in fixed(piece))


class _Helped:
    """The pieces that a helper has hashed, from the last one on."""

    def __init__(self, work: Sequence[memoryview], seed: int, let_go: Callable[[], None] | None) -> None:
        self._read = b""
        self._helper: helpers.Helper | None = None
        if let_go is not None and sum(map(len, work)) >= _ENOUGH:
            self._helper = helpers.begin(lambda pipe: _help(work, seed, pipe), let_go)
        if self._helper is not None:
            os.set_blocking(self._helper.pipe, False)

    def take(self, piece: memoryview) -> bytes | None:
        """The digests of the piece that it has come to, if they are there."""
        size = DIGEST * -(-len(piece) // BUFFER_CHUNK)
        if len(self._read) < size and self._helper is not None:
            self._read += _available(self._helper.pipe)
        if len(self._read) < size:
            return None
        found, self._read = self._read[:size], self._read[size:]
        return found

    def end(self) -> None:
        if self._helper is not None:
            self._helper.end()


def _available(pipe: int) -> bytes:
    try:
        return os.read(pipe, PIECE)
    except BlockingIOError:
        return b""


def _help(work: Sequence[memoryview], seed: int, pipe: int) -> None:
    for piece in reversed(work):
        os.write(pipe, _of(piece, seed))
