"""Descriptors beside bytes: what the standard library's own function leaves out."""

from __future__ import annotations

import os
import socket

import pytest

from kernel_runtime.guest.passing import receive_fds


def test_bytes_come_with_their_descriptors_which_no_program_inherits() -> None:
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    with ours, theirs:
        socket.send_fds(theirs, [b"both"], [read, write])
        data, fds = receive_fds(ours, 100, 4)
        assert data == b"both"
        assert len(fds) == 2
        assert not any(map(os.get_inheritable, fds))
        os.write(fds[1], b"x")
        assert os.read(read, 1) == b"x"
        for fd in (read, write, *fds):
            os.close(fd)


def test_who_does_not_want_to_wait_does_not() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(BlockingIOError):
        receive_fds(ours, 1, 1, socket.MSG_DONTWAIT)


def test_the_end_is_no_bytes() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        assert receive_fds(ours, 1, 1) == (b"", [])
