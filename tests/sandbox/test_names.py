"""Names of what a front leaves on its host tell whether their maker still lives."""

from __future__ import annotations

import os
import subprocess
import sys

from kernel_runtime.sandbox import names


def test_a_process_may_call_itself_anything() -> None:
    """A name is bytes, and may look like the end of itself in its stat line."""
    code = (
        "import sys\n"
        "with open('/proc/self/comm', 'wb') as file: file.write(b'x) Z 1 \\xff\\xfe')\n"
        "print('named', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"named\n"
        started = names.start_time(child.pid)
        made = names.unique_name().split("-")
        made[3:5] = [str(child.pid), str(started)]
        name = "-".join(made)
        assert started >= names.start_time(os.getpid())
        assert not names.orphaned(name)
        child.communicate()
    assert names.start_time(child.pid) == 0
    assert names.orphaned(name)
