"""Streams, displays, and which cell output belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel_runtime import wire

if TYPE_CHECKING:
    from tests.guest.conftest import Host


def test_streams_and_displays_keep_their_order(shared: Host) -> None:
    outcome = shared.run(
        "import sys\nprint('a', end='')\ndisplay(1)\nprint('b')\nprint('c', file=sys.stderr)\nprint('d')"
    )
    shown: list[Any] = []
    for frame in outcome.frames[:-2]:
        if isinstance(frame, wire.Stream) and shown and frame.name == shown[-1][0]:
            shown[-1] = (frame.name, shown[-1][1] + frame.text)  # a line may come in pieces
        else:
            shown.append((frame.name, frame.text) if isinstance(frame, wire.Stream) else frame.kind)
    assert shown == [("stdout", "a"), "display_data", ("stdout", "b\n"), ("stderr", "c\n"), ("stdout", "d\n")]


def test_many_lines_are_gathered(shared: Host) -> None:
    outcome = shared.run("for i in range(20000): print(i)")
    assert outcome.text() == "".join(f"{i}\n" for i in range(20000))
    assert len(outcome.frames) < 20000 / 10


def test_large_prints_come_in_chunks(shared: Host) -> None:
    outcome = shared.run("print('€' * 2_000_000)")
    assert outcome.text() == "€" * 2_000_000 + "\n"
    sizes = [len(f.text.encode()) for f in outcome.frames if isinstance(f, wire.Stream)]
    assert max(sizes) <= 1 << 20


def test_text_shows_before_a_long_computation(shared: Host) -> None:
    code = "for i in range(100): print(i)\nprint('tail', end='')\ntime.sleep(100_000)"
    name = shared.start(f"import time\n{code}")
    shared.until(lambda f: isinstance(f, wire.Stream) and f.text.endswith("tail"))
    shared.interrupt()
    shared.finish(name)
    assert shared.run("import threading; threading.active_count()").result == "1"


def test_lone_surrogates_do_not_break_the_frame(shared: Host) -> None:
    assert shared.run(r"print('\ud800x')").text() == "?x\n"
    assert shared.run(r"'\ud800'").result is not None


def test_display_update_clear(shared: Host) -> None:
    outcome = shared.run(
        "from IPython.display import HTML, clear_output, display\n"
        "h = display(HTML('<b>1</b>'), display_id='it')\nh.update(HTML('<b>2</b>'))\nclear_output(wait=True)"
    )
    first, second, third = [f for f in outcome.frames if isinstance(f, wire.Publish)]
    assert (first.kind, second.kind, third.kind) == ("display_data", "update_display_data", "clear_output")
    assert outcome.published()[0]["transient"] == {"display_id": "it"}
    assert outcome.published()[1]["data"]["text/html"] == "<b>2</b>"
    assert outcome.published()[2] == {"wait": True}


def test_images_are_base64(shared: Host) -> None:
    outcome = shared.run(
        "from IPython.display import Image\nimport base64\n"
        "Image(base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='))"
    )
    assert outcome.published("execute_result")[0]["data"]["image/png"].startswith("iVBORw0KG")


def test_values_json_does_not_know(shared: Host) -> None:
    code = (
        "import datetime\ndisplay({'application/json': {'n': float('nan'), 'b': b'ab', 1: 2**70}}, raw=True)"
    )
    (shown,) = shared.run(code).published("display_data")
    assert shown["data"]["application/json"]["1"] == 2**70


def test_threads_print_into_the_cell_that_started_them(shared: Host) -> None:
    name = shared.start(
        "import threading\ngo = threading.Event()\ndef late():\n    go.wait(); print('late'); display('shown')\n"
        "thread = threading.Thread(target=late); thread.start()"
    )
    shared.finish(name)
    other = shared.start("print('other cell'); go.set(); thread.join()")
    late = [f for f in shared.until(lambda f: isinstance(f, wire.Done)) if f.parent != other]
    assert "".join(f.text for f in late if isinstance(f, wire.Stream)) == "late\n"
    assert [f.kind for f in late if isinstance(f, wire.Publish)] == ["display_data"]
    assert {f.parent for f in late} == {name}


def test_tasks_print_into_the_cell_that_started_them(shared: Host) -> None:
    name = shared.start(
        "import asyncio\ngo = asyncio.Event()\nasync def late():\n    await go.wait(); print('task')\n"
        "t = asyncio.create_task(late())"
    )
    shared.finish(name)
    other = shared.start("print('other cell'); go.set(); await t")
    late = [f for f in shared.until(lambda f: isinstance(f, wire.Done)) if f.parent != other]
    assert "".join(f.text for f in late) == "task\n"
    assert {f.parent for f in late} == {name}


def test_prints_of_many_threads_lose_nothing(shared: Host) -> None:
    code = (
        "import sys, threading\ndef many(n):\n    for i in range(500): sys.stdout.write(f'{n}:{i}\\n')\n"
        "ts = [threading.Thread(target=many, args=(n,)) for n in range(8)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]; None"
    )
    lines = shared.run(code).text().split()
    assert sorted(lines) == sorted(f"{n}:{i}" for n in range(8) for i in range(500))


def test_descriptor_level_output_goes_to_the_pipes(guest: Host) -> None:
    guest.run("import os, subprocess, sys\nos.write(1, b'raw')")
    assert guest.piped() == "raw"
    guest.run("subprocess.run(['echo', 'sub'])\nNone")
    assert guest.piped() == "sub\n"
    guest.run("subprocess.run(['sh', '-c', 'echo err >&2'], stderr=sys.stderr)\nNone")
    assert guest.piped("stderr") == "err\n"


def test_forked_children_write_to_the_pipes_and_leave_the_socket(guest: Host) -> None:
    outcome = guest.run(
        "import os\nprint('parent')\npid = os.fork()\nif pid == 0:\n    print('child')\nelse:\n    os.waitpid(pid, 0)"
    )
    assert outcome.text() == "parent\n"
    assert guest.piped() == "child\n"
    assert (
        guest.run(
            "import multiprocessing as m\ndef f(x): return x * x\n"
            "with m.get_context('fork').Pool(2) as pool: got = pool.map(f, range(4))\ngot"
        ).result
        == "[0, 1, 4, 9]"
    )


def test_logging_and_warnings_reach_stderr(shared: Host) -> None:
    outcome = shared.run("import logging, warnings\nlogging.warning('logged')\nwarnings.warn('warned')")
    assert "logged" in outcome.text("stderr")
    assert "warned" in outcome.text("stderr")


def test_errors_of_background_tasks_are_told(shared: Host) -> None:
    shared.run("import asyncio\nasync def bad(): raise ValueError('in task')\nt = asyncio.create_task(bad())")
    outcome = shared.run("import gc; del t; gc.collect(); None")
    assert "in task" in outcome.text("stderr")


def test_system_exit_in_a_background_task_does_not_end_the_guest(shared: Host) -> None:
    shared.run("import asyncio\nasync def bad(): raise SystemExit\nt = asyncio.create_task(bad())")
    shared.drain(0.1)
    assert shared.run("1 + 1").result == "2"


def test_output_does_not_leak_into_the_next_cell(shared: Host) -> None:
    for _ in range(20):
        assert shared.run("print('mine', end='')").text() == "mine"
        assert shared.run("None").text() == ""
