"""The front kernel with a scripted guest: what it relays, refuses, answers and survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import zmq

from tests.journeys.processes import eventually, living
from tests.jupyter.kernels import PATIENCE, SCRIPTED, Kernel, Message, kinds, running, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator


#: A cell that runs until it is interrupted.
ENDLESS = "say running\nsleep 100000"


def interrupted(kernel: Kernel, cell: str) -> None:
    """End the cell, which still runs."""
    kernel.km.interrupt_kernel()
    reply, _ = kernel.finish(cell)
    assert reply["content"]["ename"] == "KeyboardInterrupt"


def wait_for_file(path: str) -> None:
    end = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        assert time.monotonic() < end, path
        time.sleep(0.02)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with running() as found:
        yield found


def test_streams_and_counts(kernel: Kernel) -> None:
    reply, outputs = kernel.run("say hello\nerr oh\nnumber")
    count = reply["content"]["execution_count"]
    assert text_of(outputs) == f"hello\n{count}"
    assert text_of(outputs, "stderr") == "oh\n"
    assert outputs[0]["content"] == {"code": "say hello\nerr oh\nnumber", "execution_count": count}
    after, _ = kernel.run("say again")
    assert after["content"]["execution_count"] == count + 1


def test_what_is_not_stored_takes_no_count(kernel: Kernel) -> None:
    first, _ = kernel.run("say 1")
    kernel.run("say 2", store_history=False)
    kernel.run("  ")
    reply, outputs = kernel.run("say 3", silent=True)
    assert kinds(outputs) == ["stream"]
    assert reply["content"]["execution_count"] == first["content"]["execution_count"]


def test_the_guest_cannot_choose_reply_metadata(kernel: Kernel) -> None:
    reply, _ = kernel.run("say x")
    assert reply["metadata"]["kernel_runtime"].keys() == {"standing"}  # what the host has made of it
    assert reply["metadata"]["kernel_runtime"]["standing"].keys() == {"level", "rung", "missing", "partial"}
    assert reply["metadata"]["started"] != "never"


@pytest.mark.parametrize("end", ["say well", "raise", "crash"])
def test_denied_calls_are_in_the_reply_for_programs(kernel: Kernel, end: str) -> None:
    reply, outputs = kernel.run(f"deny socket(AF_VSOCK)\ndeny bpf\n{end}")
    assert reply["metadata"]["kernel_runtime"]["denied"] == ["socket(AF_VSOCK)", "bpf"]
    assert "AF_VSOCK" not in json.dumps([output["content"] for output in outputs[1:]])
    assert "denied" not in kernel.run("say again")[0]["metadata"]["kernel_runtime"]


def test_front_sets_the_count_of_results(kernel: Kernel) -> None:
    body = {"data": {"text/plain": "2"}, "metadata": {}, "execution_count": 5000, "extra": 1}
    reply, outputs = kernel.run(f"publish execute_result {json.dumps(body)}")
    result = outputs[-1]["content"]
    assert result["execution_count"] == reply["content"]["execution_count"]
    assert "extra" not in result


@pytest.mark.parametrize(
    "line",
    [
        'publish status {"execution_state":"idle"}',
        'publish execute_input {"code":"","execution_count":1}',
        'publish execute_reply {"status":"ok"}',
        'publish display_data {"data":[]}',
        'publish display_data {"data":{"no mime":""},"metadata":{}}',
        "publish display_data nonsense",
        'publish display_data {"data":{"a/b":' + "[" * 200 + "]" * 200 + '},"metadata":{}}',
        'reply {"status":"maybe"}',
        'reply {"status":"ok"}',  # one of its own follows: two replies
    ],
)
def test_a_lie_ends_the_guest_and_not_the_front(kernel: Kernel, line: str) -> None:
    reply, outputs = kernel.run(line)
    assert reply["content"]["ename"] == "ProtocolViolation"
    assert kinds(outputs) == ["error"]
    assert text_of(kernel.run("say alive")[1]) == "alive\n"


@pytest.mark.parametrize(
    ("line", "ename"),
    [
        ("die memory", "MemoryLimitExceeded"),
        ("die cpu", "CpuLimitExceeded"),
        ("die wall", "WallLimitExceeded"),
        ("die exit", "GuestExited"),
        ("die signal", "GuestKilled"),
        ("crash", "GuestCrashed"),
        ("die seccomp", "ForbiddenSystemCall"),
    ],
)
def test_every_end_is_explained(kernel: Kernel, line: str, ename: str) -> None:
    reply, outputs = kernel.run(f"say before\n{line}")
    assert text_of(outputs) == "before\n"
    error = outputs[-1]["content"]
    assert error["ename"] == reply["content"]["ename"] == ename
    assert "variables are gone" in error["evalue"]
    assert "<" not in "".join(error["traceback"])
    assert reply["metadata"]["kernel_runtime"]["verdict"]["evidence"]
    assert text_of(kernel.run("say next")[1]) == "next\n"


def test_a_limit_that_the_cell_obeyed_keeps_the_variables(kernel: Kernel) -> None:
    reply, _ = kernel.run("survive")
    assert reply["content"]["ename"] == "WallLimitExceeded"
    assert "variables are kept" in reply["content"]["evalue"]


def test_cells_behind_an_error_are_aborted(kernel: Kernel) -> None:
    ids = [kernel.kc.execute("ask when?\nraise", allow_stdin=True)]
    ids += [kernel.kc.execute(code) for code in ("say no", "say never")]
    asked = kernel.kc.is_complete("1")
    kernel.ask("shell", "kernel_info_request")  # behind them all on the same socket: they have arrived
    kernel.kc.get_stdin_msg(timeout=PATIENCE)
    kernel.kc.input("now")
    replies = [kernel.reply(each)["content"]["status"] for each in (*ids, asked)]
    assert replies == ["error", "aborted", "aborted", "complete"]
    assert kernel.run("say on")[0]["content"]["status"] == "ok"


def test_no_abort_when_the_client_says_so(kernel: Kernel) -> None:
    first = kernel.kc.execute("ask when?\nraise", stop_on_error=False, allow_stdin=True)
    second = kernel.kc.execute("say yes")
    kernel.ask("shell", "kernel_info_request")
    kernel.kc.get_stdin_msg(timeout=PATIENCE)
    kernel.kc.input("now")
    assert kernel.reply(first)["content"]["status"] == "error"
    assert kernel.reply(second)["content"]["status"] == "ok"


def test_answers_while_a_cell_runs(kernel: Kernel) -> None:
    cell = kernel.begin(ENDLESS)
    assert kernel.ask("shell", "kernel_info_request")["implementation"] == "kernel_runtime"
    assert kernel.ask("control", "kernel_info_request")["debugger"] is True
    assert kernel.ask("shell", "comm_info_request") == {"status": "ok", "comms": {}}
    assert kernel.ask("shell", "history_request", {"hist_access_type": "tail", "n": 1})["status"] == "ok"
    assert kernel.ask("control", "usage_request")["kernel_memory"] == 123
    assert kernel.ask("control", "debug_request", {"seq": 3, "command": "attach"})["success"] is False
    assert kernel.ask("shell", "connect_request")["shell_port"] == kernel.km.shell_port
    limits = kernel.kc.execute("%limits")
    assert "memory" in str(kernel.outputs(limits)[-1]["content"]["data"]["text/plain"])
    interrupted(kernel, cell)  # it ran on all the while


def test_status_says_busy_again_after_an_answer_in_between(kernel: Kernel) -> None:
    cell = kernel.begin(ENDLESS)
    kernel.ask("control", "usage_request")
    states = []
    while len(states) < 3:
        message = kernel.kc.get_iopub_msg(timeout=PATIENCE)
        if message["msg_type"] == "status":
            states.append((message["content"]["execution_state"], message["parent_header"]["msg_id"] == cell))
    assert states == [("busy", False), ("idle", False), ("busy", True)]
    interrupted(kernel, cell)


def test_the_usage_comm_answers_while_a_cell_runs(kernel: Kernel) -> None:
    cell = kernel.begin(ENDLESS)
    content = {"comm_id": "u1", "target_name": "kernel_runtime.usage", "data": {}}
    opened = kernel.kc.session.msg("comm_open", content)
    kernel.kc.shell_channel.send(opened)
    outputs = kernel.outputs(opened["header"]["msg_id"])
    assert outputs[0]["content"]["data"]["memory"] == 123
    assert "u1" in kernel.ask("shell", "comm_info_request", {"target_name": "kernel_runtime.usage"})["comms"]
    interrupted(kernel, cell)


def test_a_guest_cannot_imitate_a_target_of_the_front(kernel: Kernel) -> None:
    body = {"comm_id": "fake", "target_name": "kernel_runtime.permissions", "data": {}}
    _, outputs = kernel.run(f"publish comm_open {json.dumps(body)}")
    assert kinds(outputs) == []
    unknown = kernel.kc.session.msg("comm_open", body)
    kernel.kc.shell_channel.send(unknown)
    assert kinds(kernel.outputs(unknown["header"]["msg_id"])) == ["comm_close"]


def test_a_guest_that_a_comm_has_ended_has_no_widgets_any_more(kernel: Kernel) -> None:
    state = {"_model_module": "@jupyter-widgets/controls", "_model_name": "TextModel"}
    opened = {"comm_id": "d1", "target_name": "jupyter.widget", "data": {"state": state, "buffer_paths": []}}
    kernel.run(f"publish comm_open {json.dumps(opened)}")

    def say(kind: str, **content: object) -> list[Message]:
        sent = kernel.kc.session.msg(kind, content)
        kernel.kc.shell_channel.send(sent)
        return kernel.outputs(sent["header"]["msg_id"])

    say("comm_msg", comm_id="d1", data={"die": "exit"})
    assert kernel.ask("shell", "comm_info_request", {"target_name": "jupyter.widget"})["comms"] == {}
    say("comm_open", comm_id="ctl", target_name="jupyter.widget.control", data={})
    assert say("comm_msg", comm_id="ctl", data={"method": "request_states"}) == [], "only the guest can say"
    say("comm_close", comm_id="ctl", data={})


def test_comms_reach_the_guest_while_a_cell_runs(kernel: Kernel) -> None:
    state = {"_model_module": "@jupyter-widgets/controls", "_model_name": "TextModel"}
    opened = {"comm_id": "c1", "target_name": "jupyter.widget", "data": {"state": state, "buffer_paths": []}}
    kernel.run(f"publish comm_open {json.dumps(opened)}")
    assert kernel.ask("shell", "comm_info_request")["comms"]["c1"] == {"target_name": "jupyter.widget"}
    cell = kernel.begin(ENDLESS)
    message = kernel.kc.session.msg(
        "comm_msg", {"comm_id": "c1", "data": {"method": "custom", "content": {"do": "blur"}}}
    )
    kernel.kc.shell_channel.send(message)
    outputs = kernel.outputs(message["header"]["msg_id"])
    assert outputs[0]["content"]["data"] == {"method": "custom", "content": {"do": "blur"}}
    interrupted(kernel, cell)
    kernel.run("die exit")
    assert "c1" not in kernel.ask("shell", "comm_info_request")["comms"]


def test_input_goes_to_the_client_that_asked(kernel: Kernel) -> None:
    cell = kernel.kc.execute("ask name?", allow_stdin=True)
    request = kernel.kc.get_stdin_msg(timeout=PATIENCE)
    assert request["content"] == {"prompt": "name?", "password": False}
    kernel.kc.input("Ada")
    _, outputs = kernel.finish(cell)
    assert text_of(outputs) == "'Ada'"


def test_no_prompt_without_a_person(kernel: Kernel) -> None:
    _, outputs = kernel.run("ask name?", allow_stdin=False)
    assert text_of(outputs) == "None"


def test_payloads_pass_by_level(kernel: Kernel) -> None:
    given = [{"source": "set_next_input", "text": "x"}, {"source": "edit_magic"}, {"source": "unheard"}, {}]
    reply, _ = kernel.run(f"payload {json.dumps(given)}")
    assert reply["content"]["payload"] == given[:1]


def test_background_output_finds_its_cell(kernel: Kernel) -> None:
    cell = kernel.kc.execute("late afterwards")
    kernel.finish(cell)
    other = kernel.kc.execute("release")
    assert kernel.until(cell, "stream")["content"]["text"] == "afterwards"
    kernel.reply(other)


def test_completion_knows_the_fronts_magics(kernel: Kernel) -> None:
    asked = kernel.kc.complete("%lim")
    assert kernel.reply(asked)["content"]["matches"] == ["guest", "%limits"]


def test_interrupt_by_message_and_by_signal(kernel: Kernel) -> None:
    for interrupt in (kernel.km.interrupt_kernel, lambda: kernel.km.signal_kernel(signal.SIGINT)):
        cell = kernel.begin(ENDLESS)
        interrupt()
        assert kernel.reply(cell)["content"]["ename"] == "KeyboardInterrupt"
        kernel.outputs(cell)
    assert kernel.km.is_alive()


def test_garbage_and_replay_are_dropped(kernel: Kernel) -> None:
    context = zmq.Context()
    with context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"tcp://127.0.0.1:{kernel.km.shell_port}")
        session = kernel.kc.session
        good = session.serialize(session.msg("kernel_info_request", {}))
        for frames in ([b"junk"], [b"<IDS|MSG>"], [b"<IDS|MSG>", b"0" * 64, *good[2:]], good, good):
            dealer.send_multipart(frames)
        assert dealer.poll(1000 * PATIENCE)
        dealer.recv_multipart()
        assert not dealer.poll(300), "a replayed request was answered"
    context.term()
    assert text_of(kernel.run("say alive")[1]) == "alive\n"


def test_heartbeat(kernel: Kernel) -> None:
    context = zmq.Context()
    with context.socket(zmq.REQ) as beat:
        beat.setsockopt(zmq.LINGER, 0)
        beat.connect(f"tcp://127.0.0.1:{kernel.km.hb_port}")
        beat.send(b"ping")
        assert beat.poll(1000 * PATIENCE)
        assert beat.recv() == b"ping"
    context.term()


def test_a_slow_start_holds_cells_and_an_interrupt_ends_the_waiting(tmp_path: Path) -> None:
    started = tmp_path / "started"
    with running(env={"SCRIPTED_START": str(started)}) as kernel:
        cell = kernel.kc.execute("say hi")
        kernel.until(cell, "execute_input")
        assert kernel.ask("shell", "kernel_info_request")["status"] == "ok"
        kernel.km.interrupt_kernel()
        reply, outputs = kernel.finish(cell)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert kinds(outputs) == ["error"]
        started.touch()
        assert text_of(kernel.run("say then")[1]) == "then\n"


def test_that_a_checkpoint_is_kept_is_said_in_the_first_cell(tmp_path: Path) -> None:
    started = tmp_path / "started"
    with running(env={"SCRIPTED_START": str(started), "SCRIPTED_OFFER": "one is kept"}) as kernel:
        first, second = kernel.kc.execute("say a"), kernel.kc.execute("say b")
        assert kernel.until(first, "stream")["content"]["text"] == "[kernel_runtime: one is kept]\n"
        started.touch()
        assert text_of(kernel.finish(second)[1], "stdout") == "b\n"


def test_a_wall_that_cannot_be_built_is_each_cells_error() -> None:
    with running(env={"SCRIPTED_NO_WALL": "1"}) as kernel:
        for _ in range(2):
            reply, _ = kernel.run("say x")
            assert reply["content"]["ename"] == "WallUnavailable"
            assert "Allow user namespaces" in reply["content"]["evalue"]
        assert kernel.ask("shell", "kernel_info_request")["status"] == "ok"


def test_a_limit_that_is_no_amount_refuses_every_cell() -> None:
    with running(SCRIPTED, "--memory", "much") as kernel:
        reply, _ = kernel.run("say x")
        assert reply["content"]["ename"] == "Invalid"
        assert "kernelspec.memory" in reply["content"]["evalue"]
        assert "kernelspec.memory" in kernel.ask("shell", "kernel_info_request")["banner"]
        assert "kernelspec.memory" in kernel.run("%limits")[1][-1]["content"]["data"]["text/plain"]


def test_a_manifest_that_is_none_is_told_above_the_first_cell(tmp_path: Path) -> None:
    notebook = tmp_path / "n.ipynb"
    notebook.write_text(json.dumps({"metadata": {"kernel_runtime": {"permisions": []}}}))
    with running(env={"JPY_SESSION_NAME": str(notebook)}) as kernel:
        told = text_of(kernel.run("print x")[1], "stderr")
        assert told.startswith("[kernel_runtime: this notebook is granted nothing until")
        assert "n.ipynb:1: permisions: no key is called 'permisions'" in told
        assert text_of(kernel.run("print x")[1], "stderr") == ""


def test_ipc_transport(tmp_path: object) -> None:
    with running(transport="ipc") as kernel:
        assert text_of(kernel.run("say through sockets")[1]) == "through sockets\n"


def test_shutdown_leaves_nothing_and_restart_keeps_the_ports() -> None:
    with running() as kernel:
        process = psutil.Process(kernel.km.provisioner.process.pid)
        kernel.km.restart_kernel()
        kernel.kc.wait_for_ready(timeout=PATIENCE)
        assert text_of(kernel.run("say again")[1]) == "again\n"
        assert not process.is_running()


def test_ports_are_chosen_and_written_when_the_file_names_none(tmp_path: object) -> None:
    path = f"{tmp_path}/connection.json"
    process = subprocess.Popen([sys.executable, SCRIPTED, "-f", path])
    try:
        wait_for_file(path)
        info = json.loads(Path(path).read_text())
        assert info["key"]
        assert all(info[f"{name}_port"] > 0 for name in ("shell", "iopub", "stdin", "control", "hb"))
        assert os.stat(path).st_mode & 0o777 == 0o600
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert not os.path.exists(path)


def test_the_kernel_ends_with_its_launcher(tmp_path: object) -> None:
    path = f"{tmp_path}/connection.json"
    code = (
        "import os, subprocess, sys, time\n"
        "env = {**os.environ, 'JPY_PARENT_PID': str(os.getpid())}\n"
        "p = subprocess.Popen(sys.argv[1:], env=env)\nprint(p.pid, flush=True)\ntime.sleep(60)"
    )
    launcher = subprocess.Popen(
        [sys.executable, "-c", code, sys.executable, SCRIPTED, "-f", path], stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdout is not None
    kernel = psutil.Process(int(launcher.stdout.readline()))
    wait_for_file(path)
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    assert eventually(lambda: not living([kernel]), PATIENCE)
