"""The cell that is run before any fork leaves nothing that a guest's user could see."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import builtins, contextlib, linecache, os, sys
import pandas
from kernel_runtime.guest import rehearsal, shell

kernel = shell.prepare().kernel
inner = kernel.shell
ran = []
inner.events.register("post_run_cell", lambda result: ran.append(repr(result.result) if result.success else result))

def state():
    hook = inner.displayhook
    return {
        "namespace": dict(inner.user_ns), "hidden": dict(inner.user_ns_hidden), "outputs": dict(inner.user_ns["_oh"]),
        "inputs": list(inner.user_ns["_ih"]), "count": inner.execution_count, "shown": (hook._, hook.__, hook.___),
        "last": inner.last_execution_result, "kernel": dict(vars(kernel)), "builtins": sorted(vars(builtins)),
        "sources": sorted(name for name in linecache.cache if "ipykernel" in name),
        "history": list(inner.history_manager.get_range()), "files": sorted(os.listdir("/proc/self/fd")),
    }

before = state()
rehearsal.rehearse(kernel)
after = state()
print([name for name in before if before[name] != after[name]])
print(sorted(set(ran)))
inner.run_cell = lambda *_, **__: 1 / 0
rehearsal.rehearse(kernel)
print([name for name in before if before[name] != state()[name]])
"""


def test_a_rehearsal_runs_cells_and_leaves_no_trace() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    changed, ran, changed_by_failing = done.stdout.splitlines()
    assert changed == changed_by_failing == "[]"
    assert ran == repr(["   a\n0  1\n1  2\n2  3", "2"]), "both cells ran"
    assert done.stderr == ""
