"""A pid 1 for tests: prepares the shell, forks a live branch on the given socket, reaps it.

Run as ``python branch.py SOCKET_FD BEGIN_HEX``; stdout and stderr are the branch's.
"""

from __future__ import annotations

import gc
import os
import socket
import sys

from kernel_runtime import wire
from kernel_runtime.guest import shell


def main() -> int:
    fd = int(sys.argv[1])
    begin = wire.decode(wire.decode_to_branch, bytes.fromhex(sys.argv[2]))
    prepared = shell.prepare()
    gc.collect()
    gc.freeze()  # as pid 1 does: the fork shares what collection would touch
    pid = os.fork()
    if pid == 0:
        from kernel_runtime.guest import loop

        os.setsid()
        loop.live(prepared, socket.socket(fileno=fd), begin)
    os.close(fd)
    os.write(int(sys.argv[3]), f"{pid}\n".encode())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
