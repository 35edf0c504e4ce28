"""A copy leads a session of its own, however early its original ends."""

from __future__ import annotations

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


@pytest.mark.parametrize("original", ["ends", "goes on"])
def test_a_copy_of_which_a_group_was_made(original: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STORY, original], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "leads", done.stderr
