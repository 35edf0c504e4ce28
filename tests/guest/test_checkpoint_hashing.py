"""Two processes hash large memory; whatever becomes of the second, the digests are the same."""

from __future__ import annotations

import errno
import os
import random
import signal

import pytest

from kernel_runtime.guest import checkpoint_chunks as chunks
from kernel_runtime.guest import checkpoint_hashing as hashing
from kernel_runtime.guest import checkpoint_helper as helpers

SEED = 7
DATA = [random.Random(number).randbytes(size) for number, size in enumerate((700_001, 131_072, 1, 65_537))]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Little is enough; there are two cores; and whoever asks for the helper's digests waits for them."""
    monkeypatch.setattr(hashing, "PIECE", 2 * chunks.BUFFER_CHUNK)
    monkeypatch.setattr(hashing, "_ENOUGH", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    available = hashing._available

    def waiting(pipe: int) -> bytes:
        os.set_blocking(pipe, True)
        return available(pipe)

    monkeypatch.setattr(hashing, "_available", waiting)


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    """Helpers that were forked; each has ended after its test, or does so at once."""
    pids: list[int] = []
    fork = os.fork

    def noted() -> int:
        pid = fork()
        if pid:
            pids.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", noted)
    yield pids
    for pid in pids:
        os.waitpid(pid, 0)


@pytest.fixture
def own(monkeypatch):
    """How many pieces this process has hashed by itself."""
    made: list[int] = []
    plain = hashing._of
    monkeypatch.setattr(hashing, "_of", lambda piece, seed: made.append(len(piece)) or plain(piece, seed))
    return made


def found() -> list[bytes]:
    work = [piece for data in DATA for piece in hashing.pieces(memoryview(data))]
    digests = dict(hashing.digests(work, SEED, lambda: None))
    assert sorted(digests) == list(range(len(work)))
    return [digests[place] for place in range(len(work))]


def expected() -> list[bytes]:
    work = [piece for data in DATA for piece in hashing.pieces(memoryview(data))]
    return [b"".join(chunks.digest(chunk, SEED) for chunk in chunks.fixed(piece)) for piece in work]


def test_what_the_helper_has_made_is_not_made_again(own, forked):
    assert found() == expected()
    assert own == []
    assert len(forked) == 1


def test_with_one_core_there_is_no_helper(own, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("it forked"))
    assert found() == expected()
    assert len(own) == len(expected())


def test_little_needs_no_helper(own, monkeypatch):
    monkeypatch.setattr(hashing, "_ENOUGH", 1 + sum(map(len, DATA)))
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("it forked"))
    assert found() == expected()


def _refused(*_: object) -> int:
    raise OSError(errno.EAGAIN, "no more processes")


@pytest.mark.parametrize("call", ["fork", "pipe"])
def test_a_helper_that_cannot_be_had_is_done_without(own, monkeypatch, call):
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, call, _refused)
    assert found() == expected()
    assert len(own) == len(expected())
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_a_helper_that_dies_is_done_without(own, monkeypatch, pieces):
    parent, counted = os.getpid(), hashing._of

    def of(piece, seed):
        if os.getpid() != parent and len(own) == pieces:
            os.kill(os.getpid(), signal.SIGKILL)
        return counted(piece, seed)

    monkeypatch.setattr(hashing, "_of", of)
    assert found() == expected()
    assert len(own) == len(expected()) - pieces


def test_a_helper_that_is_not_needed_any_more_is_ended(forked, monkeypatch):
    monkeypatch.setattr(hashing, "_help", lambda *_: signal.pause())
    monkeypatch.setattr(hashing, "_available", lambda _: b"")
    half = hashing.digests(hashing.pieces(memoryview(DATA[0])), SEED, lambda: None)
    next(half)
    half.close()
    assert os.WTERMSIG(os.waitpid(forked.pop(), 0)[1]) == signal.SIGKILL


def test_a_helper_lets_go_of_what_is_the_writers():
    end, other = os.pipe()
    helper = helpers.begin(
        lambda pipe: os.write(pipe, b"?" if _is_open(end) else b"!"), lambda: os.close(end)
    )
    assert helper is not None
    try:
        assert os.read(helper.pipe, 1) == b"!"
        assert _is_open(end)
    finally:
        helper.end()
        os.close(end)
        os.close(other)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
