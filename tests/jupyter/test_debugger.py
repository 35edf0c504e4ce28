"""The debugger through the wall: ipykernel's own cases, then what a wall adds to them."""

from __future__ import annotations

import time
from queue import Empty
from typing import TYPE_CHECKING, Any

import pytest

from tests.jupyter.kernels import PATIENCE, REAL, Kernel, running, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

Body = dict[str, Any]

pytest.importorskip("debugpy")

FUNCTION = "def f(a, b):\n    c = a + b\n    return c\n\nf(2, 3)"


class Client:
    """A front end with a debugger."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.seq = 0

    def ask(self, command: str, timeout: float = PATIENCE, /, **arguments: Any) -> Body:
        self.seq += 1
        content = {"type": "request", "seq": self.seq, "command": command, "arguments": arguments}
        reply = self.kernel.ask("control", "debug_request", content, timeout)
        assert (reply["type"], reply["command"], reply["request_seq"]) == ("response", command, self.seq)
        return reply

    def body(self, command: str, **arguments: Any) -> Body:
        reply = self.ask(command, **arguments)
        assert reply["success"], reply
        return reply["body"]

    def start(self) -> None:
        assert self.initialize()["success"]
        self.body("attach")

    def initialize(self) -> Body:
        return self.ask(
            "initialize",
            clientID="test-client",
            clientName="testClient",
            adapterID="",
            pathFormat="path",
            linesStartAt1=True,
            columnsStartAt1=True,
            supportsVariableType=True,
            supportsVariablePaging=True,
            supportsRunInTerminalRequest=True,
            locale="en",
        )

    def break_at(self, code: str, *lines: int) -> str:
        path = self.body("dumpCell", code=code)["sourcePath"]
        found = self.body(
            "setBreakpoints",
            source={"path": path},
            breakpoints=[{"line": line} for line in lines],
            sourceModified=False,
        )
        assert [each["verified"] for each in found["breakpoints"]] == [True] * len(lines)
        return path

    def event(self, name: str, timeout: float = PATIENCE) -> Body:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                message = self.kernel.kc.get_iopub_msg(timeout=0.5)
            except Empty:
                continue
            if message["msg_type"] == "debug_event" and message["content"]["event"] == name:
                assert message["content"]["type"] == "event"
                return message["content"].get("body")
        raise TimeoutError(f"no event {name}")

    def frames(self, thread: int) -> list[Body]:
        return self.body("stackTrace", threadId=thread)["stackFrames"]

    def stop(self, code: str, *lines: int) -> tuple[str, int, list[Body]]:
        """Run a cell up to its first breakpoint: the request, the thread, its frames."""
        self.break_at(code, *lines)
        cell = self.kernel.kc.execute(code)
        thread = self.event("stopped")["threadId"]
        return cell, thread, self.frames(thread)

    def go_on(self, thread: int, cell: str) -> Body:
        self.body("continue", threadId=thread)
        return self.kernel.finish(cell)[0]["content"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Kernel]:
    with running(REAL) as found:
        yield found


@pytest.fixture
def plain(shared: Kernel) -> Iterator[Client]:
    """Not started."""
    client = Client(shared)
    yield client
    client.ask("disconnect", restart=False, terminateDebuggee=False)


@pytest.fixture
def debugger(plain: Client) -> Client:
    plain.start()
    return plain


def named(variables: list[Body], name: str) -> Body:
    return next(each for each in variables if each["name"] == name)


def threads(kernel: Kernel) -> str:
    return text_of(kernel.run("import os; print(len(os.listdir('/proc/self/task')))")[1]).strip()


# -- ipykernel's cases -------------------------------------------------------------------------


def test_the_kernel_says_it_has_a_debugger(plain: Client) -> None:
    info = plain.kernel.ask("control", "kernel_info_request")
    assert info["debugger"] is True
    assert info["supported_features"] == ["debugger"]


def test_initialize(plain: Client) -> None:
    reply = plain.initialize()
    assert reply["success"]
    assert reply["body"]["supportsConditionalBreakpoints"]


def test_debug_info(plain: Client) -> None:
    info = plain.body("debugInfo")
    assert not info["isStarted"]
    assert (info["hashMethod"], info["hashSeed"], info["tmpFileSuffix"]) == ("Murmur2", 0xC70F6907, ".py")
    assert info["richRendering"]
    assert info["copyToGlobals"]
    plain.start()
    assert plain.body("debugInfo")["isStarted"]


def test_attach(debugger: Client) -> None:
    assert debugger.body("debugInfo")["stoppedThreads"] == []


def test_the_cells_file_name_is_what_a_front_end_computes(debugger: Client) -> None:
    from ipykernel.compiler import murmur2_x86

    info = debugger.body("debugInfo")
    for code in ("x = 1", "y = 'ä€'\n\n", FUNCTION):
        expected = f"{info['tmpFilePrefix']}{murmur2_x86(code, info['hashSeed'])}{info['tmpFileSuffix']}"
        assert debugger.body("dumpCell", code=code)["sourcePath"] == expected
        assert debugger.body("source", source={"path": expected})["content"] == code
    _, outputs = debugger.kernel.run("import inspect\nprint(inspect.currentframe().f_code.co_filename)")
    assert text_of(outputs).startswith(info["tmpFilePrefix"])


def test_source_of_no_file_fails(debugger: Client) -> None:
    assert not debugger.ask("source", source={"path": "/no/such"})["success"]


def test_breakpoints_are_kept_in_debug_info(debugger: Client) -> None:
    path = debugger.break_at(FUNCTION, 2)
    assert debugger.body("debugInfo")["breakpoints"] == [{"source": path, "breakpoints": [{"line": 2}]}]


def test_stop_on_breakpoint(debugger: Client) -> None:
    path = debugger.break_at(FUNCTION, 2)
    cell = debugger.kernel.kc.execute(FUNCTION)
    stopped = debugger.event("stopped")
    assert stopped["reason"] == "breakpoint"
    assert debugger.body("debugInfo")["stoppedThreads"] == [stopped["threadId"]]
    frames = debugger.frames(stopped["threadId"])
    assert [(each["name"], each["line"]) for each in frames] == [("f", 2), ("<module>", 5)]
    assert {each["source"]["path"] for each in frames} == {path}
    reply = debugger.go_on(stopped["threadId"], cell)
    assert reply["status"] == "ok"
    assert debugger.body("debugInfo")["stoppedThreads"] == []


def test_breakpoint_in_cell_with_leading_empty_lines(debugger: Client) -> None:
    code = f"\n\n\n{FUNCTION}\n"
    cell, thread, frames = debugger.stop(code, 5)
    assert frames[0]["line"] == 5
    assert debugger.go_on(thread, cell)["status"] == "ok"


def test_variables_in_a_frame(debugger: Client) -> None:
    cell, thread, frames = debugger.stop(FUNCTION, 3)
    scopes = debugger.body("scopes", frameId=frames[0]["id"])["scopes"]
    found = debugger.body("variables", variablesReference=named(scopes, "Locals")["variablesReference"])
    assert {each["name"]: each["value"] for each in found["variables"]} == {"a": "2", "b": "3", "c": "5"}
    debugger.go_on(thread, cell)


def test_evaluate_steps_and_changes(debugger: Client) -> None:
    cell, thread, frames = debugger.stop(FUNCTION, 2)
    where = frames[0]["id"]
    assert debugger.body("evaluate", expression="a * 10", frameId=where, context="repl")["result"] == "20"
    debugger.body("setExpression", expression="a", value="40", frameId=where)
    debugger.body("next", threadId=thread)
    assert debugger.event("stopped")["reason"] == "step"
    frames = debugger.frames(thread)
    assert (frames[0]["name"], frames[0]["line"]) == ("f", 3)
    assert debugger.body("evaluate", expression="c", frameId=frames[0]["id"])["result"] == "43"
    debugger.body("stepOut", threadId=thread)
    debugger.event("stopped")
    assert debugger.frames(thread)[0]["name"] == "<module>"
    debugger.go_on(thread, cell)


def test_step_in(debugger: Client) -> None:
    cell, thread, _ = debugger.stop(FUNCTION, 5)
    debugger.body("stepIn", threadId=thread)
    debugger.event("stopped")
    assert debugger.frames(thread)[0]["name"] == "f"
    debugger.go_on(thread, cell)


@pytest.mark.parametrize("started", [False, True])
def test_inspect_variables_without_a_stop(plain: Client, started: bool) -> None:
    if started:
        plain.start()
    plain.kernel.run("number = 1\ntable = {'key': [1, 2]}")
    variables = plain.body("inspectVariables")["variables"]
    names = [each["name"] for each in variables]
    assert not {"In", "Out", "get_ipython", "exit", "_", "_i", "_oh", "__name__"} & set(names)
    assert (named(variables, "number")["value"], named(variables, "number")["type"]) == ("1", "int")
    children = plain.body("variables", variablesReference=named(variables, "table")["variablesReference"])
    assert "'key'" in [each["name"] for each in children["variables"]]


@pytest.mark.parametrize("started", [False, True])
def test_rich_inspect_without_a_stop(plain: Client, started: bool) -> None:
    if started:
        plain.start()
    plain.kernel.run("shown = 'text'\nfrom IPython.display import HTML\nbold = HTML('<b>x</b>')")
    assert plain.body("richInspectVariables", variableName="shown") == {
        "data": {"text/plain": "'text'"},
        "metadata": {},
    }
    assert "text/html" in plain.body("richInspectVariables", variableName="bold")["data"]
    assert plain.body("richInspectVariables", variableName="missing") == {"data": {}, "metadata": {}}
    assert not plain.ask("richInspectVariables", variableName="a b")["success"]
    assert plain.ask("richInspectVariables", variableName="special variables")["success"]


def test_rich_inspect_at_a_breakpoint(debugger: Client) -> None:
    code = "from IPython.display import HTML\ndef g():\n    inner = HTML('<b>ü\"x\\'</b>')\n    return 1\ng()"
    cell, thread, frames = debugger.stop(code, 4)
    found = debugger.body("richInspectVariables", variableName="inner", frameId=frames[0]["id"])
    assert found["data"]["text/html"] == "<b>ü\"x'</b>"
    debugger.go_on(thread, cell)


def test_copy_to_globals(debugger: Client) -> None:
    cell, thread, frames = debugger.stop(FUNCTION, 3)
    copied = {"srcVariableName": "c", "dstVariableName": "copied", "srcFrameId": frames[0]["id"]}
    debugger.body("copyToGlobals", **copied)
    assert not debugger.ask("copyToGlobals", **{**copied, "dstVariableName": "0x"})["success"]
    debugger.go_on(thread, cell)
    assert text_of(debugger.kernel.run("print(copied)")[1]) == "5\n"


def test_modules(plain: Client) -> None:
    found = plain.body("modules")
    assert any(each["name"] == "json" for each in found["modules"])
    assert found["totalModules"] > len(found["modules"]) > 50


def test_disconnect_and_start_again(plain: Client) -> None:
    for _ in range(3):
        plain.start()
        cell, thread, _ = plain.stop(FUNCTION, 2)
        plain.go_on(thread, cell)
        plain.body("disconnect", restart=False, terminateDebuggee=True)
        info = plain.body("debugInfo")
        assert (info["isStarted"], info["breakpoints"], info["stoppedThreads"]) == (False, [], [])
        assert plain.kernel.run(FUNCTION)[0]["content"]["status"] == "ok"
    assert threads(plain.kernel) == "1"


# -- beyond them -------------------------------------------------------------------------------


def test_nothing_but_questions_before_it_is_started(plain: Client) -> None:
    for command in ("attach", "setBreakpoints", "stackTrace", "evaluate", "continue"):
        reply = plain.ask(command)
        assert not reply["success"]
        assert "has not been started" in reply["message"]


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
    code = "import time\ngo = True\nwhile go:\n    time.sleep(0.01)"
    cell = debugger.kernel.kc.execute(code)
    debugger.event("thread")
    time.sleep(0.2)
    debugger.body("pause", threadId=1)
    stopped = debugger.event("stopped")
    assert stopped["reason"] == "pause"
    frames = debugger.frames(stopped["threadId"])
    debugger.body("setExpression", expression="go", value="False", frameId=frames[0]["id"])
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
