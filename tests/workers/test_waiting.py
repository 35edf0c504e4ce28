"""``os.wait()`` of user code never meets the frozen copies that are among its children."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import kernel_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_CHILD = {
    "wait": "os.wait()",
    "waitpid": "os.waitpid(-1, 0)",
    "waitpid without waiting": "os.waitpid(-1, os.WNOHANG)",
    "wait3": "os.wait3(0)",
    "wait4": "os.wait4(-1, 0)",
    "waitid": "os.waitid(os.P_ALL, 0, os.WEXITED)",
}
A_CHILD = {
    "wait": "os.wait()[0]",
    "waitpid": "os.waitpid(-1, 0)[0]",
    "wait3": "os.wait3(0)[0]",
    "wait4": "os.wait4(-1, 0)[0]",
    "waitid": "os.waitid(os.P_ALL, 0, os.WEXITED).si_pid",
    "by its pid": "os.waitpid(pid, 0)[0]",
}


@pytest.fixture(scope="module")
def session() -> Iterator[kernel_runtime.Session]:
    with kernel_runtime.Session(memory="512M", wall="60s", workdir=None) as session:
        session.run("import os")
        session.run("1")
        yield session


def copies(session: kernel_runtime.Session) -> int:
    """How many children the live branch has, as the kernel counts them."""
    text = session.run("print(open('/proc/self/task/%d/children' % os.getpid()).read())").stdout
    return len(text.split())


@pytest.mark.parametrize("call", NO_CHILD.values(), ids=NO_CHILD.keys())
def test_with_copies_only_there_is_no_child(session: kernel_runtime.Session, call: str) -> None:
    assert copies(session) > 0  # else nothing would be shown here
    assert session.run(call, check=False).error.ename == "ChildProcessError"


@pytest.mark.parametrize("call", A_CHILD.values(), ids=A_CHILD.keys())
def test_a_child_is_found_among_the_copies(session: kernel_runtime.Session, call: str) -> None:
    session.run("pid = os.fork()\nif pid == 0: os._exit(7)")
    assert session.run(f"{call} == pid").result == "True"


def test_a_copy_that_ends_meanwhile_is_not_what_was_waited_for(session: kernel_runtime.Session) -> None:
    """Each cell drops the oldest of eight copies, which ends as a child of the live branch."""
    for _ in range(10):
        session.run("1")
    session.run("import time\npid = os.fork()\nif pid == 0: time.sleep(0.3); os._exit(7)")
    assert session.run("os.wait() == (pid, 7 << 8)").result == "True"


def test_without_waiting_a_running_child_is_told_from_none(session: kernel_runtime.Session) -> None:
    session.run("import time\npid = os.fork()\nif pid == 0: time.sleep(60)")
    assert session.run("os.waitpid(-1, os.WNOHANG)").result == "(0, 0)"
    session.run("os.kill(pid, 9)")
    assert session.run("os.waitpid(-1, 0) == (pid, 9)").result == "True"
