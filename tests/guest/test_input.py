"""input() and getpass(): the blocked guest answers, can be interrupted, and keeps other frames."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from kernel_runtime import wire

if TYPE_CHECKING:
    from tests.guest.conftest import Host


def asked(host: Host) -> wire.Ask:
    ask: wire.Ask = host.until(lambda f: isinstance(f, wire.Ask))[-1]
    return ask


def test_input_is_answered(shared: Host) -> None:
    name = shared.start("x = input('name? ')\nx")
    ask = asked(shared)
    assert (ask.parent, ask.prompt, ask.password) == (name, "name? ", False)
    shared.send(wire.Answer(id=ask.id, text="Ada"))
    assert shared.finish(name).result == "'Ada'"


def test_getpass_is_marked_as_password(shared: Host) -> None:
    name = shared.start("import getpass; getpass.getpass('secret: ')")
    ask = asked(shared)
    assert ask.password
    shared.send(wire.Answer(id=ask.id, text="s"))
    assert shared.finish(name).result == "'s'"


@pytest.mark.parametrize("text", ["\x04", None])
def test_end_of_input(shared: Host, text: str | None) -> None:
    name = shared.start("input()")
    shared.send(wire.Answer(id=asked(shared).id, text=text))
    assert shared.finish(name).error == "EOFError"


def test_interrupt_while_waiting(shared: Host) -> None:
    name = shared.start("input()")
    asked(shared)
    shared.interrupt()
    assert shared.finish(name).error == "KeyboardInterrupt"
    assert shared.run("1 + 1").result == "2"


@pytest.mark.parametrize("way", ["input('x')", "__import__('getpass').getpass('x')"])
@pytest.mark.parametrize("ended", ["KeyboardInterrupt", "EOFError"])
def test_how_a_line_is_waited_for_is_no_step_of_the_users(shared: Host, way: str, ended: str) -> None:
    name = shared.start(
        f"def ask():\n    {way}\ntry:\n    ask()\nexcept BaseException as error:\n    raise error"
    )
    ask = asked(shared)
    if ended == "EOFError":
        shared.send(wire.Answer(id=ask.id, text=None))
    else:
        shared.interrupt()
    done = shared.finish(name)
    assert done.error == ended
    assert f"----> 2     {way}" in done.traceback
    assert "File " not in done.traceback


def test_other_frames_are_kept_meanwhile(shared: Host) -> None:
    name = shared.start("input()")
    ask = asked(shared)
    later = shared.start("'later'")
    time.sleep(0.1)
    shared.send(wire.Answer(id=ask.id, text="now"))
    assert shared.finish(name).result == "'now'"
    assert shared.finish(later).result == "'later'"


def test_input_in_a_thread(shared: Host) -> None:
    name = shared.start(
        "import threading\ngot = []\nt = threading.Thread(target=lambda: got.append(input('t')))\n"
        "t.start(); t.join(); got"
    )
    shared.send(wire.Answer(id=asked(shared).id, text="threaded"))
    assert shared.finish(name).result == "['threaded']"


def test_no_stdin_is_an_error(shared: Host) -> None:
    assert shared.run("input()", allow_stdin=False).error == "StdinNotImplementedError"
