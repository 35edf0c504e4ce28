"""Descriptors that lie beside bytes on a Unix socket."""

from __future__ import annotations

import array
import socket

_SIZE = array.array("i").itemsize
#: A number: to join flags of an enumeration takes longer than the call.
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)


def receive_fds(sock: socket.socket, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """Bytes and descriptors, which no program that is executed inherits. ``socket.recv_fds`` takes flags, and
    leaves them out."""
    data, beside, _, _ = sock.recvmsg(size, socket.CMSG_LEN(most * _SIZE), flags | _CLOSE_ON_EXEC)
    if not beside:
        return data, []
    fds = array.array("i")
    for level, kind, held in beside:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(held[: len(held) - len(held) % _SIZE])
    return data, list(fds)
