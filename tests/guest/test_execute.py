"""Cells: results, errors, counts, history, magics, payloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime import wire

if TYPE_CHECKING:
    from tests.guest.conftest import Host


#: A thread that has ended is a moment longer there for the kernel.
THREADS = """
import os, time
for _ in range(2000):
    if (threads := len(os.listdir('/proc/self/task'))) == 1: break
    time.sleep(0.01)
threads
"""


def test_ready_tells_the_language_and_one_thread(shared: Host) -> None:
    assert shared.info["threads"] == 1
    assert shared.info["cells"].startswith("/tmp/ipykernel_")
    assert shared.info["language_info"]["name"] == "python"
    assert shared.run(THREADS).result == "1"


def test_the_branch_holds_few_descriptors(guest: Host) -> None:
    shown = guest.run(
        "import os\n[(int(n), os.readlink(f'/proc/self/fd/{n}')) for n in os.listdir('/proc/self/fd')"
        " if os.path.exists(f'/proc/self/fd/{n}')]"
    ).result
    assert shown is not None
    open_fds = [fd for fd, target in eval(shown) if not target.startswith(("/proc", "anon"))]
    # 0-2 and their copies, the socket, the loop's own pair
    assert len([fd for fd in open_fds if fd < 200]) <= 7, shown
    assert len([fd for fd in open_fds if fd >= 200]) == 4, shown


def test_result_reply_and_done_in_order(shared: Host) -> None:
    outcome = shared.run("6 * 7", count=5)
    kinds = [type(f).__name__ for f in outcome.frames]
    assert kinds == ["Publish", "Reply", "Done"]
    assert outcome.published("execute_result")[0]["execution_count"] == 5
    assert outcome.reply["execution_count"] == 5
    assert outcome.reply["status"] == "ok"


def test_silent_and_unstored_cells_do_not_count(shared: Host) -> None:
    shared.run("1", count=11)
    silent = shared.run("hidden = 3; hidden", count=0, silent=True, store_history=False)
    assert not silent.published("execute_result")
    assert shared.run("In[-1]", count=12).result == "'In[-1]'"
    unstored = shared.run("'unstored'", count=0, store_history=False)
    assert unstored.result == "'unstored'"
    assert shared.run("hidden", count=13).result == "3"


def test_in_out_and_history(guest: Host) -> None:
    guest.run("a = 5", count=1)
    guest.run("a + 1", count=2)
    assert guest.run("Out[2], In[1], _2, _", count=3).result == "(6, 'a = 5', 6, 6)"
    assert "a + 1" in guest.run("%history", count=4).text()
    reply = guest.ask(
        "history_request", hist_access_type="range", output=False, raw=True, session=0, start=1, stop=3
    )
    assert [line[2] for line in reply["history"]] == ["a = 5", "a + 1"]
    tail = guest.ask("history_request", hist_access_type="tail", output=False, raw=True, n=2)
    assert tail["status"] == "ok"


def test_error_is_published_and_replied(shared: Host) -> None:
    outcome = shared.run("def f():\n    return 1 / 0\nf()")
    (error,) = outcome.published("error")
    assert error["ename"] == "ZeroDivisionError"
    assert any("f()" in line for line in error["traceback"])
    assert outcome.reply["status"] == "error"
    assert outcome.reply["traceback"] == error["traceback"]


def test_syntax_error(shared: Host) -> None:
    assert shared.run("x = = 1").error == "SyntaxError"


def test_error_while_formatting_a_result(shared: Host) -> None:
    outcome = shared.run("class Bad:\n    def __repr__(self): raise ValueError('no')\nBad()")
    assert outcome.error == "ValueError"
    assert outcome.reply["status"] == "error"


@pytest.mark.parametrize("code", ["raise SystemExit", "import sys; sys.exit(3)"])
def test_system_exit_ends_only_the_cell(shared: Host, code: str) -> None:
    assert shared.run(code).reply["ename"] == "SystemExit"
    assert shared.run("1 + 1").result == "2"


@pytest.mark.parametrize("code", ["exit", "quit", "exit()"])
def test_exit_asks_the_front(shared: Host, code: str) -> None:
    payload = shared.run(code).reply["payload"]
    assert [p["source"] for p in payload] == ["ask_exit"]
    assert shared.run("1 + 1").reply["payload"] == []


def test_payloads(shared: Host) -> None:
    (payload,) = shared.run("get_ipython().set_next_input('abc')").reply["payload"]
    assert payload["source"] == "set_next_input"
    assert payload["text"] == "abc"
    (payload,) = shared.run("print?").reply["payload"]
    assert payload["source"] == "page"
    assert "Prints the values" in payload["data"]["text/plain"]


def test_user_expressions(shared: Host) -> None:
    reply = shared.run("v = 3", user_expressions={"double": "v * 2", "bad": "nope"}).reply
    assert reply["user_expressions"]["double"]["data"]["text/plain"] == "6"
    assert reply["user_expressions"]["bad"]["ename"] == "NameError"


def asked(host: Host) -> wire.Ask:
    """The question of a cell, which waits for the answer."""
    ask: wire.Ask = host.until(lambda f: isinstance(f, wire.Ask))[-1]
    return ask


def test_stop_on_error_aborts_what_has_arrived(shared: Host) -> None:
    first = shared.start("input(); 1/0")
    second = shared.start("'second'")
    third = shared.request("is_complete_request", {"code": "x"})
    shared.send(wire.Answer(id=asked(shared).id, text=""))
    assert shared.finish(first).error == "ZeroDivisionError"
    assert shared.finish(second).reply == {"status": "aborted"}
    assert shared.finish(third).reply["status"] == "complete"
    assert shared.run("'after'").result == "'after'"


def test_what_arrives_while_a_cell_fails_is_answered(shared: Host) -> None:
    first = shared.start("input(); 1/0")
    ask = asked(shared)
    second = shared.start("'second'")
    third = shared.request("is_complete_request", {"code": "x"})
    shared.send(wire.Answer(id=ask.id, text=""))
    shared.finish(first)
    assert shared.finish(second).reply == {"status": "aborted"}
    assert shared.finish(third).reply["status"] == "complete"


def test_without_stop_on_error_nothing_is_aborted(shared: Host) -> None:
    first = shared.start("input(); 1/0", stop_on_error=False)
    second = shared.start("'second'")
    shared.send(wire.Answer(id=asked(shared).id, text=""))
    shared.finish(first)
    assert shared.finish(second).result == "'second'"


def test_completion_inspection_and_completeness_after_an_error(shared: Host) -> None:
    shared.run("long_variable_name = 1; 1/0")
    assert "long_variable_name" in shared.ask("complete_request", code="long_va", cursor_pos=7)["matches"]
    matches = shared.ask("complete_request", code="%time", cursor_pos=5)["matches"]
    assert "%timeit" in matches
    found = shared.ask("inspect_request", code="print", cursor_pos=3, detail_level=0)
    assert found["found"]
    assert "Prints the values" in found["data"]["text/plain"]
    assert shared.ask("is_complete_request", code="for i in x:")["status"] == "incomplete"
    assert shared.ask("is_complete_request", code="x = 1")["status"] == "complete"
    assert shared.ask("is_complete_request", code="x = = 1")["status"] == "invalid"


def test_magics(shared: Host) -> None:
    assert "/" in str(shared.run("%pwd").result)
    assert "loop" in shared.run("%timeit -n1 -r1 1").text()
    assert "Wall time" in shared.run("%%time\nx = 1").text()
    assert shared.run("%%capture got\nprint('inside')").text() == ""
    assert shared.run("got.stdout").result == r"'inside\n'"


def test_subprocess_magics_leave_no_thread(shared: Host) -> None:
    assert shared.run("!echo one").text() == "one\r\n"
    assert shared.run("%%bash\necho two; echo three >&2").text() == "two\n"
    assert shared.run("lines = !echo four\nlines[0]").result == "'four'"
    assert shared.run(THREADS).result == "1"


def test_matplotlib_inline(shared: Host) -> None:
    outcome = shared.run("%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);", timeout=60)
    (image,) = outcome.published("display_data")
    assert image["data"]["image/png"].startswith("iVBORw0KG")
    (image,) = shared.run("plt.plot([2, 1]);").published("display_data")
    assert "image/png" in image["data"]


@pytest.mark.slow
def test_matplotlib_is_inline_without_the_magic(guest: Host) -> None:
    outcome = guest.run("import matplotlib.pyplot as plt\nplt.plot([1, 2]);", timeout=60)
    (image,) = outcome.published("display_data")
    assert "image/png" in image["data"]


def test_kernel_is_where_libraries_look(shared: Host) -> None:
    shown = shared.run(
        "k = get_ipython().kernel\n(type(get_ipython()).__name__, k.get_parent()['msg_type'], "
        "'IPKernelApp' in get_ipython().config)"
    ).result
    assert shown == "('ZMQInteractiveShell', 'execute_request', True)"


def test_top_level_await_and_background_tasks(shared: Host) -> None:
    assert shared.run("import asyncio\nawait asyncio.sleep(0.01)\n'awaited'").result == "'awaited'"
    code = (
        "async def tick():\n    for i in range(3):\n        await asyncio.sleep(0.02)\n        ticks.append(i)\n"
        "    print('ticked')\n"
        "ticks = []; task = asyncio.create_task(tick())"
    )
    shared.run(code)
    shared.until(lambda f: isinstance(f, wire.Stream))  # between the cells
    assert shared.run("ticks, task.done()").result == "([0, 1, 2], True)"


def test_unknown_request_gets_an_error_and_done(shared: Host) -> None:
    reply = shared.finish(shared.request("usage_request", {})).reply
    assert reply["status"] == "error"
    assert "usage_request" in reply["evalue"]


def test_arguments_and_count_of_begin(
    new_guest: type[Host], tmp_path_factory: pytest.TempPathFactory
) -> None:
    host = new_guest(
        str(tmp_path_factory.mktemp("g")),
        execution_count=7,
        arguments=["--InteractiveShell.xmode=Minimal", "rest"],
    )
    try:
        assert (
            host.run("import sys; sys.argv[1:]", count=0).result
            == "['--InteractiveShell.xmode=Minimal', 'rest']"
        )
        assert len(host.run("1/0").published("error")[0]["traceback"]) == 1
    finally:
        host.close()


def test_modules_of_the_directory_import(guest: Host) -> None:
    guest.run("open('beside.py', 'w').write('value = 4')")
    assert guest.run("import beside; beside.value").result == "4"


def test_frame_too_large_is_an_error_of_the_cell(shared: Host) -> None:
    code = "from IPython.display import display\ndisplay({'text/plain': 'x' * 70_000_000}, raw=True)"
    assert shared.run(code).error == "ProtocolViolation"
    nested = "d = []\nfor _ in range(150): d = [d]\ndisplay({'application/json': d}, raw=True)"
    assert shared.run(nested).error == "ProtocolViolation"


def test_garbage_ends_the_branch(guest: Host) -> None:
    guest.sock.sendall(b"\x00\x00\x00\x02ab")
    with pytest.raises((EOFError, ConnectionError)):
        guest.until(lambda _: False, 5)


def test_requests_in_a_row_do_not_pile_up(shared: Host) -> None:
    names = [shared.start(f"{n}") for n in range(50)]
    assert [shared.finish(name).result for name in names] == [str(n) for n in range(50)]


def test_large_request_arrives_whole(shared: Host) -> None:
    content = {"code": "len('" + "x" * 5_000_000 + "')", "silent": False, "store_history": False}
    name = shared.request("execute_request", content, count=1)
    assert shared.finish(name).result == "5000000"


def test_after_gate_off_the_functions_that_have_one_are_completed(shared: Host) -> None:
    def completed(code: str) -> list[str]:
        matches: list[str] = shared.ask("complete_request", code=code, cursor_pos=len(code))["matches"]
        return matches

    shared.run("def gated_one(): pass\ndef gated_two(): pass\ndef gated_not(): pass\n")
    shared.run("%gate gated_one\n%gate gated_two")
    assert completed("%gate off gated_") == completed("%gate off ") == ["gated_one", "gated_two"]
    assert completed("x = 1\n%gate off gated_t") == ["gated_two"]
    assert completed("gated_") == ["gated_not", "gated_one", "gated_two"], "the control"
    shared.run("%gate off gated_one\n%gate off gated_two")
    assert "gated_one" not in completed("%gate off ")
