"""The person asked through stdin: only an answer to this very question grants, whatever a guest does meanwhile."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kernel_runtime import wire
from kernel_runtime.broker.prompting import MAX_OPEN, Prompting
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.domain.question import Question
from kernel_runtime.domain.rules import Span
from kernel_runtime.domain.scopes import parse_request
from kernel_runtime.jupyter.asking import StdinPerson
from kernel_runtime.jupyter.messages import Scribe
from kernel_runtime.jupyter.prompts import Prompts
from kernel_runtime.jupyter.question_text import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.jupyter.messages import Message

QUESTION = Question(
    request=Request(scope=parse_request("net:api.example.org/GET")),
    rule="the policy's default",
    reason="no rule speaks of it",
    app="analysis",
    version="1.0",
    why=("prices \x1b[2J[kernel_runtime asks; this is not the notebook]",),
)


class Client:
    """One client of the front: sees prompts, answers them with or without naming the one it means."""

    def __init__(self) -> None:
        self.scribe = Scribe(b"key", "hmac-sha256")
        self.sent: list[list[bytes]] = []
        self.guest: list[wire.Answer] = []
        self.prompts = Prompts(self.scribe, self.sent.append, self.guest.append)
        self.person = StdinPerson()
        self.person.prompts = self.prompts

    def cell(self, *, allow_stdin: bool = True) -> Message:
        content = {"code": "x", "allow_stdin": allow_stdin}
        return self._message("execute_request", content)

    def type(self, text: str) -> None:
        self.prompts.reply(self._message("input_reply", {"value": text}))

    def _message(self, kind: str, content: dict[str, Any]) -> Message:
        parts = self.scribe.write(kind, json.dumps(content).encode(), b"{}")
        return self.scribe.read([b"client", *parts])

    @property
    def shown(self) -> list[str]:
        return [json.loads(parts[-1])["prompt"] for parts in self.sent]

    async def until_shown(self, count: int) -> str:
        while len(self.sent) < count:
            await asyncio.sleep(0)
        return self.shown[-1]


def number(prompt: str) -> str:
    found = re.search(r"once (\d\d)", prompt)
    assert found is not None
    return found[1]


def run(test: Callable[[Client, asyncio.Task[Span | None]], Any], **cell: Any) -> None:
    async def within() -> None:
        client = Client()
        client.person.running = client.cell(**cell)
        answer = asyncio.ensure_future(client.person.answer(QUESTION))
        await test(client, answer)
        answer.cancel()
        await asyncio.wait([answer])

    asyncio.run(within())


@pytest.mark.parametrize("span", list(Span))
def test_an_answer_with_its_number_grants(span: Span) -> None:
    async def test(client: Client, answer: asyncio.Task[Span | None]) -> None:
        client.type(f"{span.upper()} {number(await client.until_shown(1))} ")
        assert await answer is span

    run(test)


@pytest.mark.parametrize("said", ["", "n", "deny", "DENY {number}"])
def test_a_person_denies_by_saying_nothing(said: str) -> None:
    async def test(client: Client, answer: asyncio.Task[Span | None]) -> None:
        prompt = await client.until_shown(1)
        client.type(said.format(number=number(prompt)))
        assert await answer is None

    run(test)


def test_words_meant_for_the_guest_grant_nothing() -> None:
    """Typed ahead, or an answer to the guest's own prompt that went astray: without the number it counts for nothing."""

    async def test(client: Client, answer: asyncio.Task[Span | None]) -> None:
        for attempt, said in enumerate(
            ("once", "y", f"always {(int(number(await client.until_shown(1))) + 1) % 100}"), 1
        ):
            await client.until_shown(attempt)
            assert not answer.done()
            client.type(said)
        with pytest.raises(CapabilityDenied, match="you have not denied it: run it again"):
            await answer
        assert "what you typed is no answer here" in client.shown[2]

    run(test)


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("net:169.254.169.254/GET", "169.254.169.254 is a cloud's metadata service, not the open internet"),
        ("net:[::1]:80/GET", "::1 is this machine itself, not the open internet"),
        ("net:10.0.0.1/GET", "10.0.0.1 is a private network, not the open internet"),
        ("net:9.9.9.9/GET", ""),
        ("net:api.example.org/GET", ""),
        ("env:HOME", ""),
    ],
)
def test_an_address_that_is_not_the_internet_carries_a_warning(scope: str, said: str) -> None:
    question = msgspec.structs.replace(QUESTION, request=Request(scope=parse_request(scope)))
    assert question.warning == said
    assert ("BEWARE" in shown(question, "47")) is bool(said)


def test_the_question_is_the_fronts_and_quotes_the_app() -> None:
    text = shown(QUESTION, "47")
    first, *rest = text.splitlines()
    assert first == "[kernel_runtime asks; this is not the notebook]"
    assert "net:api.example.org:443/GET" in text
    assert "\x1b" not in text
    assert [line for line in rest if line.startswith("[kernel_runtime")] == []  # what it says stays quoted
    assert text.endswith(
        "Type `once 47`, `session 47` or `always 47` to allow it; `deny 47` or nothing, to deny: "
    )


def test_a_guests_prompt_comes_first_and_is_answered_by_itself() -> None:
    async def test(client: Client, answer: asyncio.Task[Span | None]) -> None:
        answer.cancel()
        cell = client.cell()
        client.prompts.ask(wire.Ask(id="a", parent=cell.id, prompt="type once: ", password=False), cell)
        client.person.running = cell
        asked = asyncio.ensure_future(client.person.answer(QUESTION))
        for _ in range(5):
            await asyncio.sleep(0)
        shown_before = len(client.sent)
        client.type("once")
        prompt = await client.until_shown(shown_before + 1)
        assert [a.text for a in client.guest] == ["once"]
        assert not asked.done()
        client.prompts.ask(wire.Ask(id="b", parent=cell.id, prompt="type the number: ", password=False), cell)
        assert client.guest[-1].text is None  # refused while the front asks
        client.type(f"once {number(prompt)}")
        assert await asked is Span.ONCE
        assert len(client.guest) == 2

    run(test)


def test_where_nobody_can_type_the_flag_is_named() -> None:
    async def test(client: Client, answer: asyncio.Task[Span | None]) -> None:
        with pytest.raises(CapabilityDenied, match=r"--allow net:api\.example\.org:443/GET grants it"):
            await answer
        client.person.running = None
        with pytest.raises(CapabilityDenied, match="nobody can be asked"):
            await client.person.answer(QUESTION)

    run(test, allow_stdin=False)


def test_the_end_of_the_cell_ends_the_question() -> None:
    async def test(client: Client, answer: asyncio.Task[Span | None]) -> None:
        await client.until_shown(1)
        assert client.person.running is not None
        client.prompts.withdraw(client.person.running.id)
        with pytest.raises(CapabilityDenied, match="the cell ended"):
            await answer

    run(test)


# -- many questions, folded by the broker ------------------------------------------------------------


async def _asked(broker: Prompting, scope: str) -> Span | None:
    question = msgspec.structs.replace(QUESTION, request=Request(scope=parse_request(scope)))
    return (await broker.ask(question)).span


def flooded(test: Callable[[Client, Prompting], Any]) -> None:
    async def within() -> None:
        client = Client()
        client.person.running = client.cell()
        broker = Prompting(client.person)
        await test(client, broker)
        broker.close()

    asyncio.run(within())


def test_a_flood_of_equal_questions_is_one_prompt_and_one_answer() -> None:
    async def test(client: Client, broker: Prompting) -> None:
        asking = [asyncio.ensure_future(_asked(broker, "cache")) for _ in range(200)]
        client.type(f"session {number(await client.until_shown(1))}")
        assert await asyncio.gather(*asking) == [Span.SESSION] * 200
        assert len(client.sent) == 1

    flooded(test)


def test_a_flood_of_different_questions_is_cut_to_a_few_prompts_one_at_a_time() -> None:
    async def test(client: Client, broker: Prompting) -> None:
        asking = [asyncio.ensure_future(_asked(broker, f"env:V{each}")) for each in range(200)]
        for count in range(1, MAX_OPEN + 1):
            assert f"env:V{count - 1}" in await client.until_shown(count)
            client.type("")
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert answers[:MAX_OPEN] == [None] * MAX_OPEN
        assert all(isinstance(answer, CapabilityDenied) for answer in answers[MAX_OPEN:])
        assert len(client.sent) == MAX_OPEN

    flooded(test)


def test_a_denial_holds_in_every_cell_of_the_session() -> None:
    async def test(client: Client, broker: Prompting) -> None:
        asking = asyncio.ensure_future(_asked(broker, "cache"))
        await client.until_shown(1)
        client.type("n")
        assert await asking is None
        client.person.running = client.cell()
        with pytest.raises(CapabilityDenied, match="denied it in this session"):
            await _asked(broker, "cache")
        assert len(client.sent) == 1

    flooded(test)
