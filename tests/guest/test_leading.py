"""A copy leads a session of its own, however early its original ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

#: The original makes a group of its copy, as it does so that no cell reaches it, and ends, or does not.
STORY = """
import os, sys
from kernel_runtime.guest.forking import _lead_a_session

ends = sys.argv[1] == "ends"
read, write = os.pipe()
heard, said = os.pipe()
if os.fork() == 0:
    os.setsid()
    copy = os.fork()
    if copy == 0:
        os.close(write)
        os.read(read, 1)  # until the original has ended, or says that the group is made
        _lead_a_session(os.getsid(0))
        os.write(said, b"leads" if os.getsid(0) == os.getpid() else b"stays")
        os._exit(0)
    os.setpgid(copy, copy)
    if ends:
        os._exit(0)
    os.write(write, b"x")
    os._exit(os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]))
os.close(said)
os.wait()
os.close(write)  # it has been buried, and its group with it
print(os.read(heard, 10).decode() or "died")
"""


@pytest.mark.parametrize(("original", "becomes"), [("ends", "stays"), ("goes on", "leads")])
def test_a_copy_of_which_a_group_was_made(original: str, becomes: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STORY, original], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == becomes, done.stderr


def test_an_orphan_is_not_hung_up_when_it_is_stopped() -> None:
    """What ``stays`` relies on: only the end of an original hangs up what is stopped *then*."""
    read, write = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        orphan = os.fork()
        if orphan == 0:
            signal.pause()
            os._exit(0)
        os.setpgid(orphan, orphan)
        os.write(write, str(orphan).encode())
        os._exit(0)
    os.waitpid(middle, 0)
    orphan = int(os.read(read, 20))
    os.close(read)
    os.close(write)
    try:
        os.kill(orphan, signal.SIGSTOP)
        while (state := _state(orphan)) in "RS":
            pass
        assert state == "T"
    finally:
        os.kill(orphan, signal.SIGKILL)


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]
