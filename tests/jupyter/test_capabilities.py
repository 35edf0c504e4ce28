"""Capabilities in a real kernel: what a person sees, is asked, and answers."""

from __future__ import annotations

import asyncio
import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker.commons import Commons
from kernel_runtime.broker.flow import as_it_goes
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.rules import Effect, Span
from kernel_runtime.domain.scopes import parse_request
from kernel_runtime.jupyter.kernel import broker_of
from kernel_runtime.jupyter.settings import resolve
from tests.jupyter.kernels import PATIENCE, REAL, Kernel, running, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASK = "from kernel_runtime.sdk import cache\ncache.set('x', 1)\nprint('kept', cache.get('x'))"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    place = tmp_path_factory.mktemp("state")
    env = {"KERNEL_RUNTIME_STATE": str(place), "XDG_CONFIG_HOME": str(place)}  # no server started it: no card
    with running(
        REAL, "--KernelRuntime.allow=clock;env:REGION", "--KernelRuntime.deny=process", env=env
    ) as one:
        yield one


def asked(kernel: Kernel) -> str:
    """The next prompt of whoever asks."""
    message: dict[str, Any] = kernel.kc.get_stdin_msg(timeout=PATIENCE)
    return str(message["content"]["prompt"])


def test_where_nobody_can_type_the_flag_is_named(kernel: Kernel) -> None:
    reply, _ = kernel.run(ASK, allow_stdin=False)
    assert reply["content"]["ename"] == "CapabilityDenied"
    assert "--allow cache grants it" in reply["content"]["evalue"]


def test_the_person_is_asked_by_the_front_and_their_answer_grants(kernel: Kernel) -> None:
    cell = kernel.kc.execute(
        "input('[kernel_runtime asks; this is not the notebook] once 11? ')\n" + ASK, allow_stdin=True
    )
    asked(kernel)  # the guest's imitation, answered as it asks
    kernel.kc.input("once 11")
    prompt = asked(kernel)
    assert "notebook wants: cache" in prompt
    number = re.search(r"session (\d\d)", prompt)
    assert number is not None
    kernel.kc.input(f"session {number[1]}")
    reply, outputs = kernel.finish(cell)
    assert reply["content"]["status"] == "ok", reply["content"]
    assert text_of(outputs) == "kept 1\n"
    reply, outputs = kernel.run(ASK, allow_stdin=False)  # for this session
    assert text_of(outputs) == "kept 1\n"


def test_interrupting_withdraws_the_question(kernel: Kernel) -> None:
    cell = kernel.kc.execute("from kernel_runtime.sdk import secrets\nsecrets.get('x')", allow_stdin=True)
    assert "secret:x" in asked(kernel)
    kernel.km.interrupt_kernel()
    assert kernel.finish(cell)[0]["content"]["ename"] == "KeyboardInterrupt"


def test_cap_shows_what_the_notebook_may_do(kernel: Kernel) -> None:
    _, outputs = kernel.run("%cap")
    (shown,) = [m["content"]["data"] for m in outputs if m["msg_type"] == "display_data"]
    text = shown["text/plain"]
    assert "notebook declares nothing: it may ask for anything" in text
    assert re.search(r"^granted +clock ", text, re.MULTILINE)
    assert re.search(r"^denied +process ", text, re.MULTILINE)
    assert "<td>env:REGION</td>" in shown["text/html"]


def cap(kernel: Kernel, word: str) -> list[str]:
    """The lines of %cap that speak of it."""
    _, outputs = kernel.run("%cap")
    (shown,) = [m["content"]["data"] for m in outputs if m["msg_type"] == "display_data"]
    return [line for line in str(shown["text/plain"]).splitlines() if word in line]


def test_cap_tells_what_came_of_the_answers(kernel: Kernel) -> None:
    said = []
    for word in ("once", "deny"):
        cell = kernel.kc.execute("from kernel_runtime.sdk import env\nenv.get('HOME')", allow_stdin=True)
        number = re.search(rf"{word} (\d\d)", asked(kernel))
        kernel.kc.input(f"{word} {number[1]}" if number else word)
        said.append((kernel.finish(cell)[0]["content"]["status"], cap(kernel, "env:HOME")))
    assert said[0] == ("ok", [])
    assert said[1][0] == "error"
    (line,) = said[1][1]
    assert re.match(r"denied +env:HOME +the person, for this session", line)
    (used,) = cap(kernel, "called in this session")
    assert re.search(r"env 2 times \([\d.]+ s, (\d+ \w+, )?1 denied\)", used), used


def again_after_always(monkeypatch: pytest.MonkeyPatch, place: Path, notebook: str) -> Effect:
    """What becomes of a request in a kernel's next life when "always" was said to it in the one before."""
    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(place / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))
    monkeypatch.setenv("JPY_SESSION_NAME", notebook)
    request = Request(scope=parse_request("cache"))

    async def life(span: Span | None) -> Effect:
        broker: Any = broker_of(resolve([], os.environ), Disclosed(), Commons(), time.time(), as_it_goes)
        ticket = broker.gate.ask(request)
        if span is not None:
            assert broker.gate.answer(ticket, span).decision.allowed
            assert broker.gate.ask(request).decision.allowed, "in this session it holds"
        await broker.close()
        return Effect(ticket.decision.effect)

    assert asyncio.run(life(Span.ALWAYS)) is Effect.ASK
    return asyncio.run(life(None))


def test_always_holds_for_a_notebook_that_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The classic notebook tells its kernel the directory alone: the next kernel there may be another's."""
    assert again_after_always(monkeypatch, tmp_path, f"{tmp_path}/mine.ipynb") is Effect.ALLOW
    assert again_after_always(monkeypatch, tmp_path, f"{tmp_path}/") is Effect.ASK
