"""Every cause a guest can end of, as a cell with its limits; run as a program, all of them at once.

``python causes.py DIRECTORY [none]`` prints what became of each as JSON (``none``: as if this host
had no control groups), so that the same matrix runs as another user, too.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import kernel_runtime
from kernel_runtime.workers import limiter, meter

MIB = 2**20
#: What it has filled it keeps: a host that looks only now and then sees it, however busy it is.
_FILL = (
    "import mmap, time\nm = mmap.mmap(-1, 10**9)\nfor i in range(0, 10**9, 4096): m[i] = 1\n"
    "while True: time.sleep(1)"
)
_STUBBORN = (
    "import signal\n"
    "for number in (signal.SIGINT, signal.SIGXCPU, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
)
_FORKS = (
    "import os, time\nfor i in range(100):\n    if os.fork() == 0:\n        time.sleep(30); os._exit(0)\n"
)
_CHILDREN = (
    "import mmap, os, time\n"
    "if os.fork() == 0:\n"
    "    m = mmap.mmap(-1, 10**9)\n"
    "    for i in range(0, 10**9, 4096): m[i] = 1\n"
    "    while True: time.sleep(1)\n"
    "_, status = os.wait()\n"
    "assert status == 0, status"
)
#: When it is interrupted, it uses up its memory: killed by the kernel after the host's intent.
_AT_ONCE = (
    "import signal, time, mmap\n"
    "def eat(*_):\n"
    "    m = mmap.mmap(-1, 10**9)\n"
    "    for i in range(0, 10**9, 4096): m[i] = 1\n"
    "signal.signal(signal.SIGINT, eat)\n"
    "while True: time.sleep(1)"
)

#: cause → (limits, code, what must become of it); ``survived`` None: either.
CAUSES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "memory, private": ({"memory": "128M"}, "l = []\nwhile True: l.append(bytearray(4096))", {
        "reason": "memory", "limit": 128 * MIB, "survived": None}),
    "memory, all at once": ({"memory": "128M"}, "x = bytearray(10**10)", {
        "reason": "memory", "survived": True, "error": "MemoryError"}),
    "memory, shared": ({"memory": "128M"}, _FILL, {"reason": "memory", "limit": 128 * MIB, "survived": False}),
    "memory, of children": ({"memory": "128M"}, _CHILDREN, {"reason": "memory", "survived": None}),
    "memory, of tmpfs": ({"memory": "128M", "disk": "64M"}, (
        "open('/tmp/a', 'wb').write(bytes(40 * 2**20))\n" + _FILL), {"reason": "memory", "survived": False}),
    "memory, by its own word": ({"memory": "256M"}, "import os; os._exit(72)", {
        "reason": "exit", "survived": False}),
    "memory, by its word and the host's": ({"memory": "128M"}, (
        "import os, time\nx = bytearray(b'x') * (72 * 2**20)\ntime.sleep(2)\nos._exit(72)"), {
        "reason": "memory", "limit": 128 * MIB, "survived": False}),
    # The cell that comes after it has the same limit, on machines that are ten times as slow, too.
    "cpu": ({"cpu": "1s"}, "while True: pass", {"reason": "cpu", "limit": 1.0, "survived": True}),
    "cpu, signals ignored": ({"cpu": "1s"}, _STUBBORN + "while True: pass", {
        "reason": "cpu", "limit": 1.0, "survived": False}),
    # Its handlers must stand by then; and the cell that comes after it has the same limit.
    "wall": ({"wall": "3s"}, "import time; time.sleep(60)", {"reason": "wall", "survived": True}),
    "wall, signals ignored": ({"wall": "3s"}, _STUBBORN + "import time\nwhile True: time.sleep(1)", {
        "reason": "wall", "limit": 3.0, "survived": False}),
    "wall, then memory": ({"wall": "3s", "memory": "128M"}, _AT_ONCE, {  # its handler must stand by then
        "reason": "wall", "limit": 3.0, "survived": False}),
    "disk": ({"disk": "4M"}, "for i in range(9): open(f'/tmp/{i}', 'wb').write(bytes(2**20))", {
        "reason": "disk", "limit": 4 * MIB, "survived": True, "error": "OSError"}),
    "disk, one file": ({"file_size": "100K"}, "open('/tmp/a', 'wb').write(bytes(2**20))", {
        "reason": "disk", "limit": 100 * 1024, "survived": True, "error": "OSError"}),
    "disk, inodes": ({"inodes": 300}, "for i in range(400): open(f'/tmp/{i}', 'w').close()", {
        "reason": "disk", "limit": 300, "survived": True, "error": "OSError"}),
    "files": ({"open_files": 64}, "l = [open('/dev/null') for i in range(100)]", {
        "reason": "files", "limit": 64, "survived": True, "error": "OSError"}),
    "pids": ({"pids": 16}, _FORKS, {"reason": "pids", "limit": 16, "survived": True, "error": "BlockingIOError"}),
    "pids, threads": ({"pids": 16, "memory": "2G"}, (  # room for the stacks of all of them
        "import threading, time\n"
        "for i in range(100): threading.Thread(target=time.sleep, args=(30,), daemon=True).start()"), {
        "reason": "pids", "limit": 16, "survived": True, "error": "RuntimeError"}),
    "output": ({"output": "1M", "flood": "end"}, "while True: print('x' * 1000)", {
        "reason": "output", "limit": MIB, "survived": True}),
    "output, messages": ({"messages": 50, "flood": "end"}, (
        "from IPython.display import display\nwhile True: display(1)"), {
        "reason": "output", "limit": 50, "survived": True}),
    "seccomp": ({}, "import os, signal; os.kill(os.getpid(), signal.SIGSYS)", {
        "reason": "seccomp", "survived": False}),
    "crash": ({}, "import ctypes; ctypes.string_at(0)", {"reason": "signal", "words": "SIGSEGV"}),
    "killed by itself": ({}, "import os; os.kill(os.getpid(), 9)", {"reason": "signal", "words": "SIGKILL"}),
    "exit": ({}, "import os; os._exit(3)", {"reason": "exit", "words": "status 3"}),
    "nothing": ({}, "6 * 7", {"reason": None}),
}  # fmt: skip


def observe(cause: str, directory: str) -> dict[str, Any]:
    """Run the cause's cell, then another one: what became of both."""
    amounts, code, expected = CAUSES[cause]
    # On a busy machine a cell that obeys may take its time; one that does not is not waited for.
    limiter.LIMIT_GRACE = 60.0 if expected.get("survived") else 1.0
    with kernel_runtime.Session(**{"workdir": directory, "memory": "512M"} | amounts) as session:
        result = session.run(code, check=False)
        verdict = result.verdict
        return {
            "reason": verdict and str(verdict.reason),
            "limit": verdict and verdict.limit,
            "used": verdict and verdict.used,
            "evidence": verdict.evidence if verdict else "",
            "survived": verdict and verdict.survived,
            "words": verdict.explain() if verdict else "",
            "error": result.error and result.error.ename,
            "hint": "".join(result.error.traceback[-1:]) if result.error else "",
            "next": session.run("6 * 7").result,
            "partial": sorted(session.partial),
        }


if __name__ == "__main__":
    if "none" in sys.argv:
        meter.world = lambda: meter.hierarchy.World({})
    json.dump({cause: observe(cause, sys.argv[1]) for cause in CAUSES}, sys.stdout)
