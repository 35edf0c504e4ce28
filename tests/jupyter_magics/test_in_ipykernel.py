"""``%%sandbox`` in a plain ipykernel, driven by a client as a notebook drives it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.manager import start_new_kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jupyter_client.blocking.client import BlockingKernelClient
    from jupyter_client.manager import KernelManager


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    place = tmp_path_factory.mktemp("kernel")
    own = {"KERNEL_RUNTIME_STATE": str(place / "state"), "XDG_CONFIG_HOME": str(place / "config")}
    manager, client = start_new_kernel(
        kernel_name="python3", cwd=str(place), env={**os.environ, **own, "JPY_SESSION_NAME": "a/book.ipynb"}
    )
    execute(client, "%load_ext kernel_runtime")
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def execute(
    client: BlockingKernelClient, code: str, answer: str | Callable[[str], str] | None = None
) -> tuple[dict[str, Any], list[Any]]:
    """The reply's content, and (type, content) of what was published.

    For a moment after an error ipykernel aborts what comes next, unless it is told not to.
    """
    outputs: list[Any] = []

    def keep(message: dict[str, Any]) -> None:
        if message["msg_type"] not in ("status", "execute_input"):
            outputs.append((message["msg_type"], message["content"]))

    def typed(message: dict[str, Any]) -> None:
        outputs.append(("input_request", message["content"]))
        client.input(answer(message["content"]["prompt"]) if callable(answer) else answer or "")

    reply = client.execute_interactive(
        code,
        allow_stdin=answer is not None,
        stop_on_error=False,
        output_hook=keep,
        stdin_hook=typed,
        timeout=90,
    )
    return reply["content"], outputs


def test_streams_and_displays(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    reply, outputs = execute(
        kernel[1], "%%sandbox\nimport sys\nprint('out'); print('err', file=sys.stderr)\n[1, 2]"
    )
    assert reply["status"] == "ok", reply
    assert ("stream", {"name": "stdout", "text": "out\n"}) in outputs
    assert ("stream", {"name": "stderr", "text": "err\n"}) in outputs
    assert outputs[-1][1]["data"] == {"text/plain": "[1, 2]"}


def test_errors_look_like_the_guests(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    reply, outputs = execute(kernel[1], "%%sandbox\ndef f():\n    return 1/0\nf()")
    assert reply["status"] == "error"
    assert reply["evalue"] == "ZeroDivisionError: division by zero"
    errors = [content for kind, content in outputs if kind == "error"]
    assert len(errors) == 1
    assert "magics.py" not in "".join(errors[0]["traceback"])


def test_a_killed_guest(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    reply, _ = execute(kernel[1], "%%sandbox --name k\nimport os; os._exit(7)")
    assert reply["status"] == "error"
    assert len(reply["traceback"]) == 1
    assert "exited with status 7" in reply["traceback"][0]
    assert execute(kernel[1], "%%sandbox --name k\nprint('again')")[1][0][1]["text"] == "again\n"


def test_prompts_reach_the_person(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    _, outputs = execute(kernel[1], "%%sandbox --name p\nprint(input('who? '))", answer="bob")
    assert ("input_request", {"prompt": "[sandbox p] who? ", "password": False}) in outputs
    assert ("stream", {"name": "stdout", "text": "bob\n"}) in outputs


def test_headless_prompts_fail_inside(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    reply, _ = execute(kernel[1], "%%sandbox\ninput('who? ')")
    assert reply["status"] == "error"
    assert execute(kernel[1], "%%sandbox\nprint(1)")[0]["status"] == "ok"


def test_interrupt(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    manager, client = kernel
    execute(client, "%%sandbox\nkept = 5")
    client.execute(
        "%%sandbox\nimport time\nprint('go', flush=True)\ntime.sleep(100_000)", stop_on_error=False
    )
    while True:
        message = client.get_iopub_msg(timeout=90)
        if message["msg_type"] == "stream" and "go" in message["content"]["text"]:
            break
    manager.interrupt_kernel()
    reply = client.get_shell_msg(timeout=90)
    assert "KeyboardInterrupt" in reply["content"]["evalue"]
    assert execute(client, "%%sandbox\nprint(kept)")[1][0][1]["text"] == "5\n"


def completed(client: BlockingKernelClient, before: str, after: str) -> list[str]:
    client.complete(before + after, len(before))
    while (reply := client.get_shell_msg(timeout=90))["msg_type"] != "complete_reply":
        pass
    matches: list[str] = reply["content"]["matches"]
    return matches


def test_completion_and_help(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    client = kernel[1]
    assert completed(client, "%%sandbox --mem", "\nx") == ["--memory"]
    head = '%%app prices\n# /// app\n# [[permissions]]\n# type = "cl'
    assert completed(client, head, '"\n# ///\n') == ["clock"]
    reply, _ = execute(client, "%%sandbox?")
    assert "--memory" in reply["payload"][0]["data"]["text/plain"]


def test_variables(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    execute(kernel[1], "x = {'a': [1, 2]}")
    execute(kernel[1], "%%sandbox -i x -o y\ny = x['a'] * 2")
    assert execute(kernel[1], "y")[1][-1][1]["data"]["text/plain"] == "[1, 2, 1, 2]"


def tell_widget(client: BlockingKernelClient, comm_id: str, data: dict[str, Any]) -> None:
    """What a page says to a widget."""
    client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": comm_id, "data": data}))


def test_a_click_in_the_panel_of_permissions_grants_and_its_logs_tell_of_it(
    kernel: tuple[KernelManager, BlockingKernelClient],
) -> None:
    client = kernel[1]
    ask = "%%sandbox --name asks\nfrom kernel_runtime.sdk import cache\ncache.get('x', default='kept')"
    refused, _ = execute(client, ask)
    assert refused["evalue"].startswith("CapabilityDenied: cache")
    assert "nobody can be asked here: `%sandbox permissions asks` or your policy file" in refused["evalue"]
    reply, outputs = execute(client, "%sandbox permissions asks")
    assert reply["status"] == "ok", reply
    (shown,) = [content["data"] for kind, content in outputs if kind == "display_data"]
    assert "permissions of %%sandbox asks of book.ipynb" in shown["text/plain"]
    assert "asks    cache" in shown["text/plain"]
    opened = {
        content["comm_id"]: content["data"]["state"] for kind, content in outputs if kind == "comm_open"
    }
    (button,) = [i for i, state in opened.items() if state.get("description") == "Allow this session"]
    # the options come with a later update of the widget's state than the one that opened it
    (choice,) = [
        content["comm_id"]
        for kind, content in outputs
        if kind == "comm_msg" and content["data"].get("state", {}).get("_options_labels") == ["cache, ask"]
    ]
    tell_widget(client, choice, {"method": "update", "state": {"index": 0}, "buffer_paths": []})
    tell_widget(client, button, {"method": "custom", "content": {"event": "click"}})
    granted, outputs = execute(client, ask)
    assert granted["status"] == "ok", granted
    assert outputs[-1][1]["data"]["text/plain"] == "'kept'"
    _, outputs = execute(client, "%sandbox logs")
    told = outputs[-1][1]["data"]["text/plain"]
    for line in (
        "stderr asks: CapabilityDenied: cache",
        "audit  asks: decision ask cache",
        "granted allow cache",
    ):
        assert line in told
    execute(client, "%sandbox kill asks")


def test_the_panel_of_a_guests_snapshots_brings_states_back(
    kernel: tuple[KernelManager, BlockingKernelClient],
) -> None:
    client = kernel[1]
    for cell in ("x = 1", "x = 2"):
        execute(client, f"%%sandbox --name timed\n{cell}")
    execute(client, "%sandbox snapshot two --name timed --pin")
    reply, outputs = execute(client, "%sandbox snapshots --name timed")
    assert reply["status"] == "ok", reply
    (shown,) = [content["data"] for kind, content in outputs if kind == "display_data"]
    assert "→ two" in shown["text/plain"]
    assert "<b>Snapshots of timed</b>" in shown["text/html"]
    opened = {
        content["comm_id"]: content["data"]["state"] for kind, content in outputs if kind == "comm_open"
    }
    assert shown["application/vnd.jupyter.widget-view+json"]["model_id"] in opened

    def press(button: str) -> None:
        (found,) = [i for i, state in opened.items() if state.get("description") == button]
        tell_widget(client, found, {"method": "custom", "content": {"event": "click"}})

    press("Undo")
    wait_for(client, "The last cell is undone")
    assert execute(client, "%%sandbox --name timed\nprint(x)")[1][-1][1]["text"] == "1\n"
    (rows,) = {
        content["comm_id"]
        for kind, content in outputs
        if kind == "comm_msg" and "kr-rows" in content["data"].get("state", {}).get("_dom_classes", ())
    }
    tell_widget(client, rows, {"method": "update", "state": {"index": 2}, "buffer_paths": []})
    press("Drop")
    wait_for(client, "#2 is dropped")
    again, outputs = execute(client, "%sandbox snapshots --name timed")  # it stands already
    assert again["status"] == "ok", again
    assert not [kind for kind, _ in outputs if kind == "comm_open"]
    told = str(outputs[-1][1]["data"]["text/plain"])
    assert "two" in told
    assert "#2" not in told
    _, outputs = execute(client, "%sandbox kill timed")
    assert {content["comm_id"] for kind, content in outputs if kind == "comm_close"} == set(opened)


def test_a_guests_cells_have_the_notebooks_numbers(
    kernel: tuple[KernelManager, BlockingKernelClient],
) -> None:
    client = kernel[1]
    first, _ = execute(client, "%%sandbox --name counts\nx = [1]")
    execute(client, "'a cell of the notebook alone'")
    second, _ = execute(client, "%%sandbox --name counts\nprint(x); x.append(2)")
    failed, outputs = execute(client, "%%sandbox --name counts\n1/0")
    traceback = "".join(content["traceback"][0] for kind, content in outputs if kind == "error")
    assert f"In[{failed['execution_count']}]" in re.sub(
        r"\x1b\[[\d;]*m", "", traceback + "".join(failed["traceback"])
    )
    number = second["execution_count"]
    assert number == first["execution_count"] + 2
    _, outputs = execute(client, f"%sandbox replay {number} --name counts")
    told = outputs[-1][1]["data"]["text/plain"]
    assert told.startswith(
        f"cell {number} again, on the state after cell {number - 2}:\noutputs: no difference"
    )
    refused, _ = execute(client, f"%sandbox replay {number - 1} --name counts")
    assert f"cell {number - 1} did not run" in refused["evalue"] + str(refused["traceback"])
    execute(client, "%sandbox kill counts")


def wait_for(client: BlockingKernelClient, pattern: str) -> None:
    """Until a widget says it."""
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "comm_msg" and re.search(pattern, str(message["content"]["data"])):
            return


def test_help_of_what_is_done_with_states(kernel: tuple[KernelManager, BlockingKernelClient]) -> None:
    _, outputs = execute(kernel[1], "%sandbox restore?")
    assert outputs[-1][1]["data"]["text/plain"].startswith("usage: %sandbox restore [--reseed]")
    assert completed(kernel[1], "%sandbox snapshot --d", "") == ["--durable"]


ASK = "from kernel_runtime.sdk import cache\nprint(cache.get('x', default='kept'))"
IMITATION = "[kernel_runtime asks; this is not the notebook]\nType `once 07`, `session 07` or `always 07` to allow it: "


def test_the_person_is_asked_through_stdin_and_the_guest_can_neither_imitate_nor_answer(
    kernel: tuple[KernelManager, BlockingKernelClient],
) -> None:
    prompts: list[str] = []

    def says(prompt: str) -> str:
        """Takes the imitation for the real one, and types what it said to that again; then what is to be typed."""
        prompts.append(prompt)
        found = re.search(r"session (\d\d)", prompt)
        assert found is not None
        return f"session {found[1]}" if len(prompts) == 3 else "session 07"

    guest = f"%%sandbox --name spoofs\nprint({IMITATION!r})\nsaid = input({IMITATION!r})\n{ASK}\nprint(said)"
    reply, outputs = execute(kernel[1], guest, says)
    assert reply["status"] == "ok", reply
    imitation, *asked = prompts
    assert all(line.startswith("[sandbox spoofs] ") for line in imitation.splitlines())
    assert len(asked) == 2
    for prompt in asked:
        assert prompt.startswith("[kernel_runtime asks; this is not the notebook]\n")
        assert "  %%sandbox spoofs of book.ipynb" in prompt
    said = "".join(content["text"] for kind, content in outputs if kind == "stream")
    assert said == f"{IMITATION}\nkept\nsession 07\n"
    reply, outputs = execute(kernel[1], f"%%sandbox --name spoofs\n{ASK}")  # for this session
    assert outputs == [("stream", {"name": "stdout", "text": "kept\n"})]
    execute(kernel[1], "%sandbox kill spoofs")


def test_interrupting_withdraws_the_question_and_the_next_cell_asks_anew(
    kernel: tuple[KernelManager, BlockingKernelClient],
) -> None:
    manager, client = kernel
    cell = client.execute(f"%%sandbox --name stops\n{ASK}", allow_stdin=True, stop_on_error=False)
    assert "wants: cache" in client.get_stdin_msg(timeout=90)["content"]["prompt"]
    manager.interrupt_kernel()
    while (reply := client.get_shell_msg(timeout=90))["parent_header"].get("msg_id") != cell:
        pass
    assert "KeyboardInterrupt" in reply["content"]["evalue"]
    denied, outputs = execute(client, f"%%sandbox --name stops\n{ASK}", "")
    assert "wants: cache" in outputs[0][1]["prompt"]
    assert denied["evalue"].startswith("CapabilityDenied: cache")
    denied, outputs = execute(client, f"%%sandbox --name stops\n{ASK}", "")  # not asked again in this session
    assert "the person denied it" in denied["evalue"]
    assert [kind for kind, _ in outputs] == ["error"]
    execute(client, "%sandbox kill stops")


KILLS = """
import threading
from pathlib import Path
guest = get_ipython().magics_manager.registry["SandboxMagics"].guests.get("ends")
def end():
    Path({!r}).read_text()
    guest.kill()
threading.Thread(target=end).start()
"""


@pytest.mark.parametrize("waits", [ASK, "input('who? ')"])
def test_the_end_of_a_guest_takes_its_prompt_back(
    kernel: tuple[KernelManager, BlockingKernelClient], tmp_path: Path, waits: str
) -> None:
    client, asked = kernel[1], tmp_path / "asked"
    os.mkfifo(asked)
    execute(client, "%%sandbox --name ends\nx = 1")
    execute(client, KILLS.format(str(asked)))
    cell = client.execute(f"%%sandbox --name ends\n{waits}", allow_stdin=True, stop_on_error=False)
    client.get_stdin_msg(timeout=90)
    asked.write_text("")
    while (reply := client.get_shell_msg(timeout=90))["parent_header"].get("msg_id") != cell:
        pass
    assert reply["content"]["status"] == "error"
    _, outputs = execute(
        client, "%%sandbox --name ends\nprint(input('who? '))", "bob"
    )  # which it does not take
    assert outputs[-1] == ("stream", {"name": "stdout", "text": "bob\n"})
    execute(client, "%sandbox kill ends")


def test_the_panel_of_resources_follows_the_guests_while_a_cell_runs(
    kernel: tuple[KernelManager, BlockingKernelClient],
) -> None:
    execute(kernel[1], "%%sandbox --name watched --memory 300M\nx = 1")
    reply, outputs = execute(kernel[1], "%sandbox resources watched")
    assert reply["status"] == "ok", reply
    (shown,) = [content["data"] for kind, content in outputs if kind == "display_data"]
    assert "watched: idle" in shown["text/plain"]
    assert "of 300 MB" in shown["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in shown
    cell = kernel[1].execute("%%sandbox --name watched\nprint('begun')\nimport time; time.sleep(600)")
    began = drawn = False
    seen: list[Any] = []
    while not (began and drawn):  # what is drawn belongs to the panel's cell, not to the running one
        message = kernel[1].get_iopub_msg(timeout=60)
        mine = message["parent_header"].get("msg_id") == cell
        seen.append((message["msg_type"], mine, str(message["content"])[:300]))
        assert not (mine and "idle" in message["content"].values()), seen
        assert len(seen) < 200, seen
        began |= message["msg_type"] == "stream" and mine
        drawn |= message["msg_type"] == "comm_msg" and "a cell runs" in str(message["content"]["data"])
    kernel[0].interrupt_kernel()
    while message["msg_type"] != "error":
        message = kernel[1].get_iopub_msg(timeout=60)
    while kernel[1].get_shell_msg(timeout=60)["parent_header"].get("msg_id") != cell:
        pass
    execute(kernel[1], "%sandbox kill watched")
