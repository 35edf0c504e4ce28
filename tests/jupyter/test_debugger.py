"""The debugger through the wall: ipykernel's own cases, and what is refused before it is started."""

from __future__ import annotations

import pytest

from tests.jupyter.debug_client import FUNCTION, Client, named, threads
from tests.jupyter.kernels import text_of

pytest.importorskip("debugpy")


def test_the_kernel_says_it_has_a_debugger(unstarted: Client) -> None:
    info = unstarted.kernel.ask("control", "kernel_info_request")
    assert info["debugger"] is True
    assert info["supported_features"] == ["debugger"]


def test_initialize(unstarted: Client) -> None:
    reply = unstarted.initialize()
    assert reply["success"]
    assert reply["body"]["supportsConditionalBreakpoints"]


def test_debug_info(unstarted: Client) -> None:
    info = unstarted.body("debugInfo")
    assert not info["isStarted"]
    assert (info["hashMethod"], info["hashSeed"], info["tmpFileSuffix"]) == ("Murmur2", 0xC70F6907, ".py")
    assert info["richRendering"]
    assert info["copyToGlobals"]
    unstarted.start()
    assert unstarted.body("debugInfo")["isStarted"]


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
def test_inspect_variables_without_a_stop(unstarted: Client, started: bool) -> None:
    if started:
        unstarted.start()
    unstarted.kernel.run("number = 1\ntable = {'key': [1, 2]}")
    variables = unstarted.body("inspectVariables")["variables"]
    names = [each["name"] for each in variables]
    assert not {"In", "Out", "get_ipython", "exit", "_", "_i", "_oh", "__name__"} & set(names)
    assert (named(variables, "number")["value"], named(variables, "number")["type"]) == ("1", "int")
    children = unstarted.body("variables", variablesReference=named(variables, "table")["variablesReference"])
    assert "'key'" in [each["name"] for each in children["variables"]]


@pytest.mark.parametrize("started", [False, True])
def test_rich_inspect_without_a_stop(unstarted: Client, started: bool) -> None:
    if started:
        unstarted.start()
    unstarted.kernel.run("shown = 'text'\nfrom IPython.display import HTML\nbold = HTML('<b>x</b>')")
    assert unstarted.body("richInspectVariables", variableName="shown") == {
        "data": {"text/plain": "'text'"},
        "metadata": {},
    }
    assert "text/html" in unstarted.body("richInspectVariables", variableName="bold")["data"]
    assert unstarted.body("richInspectVariables", variableName="missing") == {"data": {}, "metadata": {}}
    assert not unstarted.ask("richInspectVariables", variableName="a b")["success"]
    assert unstarted.ask("richInspectVariables", variableName="special variables")["success"]


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


def test_modules(unstarted: Client) -> None:
    found = unstarted.body("modules")
    assert any(each["name"] == "json" for each in found["modules"])
    assert found["totalModules"] > len(found["modules"]) > 50


def test_disconnect_and_start_again(unstarted: Client) -> None:
    for _ in range(3):
        unstarted.start()
        cell, thread, _ = unstarted.stop(FUNCTION, 2)
        unstarted.go_on(thread, cell)
        unstarted.body("disconnect", restart=False, terminateDebuggee=True)
        info = unstarted.body("debugInfo")
        assert (info["isStarted"], info["breakpoints"], info["stoppedThreads"]) == (False, [], [])
        assert unstarted.kernel.run(FUNCTION)[0]["content"]["status"] == "ok"
    assert threads(unstarted.kernel) == "1"


def test_nothing_but_questions_before_it_is_started(unstarted: Client) -> None:
    for command in ("attach", "setBreakpoints", "stackTrace", "evaluate", "continue"):
        reply = unstarted.ask(command)
        assert not reply["success"]
        assert "has not been started" in reply["message"]
