"""Calls from inside, against a host that the test plays: waited for, awaited, interrupted, restored."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime import wire
from kernel_runtime.domain import packed

if TYPE_CHECKING:
    from tests.guest.conftest import Host


def calls(host: Host, count: int = 1) -> list[wire.Call]:
    """The next calls of the guest; other frames are kept."""
    found: list[wire.Call] = []
    seen: list[Any] = []
    while len(found) < count:
        frames = host.until(lambda frame: isinstance(frame, wire.Call))
        seen += frames[:-1]
        found.append(frames[-1])
    host.frames[:0] = seen
    return found


def answer(host: Host, call: wire.Call, value: Any = None, **fields: Any) -> None:
    host.send(wire.Called(id=call.id, value=packed.pack_answer(value), **fields))


def test_a_call_waits_for_its_answer(shared: Host) -> None:
    name = shared.start("from kernel_runtime.sdk import storage\nstorage.get('x', default=7)")
    (call,) = calls(shared)
    assert (call.capability, call.action, call.parent) == ("storage", "get", name)
    assert packed.unpack(call.arguments) == {"key": "x"}
    answer(shared, call, {"found": False, "value": None})
    assert shared.finish(name).result == "7"


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("CapabilityDenied", "CapabilityDenied"),
        ("NotFound", "NotFound"),
        ("SystemExit", "KernelRuntimeError"),
    ],
)
def test_errors_come_out_as_what_they_are(shared: Host, error: str, raised: str) -> None:
    name = shared.start("from kernel_runtime.sdk import secrets\nsecrets.get('x')")
    (call,) = calls(shared)
    shared.send(wire.Called(id=call.id, error=error, text="ask for secret:x"))
    done = shared.finish(name)
    assert done.error == raised
    assert done.published("error")[0]["evalue"] == "ask for secret:x"


def test_many_calls_are_awaited_at_a_time(shared: Host) -> None:
    name = shared.start(
        "import asyncio\nfrom kernel_runtime.sdk import cache\n"
        "' '.join(await asyncio.gather(*(cache.aget(str(n)) for n in range(50))))"
    )
    found = calls(shared, 50)
    for call in reversed(found):
        answer(shared, call, {"found": True, "value": packed.unpack(call.arguments)["key"]})
    assert shared.finish(name).result == repr(" ".join(str(n) for n in range(50)))


def test_threads_wait_beside_the_cell(shared: Host) -> None:
    name = shared.start(
        "from concurrent.futures import ThreadPoolExecutor\nfrom kernel_runtime.sdk import cache\n"
        "with ThreadPoolExecutor(4) as pool:\n    print(sorted(pool.map(lambda n: cache.get(str(n)), range(8))))"
    )
    for _ in range(8):
        (call,) = calls(shared)
        answer(shared, call, {"found": True, "value": packed.unpack(call.arguments)["key"]})
    assert shared.finish(name).text() == f"{sorted(map(str, range(8)))}\n"


def test_only_beside_other_threads_it_looks_often_for_what_they_have_read(shared: Host) -> None:
    code = (
        "import threading\nfrom kernel_runtime.guest import asking, connection\n"
        "alone, go = asking._first_look(), threading.Event()\n"
        "thread = threading.Thread(target=go.wait)\nthread.start()\nbeside = asking._first_look()\n"
        "go.set(); thread.join()\n(alone == connection.ANSWER_POLL, beside)"
    )
    assert shared.run(code).result == "(True, 1)"


def test_a_loop_of_the_scripts_own_awaits_answers(shared: Host) -> None:
    name = shared.start(
        "import asyncio, threading\nfrom kernel_runtime.sdk import cache\n"
        "async def two(): return await asyncio.gather(cache.aget('a'), cache.aget('b'))\n"
        "thread = threading.Thread(target=lambda: print(asyncio.run(two())))\nthread.start(); thread.join()"
    )
    for call in calls(shared, 2):
        answer(shared, call, {"found": True, "value": packed.unpack(call.arguments)["key"]})
    assert shared.finish(name).text() == "['a', 'b']\n"


@pytest.mark.parametrize("code", ["secrets.get('x')", "await secrets.aget('x')"])
def test_ctrl_c_withdraws_the_call(shared: Host, code: str) -> None:
    name = shared.start(f"from kernel_runtime.sdk import secrets\n{code}")
    (call,) = calls(shared)
    shared.interrupt()
    frames = shared.until(lambda frame: isinstance(frame, wire.Withdraw))
    assert frames[-1].id == call.id
    assert shared.finish(name).error == "KeyboardInterrupt"
    answer(shared, call, "too late")
    assert shared.run("1 + 1").result == "2"


def test_a_descriptor_comes_with_its_answer_and_no_other(shared: Host) -> None:
    name = shared.start(
        "from kernel_runtime.sdk import files\n"
        "with files.open('/data/x.txt', 'rb') as file: print(file.read(), file.mode)\n"
        "files.read_text('/data/y.txt')"
    )
    for text in (b"first", b"second"):
        (call,) = calls(shared)
        assert packed.unpack(call.arguments)["mode"] == "r"
        read, write = os.pipe()
        os.write(write, text)
        os.close(write)
        frame = wire.Called(id=call.id, value=packed.pack_answer(None), descriptor=True)
        socket.send_fds(shared.sock, [wire.pack(frame)], [read])
        os.close(read)
    done = shared.finish(name)
    assert done.text() == "b'first' rb\n"
    assert done.result == "'second'"


def test_answers_that_nobody_asked_for_leave_nothing_open(shared: Host) -> None:
    count = "import os\nlen(os.listdir('/proc/self/fd'))"
    before = shared.run(count).result
    for number in (1, 10**6):
        read, write = os.pipe()
        frame = wire.Called(id=number, value=b"\xc0", descriptor=True)
        socket.send_fds(shared.sock, [wire.pack(frame)], [read])
        os.close(read)
        os.close(write)
    assert shared.run(count).result == before


def test_what_is_no_plain_data_never_leaves(shared: Host) -> None:
    done = shared.run("from kernel_runtime.sdk import storage\nstorage.set('x', object())")
    assert done.error == "Invalid"
    assert "only plain data" in done.published("error")[0]["evalue"]


def test_a_child_process_cannot_ask(shared: Host) -> None:
    done = shared.run(
        "import os\nfrom kernel_runtime.sdk import storage\nr, w = os.pipe()\n"
        "if os.fork() == 0:\n    try: storage.get('x')\n    except Exception as e: os.write(w, str(e).encode())\n"
        "    os._exit(0)\nos.wait(); os.read(r, 1000)"
    )
    assert "the host answers the guest's own process, and none that it starts" in (done.result or "")


def test_a_call_within_a_call_does_not_tear_it(shared: Host) -> None:
    """As a destructor or a handler of a signal would make it, in the middle of a send."""
    name = shared.start(
        "from kernel_runtime.sdk import door, storage\nconnection = door._Door.host._connection\nsend, said = connection.send, []\n"
        "def nested(frame, **options):\n"
        "    try: storage.get('inner')\n"
        "    except Exception as error: said.append(str(error))\n"
        "    del connection.send\n"
        "    send(frame, **options)\n"
        "connection.send = nested\n"
        "storage.get('outer'), said"
    )
    (call,) = calls(shared)
    assert packed.unpack(call.arguments) == {"key": "outer"}
    answer(shared, call, {"found": True, "value": 1})
    assert shared.finish(name).result == "(1, ['a call cannot be made from within another one'])"


def test_functions_show_what_they_take_and_give(shared: Host) -> None:
    done = shared.run(
        "import inspect\nfrom kernel_runtime.sdk import storage\n"
        "print(storage.get.__name__, inspect.signature(storage.get))\n"
        "print(storage.aget.__name__, inspect.iscoroutinefunction(storage.aget), storage.get.__doc__[:10])"
    )
    assert done.text() == "get (key: 'str', default: 'Any' = None) -> 'Any'\naget True The value \n"


def test_completion_offers_what_there_is_and_its_options(shared: Host) -> None:
    done = shared.run(
        "import inspect\nfrom kernel_runtime.sdk import http, log\n"
        "print(dir(http) == sorted(http.__all__), 'timeout' in inspect.signature(http.post).parameters)\n"
        "print(inspect.signature(log.info))"
    )
    assert done.text() == "True True\n(message: 'object', **fields: 'Any') -> 'None'\n"


def test_outside_a_guest_it_says_where_it_works() -> None:
    code = "from kernel_runtime.sdk import storage\ntry: storage.get('x')\nexcept Exception as e: print(type(e).__name__, e)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith(
        "Conflict kernel_runtime.sdk asks the host of a sandboxed guest, and this is none"
    )


def test_in_a_subprocess_it_says_who_may_ask(shared: Host) -> None:
    code = "from kernel_runtime.sdk import storage\ntry: storage.get('x')\nexcept Exception as e: print(type(e).__name__, e)"
    done = shared.run(
        f"import subprocess, sys\nprint(subprocess.check_output([sys.executable, '-c', {code!r}], text=True))"
    )
    assert done.text().startswith(
        "Conflict this is a subprocess of a sandboxed guest: the host answers the guest's own"
    )
