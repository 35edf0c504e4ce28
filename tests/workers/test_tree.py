"""Trees of processes without a pid namespace: found and ended as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from kernel_runtime.workers import tree
from kernel_runtime.workers.processes import Processes

#: A root that adopts its orphans, with a daemon below it and a child that ignores what it can.
PROGRAM = """
import os, signal, time
from kernel_runtime.sandbox import syscalls
syscalls.set_child_subreaper()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
os.wait()
if os.fork() == 0:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
    print('ready', flush=True)
    while True:
        try:
            if os.fork() == 0: time.sleep(1000)
        except OSError: pass
        time.sleep(0.005)
while True:
    try: os.wait()
    except ChildProcessError: time.sleep(0.005)
"""


def start() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_everything_below_is_ended_and_the_root_lives() -> None:
    with start() as process:
        deadline = time.monotonic() + 60
        while len(tree.descendants(process.pid)) < 6 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert len(tree.descendants(process.pid)) >= 6
        assert tree.end_below(process.pid)
        assert tree.descendants(process.pid) == set()
        tree.end(process.pid)
        assert process.wait(60) == -9


def test_a_root_is_ended_with_all_below() -> None:
    with start() as process:
        below = tree.descendants(process.pid)
        assert tree.end(process.pid)
        assert process.wait(60) == -9
        living = {pid for pid, _ in tree._parents()}
        assert not below & living


def test_children_count_as_zombies_too() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert pid in tree.children(os.getpid())
    assert pid not in tree.descendants(os.getpid())
    os.waitpid(pid, 0)


#: Its first thread ends before the other one: the kernel calls it a zombie.
HEADLESS = """
import ctypes, os, signal, threading
threading.Thread(target=lambda: (os.write(1, b'ready\\n'), signal.pause())).start()
ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)
"""


def test_a_process_without_its_first_thread_is_ended_too() -> None:
    with subprocess.Popen([sys.executable, "-c", HEADLESS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        stat = Path(f"/proc/{process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.005)
        assert process.pid in tree.descendants(os.getpid())
        look = {one.pid: one for one in Processes(os.getpid()).look()}
        assert look[process.pid].state == "R"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process.pid not in tree.descendants(os.getpid()), "the control: now it has ended"
        look = {one.pid: one for one in Processes(os.getpid()).look()}
        assert look[process.pid].state == "Z"


def test_a_users_processes_and_threads_are_counted() -> None:
    before = tree.crowd(os.getuid())
    assert before >= 1
    with subprocess.Popen(["sleep", "60"]) as process:
        assert tree.crowd(os.getuid()) >= 2
        process.kill()
    assert tree.crowd(987_654_321) == 0
