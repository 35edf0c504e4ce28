"""What a wall adds to the debugger's cases: a stopped cell that is asked, interrupted, ended, and waited for."""

from __future__ import annotations

import time

import pytest

from tests.jupyter.debug_client import FUNCTION, Client, named, threads
from tests.jupyter.kernels import PATIENCE, REAL, running, text_of

pytest.importorskip("debugpy")


@pytest.mark.slow
def test_two_cells(debugger: Client) -> None:
    define = "def double(n):\n    m = 2 * n\n    return m"
    path = debugger.break_at(define, 3)
    debugger.kernel.run(define)
    use = "double(4)"
    second = debugger.break_at(use, 1)
    cell = debugger.kernel.kc.execute(use)
    thread = debugger.event("stopped")["threadId"]
    assert [each["source"]["path"] for each in debugger.frames(thread)] == [second]
    debugger.body("continue", threadId=thread)
    debugger.event("stopped")
    assert [each["source"]["path"] for each in debugger.frames(thread)] == [path, second]
    assert debugger.go_on(thread, cell)["status"] == "ok"


def test_output_before_a_breakpoint_is_shown(debugger: Client) -> None:
    code = "print('before', end='')\nn = 1\nprint('after')"
    debugger.break_at(code, 2)
    cell = debugger.kernel.kc.execute(code)
    seen = ""
    while "before" not in seen:
        message = debugger.kernel.kc.get_iopub_msg(timeout=PATIENCE)
        seen += message["content"]["text"] if message["msg_type"] == "stream" else ""
    thread = (debugger.body("debugInfo")["stoppedThreads"] or [debugger.event("stopped")["threadId"]])[0]
    _, outputs = debugger.body("continue", threadId=thread), debugger.kernel.outputs(cell)
    assert text_of(outputs) == "after\n"
    debugger.kernel.reply(cell)


def test_jupyters_own_questions_while_a_cell_is_stopped(debugger: Client) -> None:
    debugger.kernel.run("outer = 7")
    cell, thread, _ = debugger.stop(FUNCTION, 2)
    assert named(debugger.body("inspectVariables")["variables"], "outer")["value"] == "7"
    path = debugger.body("dumpCell", code="other = 'é\"\\''")["sourcePath"]
    assert debugger.body("source", source={"path": path})["content"] == "other = 'é\"\\''"
    assert debugger.body("modules", moduleCount=5)["totalModules"] > 5
    assert debugger.kernel.ask("shell", "kernel_info_request")["status"] == "ok"
    debugger.go_on(thread, cell)


def test_a_breakpoint_set_while_a_cell_runs(debugger: Client) -> None:
    code = "import time\nwhile True:\n    time.sleep(0.01)\n    turn = 1\n    if turn > 1: break"
    cell = debugger.kernel.kc.execute(code)
    time.sleep(0.3)
    debugger.break_at(code, 4)
    thread = debugger.event("stopped")["threadId"]
    where = debugger.frames(thread)[0]["id"]
    debugger.break_at(code)
    debugger.body("next", threadId=thread)
    debugger.event("stopped")
    where = debugger.frames(thread)[0]["id"]
    debugger.body("setExpression", expression="turn", value="2", frameId=where)
    assert debugger.go_on(thread, cell)["status"] == "ok"


def test_pause(debugger: Client) -> None:
    code = "import time\ngo = True\nwhile go:\n    time.sleep(0.01); print('on', flush=True)"
    path = debugger.body("dumpCell", code=code)["sourcePath"]
    cell = debugger.kernel.kc.execute(code)
    debugger.event("thread")
    debugger.kernel.until(cell, "stream")  # it runs
    debugger.body("pause", threadId=1)
    stopped = debugger.event("stopped")
    assert stopped["reason"] == "pause"
    frame = next(each for each in debugger.frames(stopped["threadId"]) if each["source"]["path"] == path)
    debugger.body("setExpression", expression="go", value="False", frameId=frame["id"])
    assert debugger.go_on(stopped["threadId"], cell)["status"] == "ok"


def test_disconnect_while_stopped_lets_the_cell_run(debugger: Client) -> None:
    cell, _, _ = debugger.stop(FUNCTION, 2)
    debugger.body("disconnect")
    reply, _ = debugger.kernel.finish(cell)
    assert reply["content"]["status"] == "ok"
    assert threads(debugger.kernel) == "1"


def test_an_interrupt_ends_the_stopped_cell_and_not_the_debugger(debugger: Client) -> None:
    cell, _, _ = debugger.stop(FUNCTION, 2)
    debugger.kernel.km.interrupt_kernel()
    assert debugger.kernel.finish(cell)[0]["content"]["ename"] == "KeyboardInterrupt"
    assert debugger.body("debugInfo")["stoppedThreads"] == []
    cell, thread, _ = debugger.stop(FUNCTION, 2)
    assert debugger.go_on(thread, cell)["status"] == "ok"


def test_a_forked_child_is_not_stopped(debugger: Client) -> None:
    code = "import os\npid = os.fork()\nif pid == 0:\n    os._exit(0)\nos.waitpid(pid, 0)[1]"
    debugger.break_at(code, 4)
    reply, outputs = debugger.kernel.run(code)
    assert reply["content"]["status"] == "ok"
    assert "PYDEV" not in text_of(outputs, "stderr"), (
        "a warning of the debugger's, for those who write debuggers"
    )
    (result,) = [each for each in outputs if each["msg_type"] == "execute_result"]
    assert result["content"]["data"]["text/plain"] == "0"


def test_the_guest_ends_while_stopped(debugger: Client) -> None:
    cell, thread, frames = debugger.stop(FUNCTION, 2)
    leave = "__import__('os')._exit(3)"
    assert not debugger.ask("evaluate", expression=leave, frameId=frames[0]["id"], context="repl")["success"]
    debugger.event("continued")
    debugger.event("terminated")
    assert debugger.kernel.reply(cell)["content"]["ename"] == "GuestExited"
    info = debugger.body("debugInfo")
    assert (info["isStarted"], info["stoppedThreads"]) == (False, [])
    debugger.start()
    cell, thread, _ = debugger.stop(FUNCTION, 2)
    assert debugger.go_on(thread, cell)["status"] == "ok"


@pytest.mark.slow
def test_restart_while_stopped() -> None:
    with running(REAL) as kernel:
        client = Client(kernel)
        client.start()
        client.stop(FUNCTION, 2)
        kernel.km.restart_kernel(now=False)
        kernel.kc.wait_for_ready(timeout=PATIENCE)
        assert not client.body("debugInfo")["isStarted"]
        client.start()
        cell, thread, _ = client.stop(FUNCTION, 2)
        assert client.go_on(thread, cell)["status"] == "ok"


@pytest.mark.slow
def test_the_wall_limit_waits_while_stopped_and_holds_while_running() -> None:
    with running(REAL, "--wall", "4s") as kernel:
        client = Client(kernel)
        client.start()
        cell, thread, _ = client.stop(FUNCTION, 2)
        time.sleep(5)
        assert client.go_on(thread, cell)["status"] == "ok"
        reply, _ = kernel.run("import time; time.sleep(20)")
        assert reply["content"]["ename"] == "WallLimitExceeded"


def test_strict_has_a_debugger_too() -> None:
    with running(REAL, "--level", "strict") as kernel:
        client = Client(kernel)
        client.start()
        cell, thread, _ = client.stop(FUNCTION, 2)
        assert client.go_on(thread, cell)["status"] == "ok"
