"""Saving and restoring across processes, as the host does it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel_runtime.workers.checkpoints import Restored, SaveOrder, receive_checkpoint, send_checkpoint

if TYPE_CHECKING:
    from kernel_runtime.domain.checkpoint import Checkpoint
    from kernel_runtime.ports import CheckpointStore

_PROGRAM = Path(__file__).with_name("writers.py")


def _start(mode: str, sock: socket.socket, program: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(_PROGRAM), mode, str(sock.fileno()), textwrap.dedent(program)]
    process = subprocess.Popen(command, pass_fds=[sock.fileno()], stdout=subprocess.PIPE, text=True)
    sock.close()
    return process


def save(store: CheckpointStore, program: str, **order: Any) -> Checkpoint:
    """What a process that ran ``program`` saves."""
    host, guest = socket.socketpair()
    with _start("save", guest, program) as process:
        kept = asyncio.run(receive_checkpoint(host, store, SaveOrder(**{"key": "notebook", **order})))
        assert process.wait(60) == 0
    return kept


def load(store: CheckpointStore, identity: str, program: str, **how: Any) -> tuple[Restored, Any]:
    """Restore into a new process, run ``program`` there; what it says, and its ``result``."""
    host, guest = socket.socketpair()
    with _start("load", guest, program) as process:
        try:
            restored = asyncio.run(send_checkpoint(host, store, identity, **how))
        except BaseException:
            process.kill()
            raise
        text, _ = process.communicate(timeout=60)
        assert process.returncode == 0, text
    return restored, json.loads(text)
