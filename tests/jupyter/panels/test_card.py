"""The card that asks the person: what it says, who can answer, and what a flood comes to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kernel_runtime.broker.prompting import MAX_OPEN, Prompting
from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.domain.rules import Span
from kernel_runtime.domain.scopes import parse_request
from kernel_runtime.jupyter.panels import questions as rules
from kernel_runtime.jupyter.panels.asking import Asking
from kernel_runtime.jupyter.panels.questions import Questions, meaning
from tests.jupyter.panels.boards import HOSTILE, stage
from tests.jupyter.panels.guests import run, until
from tests.jupyter.persons import asked

CELL, NEXT = b'{"msg_id":"cell"}', b'{"msg_id":"next"}'


class FakePlace:
    """The cell that runs; remembers what was shown under it."""

    def __init__(self) -> None:
        self.cell: bytes | None = CELL
        self.shown: list[tuple[dict[str, Any], bytes]] = []

    def show(self, bundle: dict[str, Any], parent: bytes) -> None:
        self.shown.append((bundle, parent))


class Table:
    """A person with a card before them."""

    def __init__(self) -> None:
        self.stage, self.ear, self.comms = stage()
        self.place = FakePlace()
        self.person = Asking(self.stage, self.place)

    @property
    def card(self) -> Any:
        return self.person._card

    async def asks(self, *texts: str, **fields: Any) -> list[asyncio.Task[Span | None]]:
        """Questions under way, all of them on the card."""
        tasks = [asyncio.ensure_future(self.person.answer(asked(text, **fields))) for text in texts]
        return await self.shown(tasks)

    async def shown(self, tasks: list[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
        """Once the card shows what they ask."""
        await until(lambda: self.card is not None and self.card._shown is not None)
        for _ in range(3):
            await asyncio.sleep(0)
        return tasks

    async def armed(self) -> None:
        self.card._enable(False)


@pytest.mark.parametrize(
    ("name", "span"),
    [("once", Span.ONCE), ("session", Span.SESSION), ("always", Span.ALWAYS), ("deny", None)],
)
def test_each_button_is_an_answer(name, span):
    async def story():
        table = Table()
        (task,) = await table.asks("cache")
        await table.armed()
        getattr(table.card, name).click()
        assert await task is span
        assert "nothing is asked now" in table.card._body.value
        assert "cache was" in table.card._rest.value

    run(story)


def test_it_says_what_why_and_by_which_rule():
    async def story():
        table = Table()
        await table.asks(
            "net:api.example.org/GET", rule="ask net:*, policy.toml:3", reason="a rule wants it asked"
        )
        ((bundle, parent),) = table.place.shown
        assert parent == CELL, "under the cell that runs"
        html = bundle["text/html"]
        assert "wants to <bdi>send a GET request to api.example.org over the network</bdi>" in html
        assert (
            "The app’s own words, not checked by anybody:</small><div>“<bdi>to fetch forecasts</bdi>”" in html
        )
        assert "ask net:*, policy.toml:3" in html
        assert 'its own words: "to fetch forecasts"' in bundle["text/plain"]
        assert "denied in 3600 s if nobody answers" in table.card._count.value

    run(story)


def test_an_address_that_is_not_the_internet_is_warned_of():
    async def story():
        table = Table()
        await table.asks("net:169.254.169.254/GET")
        ((bundle, _),) = table.place.shown
        assert "<b>Beware:</b> 169.254.169.254 is a cloud&#x27;s metadata service" in bundle["text/html"]
        assert "beware: 169.254.169.254" in bundle["text/plain"]

    run(story)


def test_equal_questions_are_one_on_the_card_and_one_answer_is_for_all():
    async def story():
        table = Table()
        broker = Prompting(table.person)
        tasks = await table.shown([asyncio.ensure_future(broker.ask(asked("cache"))) for _ in range(40)])
        assert len(table.place.shown) == 1
        assert [each.question.what for each in table.person._questions.open] == ["cache"]
        await table.armed()
        table.card.once.click()
        assert [answer.span for answer in await asyncio.gather(*tasks)] == [Span.ONCE] * 40

    run(story)


def test_a_flood_is_one_card_with_a_list_and_a_bound():
    async def story():
        table = Table()
        broker = Prompting(table.person)
        flood = [asyncio.ensure_future(broker.ask(asked(f"secret:S{number}"))) for number in range(80)]
        tasks = await table.shown(flood)
        assert len(table.place.shown) == 1
        assert f"1 of {MAX_OPEN} questions" in table.card._body.value
        assert table.card._rest.value.count("<li>") == MAX_OPEN - 1
        table.card.deny_all.click()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answer.span for answer in answers[:MAX_OPEN]] == [None] * MAX_OPEN
        assert all(isinstance(answer, CapabilityDenied) for answer in answers[MAX_OPEN:])

    run(story)


def test_after_deny_all_this_cell_is_not_heard_any_more_and_the_next_one_is():
    async def story():
        table = Table()
        broker = Prompting(table.person)
        tasks = await table.asks("cache", "secret:S")
        table.card.deny_all.click()
        assert await asyncio.gather(*tasks) == [None, None]
        with pytest.raises(CapabilityDenied, match="denied all that this cell asks"):
            await broker.ask(asked("secret:ANOTHER"))
        assert "1 more were denied without asking you" in table.card._rest.value
        table.place.cell = NEXT
        asking = [asyncio.ensure_future(broker.ask(asked("secret:ANOTHER")))]
        (again,) = await table.shown(asking)  # what the person never saw is no denial of theirs
        assert table.place.shown[-1][1] == NEXT
        await table.armed()
        table.card.session.click()
        assert (await again).span is Span.SESSION

    run(story)


def test_what_was_denied_is_not_asked_again_in_any_cell_of_the_session():
    async def story():
        table = Table()
        broker = Prompting(table.person)
        (task,) = await table.shown([asyncio.ensure_future(broker.ask(asked("cache")))])
        table.card.deny.click()
        assert (await task).span is None
        for table.place.cell in (CELL, NEXT):
            with pytest.raises(CapabilityDenied, match="denied it in this session"):
                await broker.ask(asked("cache"))
        assert len(table.place.shown) == 1

    run(story)


def test_nobody_answers():
    async def story():
        table = Table()
        broker = Prompting(table.person, patience=1.0)
        (task,) = await table.shown([asyncio.ensure_future(broker.ask(asked("cache")))])
        with pytest.raises(CapabilityDenied, match="nobody answered"):
            await task
        assert "cache had no answer, so it was denied" in table.card._rest.value
        assert "nothing is asked now" in table.card._body.value

    run(story)


def test_where_nobody_can_be_asked_nothing_is_shown():
    async def story():
        table = Table()
        table.place.cell = None
        with pytest.raises(CapabilityDenied, match="nobody can be asked here: --allow cache grants it"):
            await table.person.answer(asked("cache"))
        assert not table.place.shown

    run(story)


def test_a_question_that_nobody_wants_any_more_goes():
    async def story():
        table = Table()
        first, second = await table.asks("cache", "secret:S")
        assert table.card._shown.question.what == "cache"
        first.cancel()
        await asyncio.wait([first])
        assert table.card._shown.question.what == "secret:S"
        second.cancel()

    run(story)


def test_allowing_is_armed_a_moment_after_the_question_has_changed():
    async def story():
        table = Table()
        first, second = await table.asks("cache", "secret:S")
        assert table.card.once.disabled
        table.card.once.click()
        assert not first.done(), "a click that was meant for something else does not hit"
        assert not table.card.deny.disabled, "denying is possible at once"
        await until(lambda: not table.card.once.disabled)
        table.card.once.click()
        assert await first is Span.ONCE
        assert table.card.once.disabled, "the next question is another one"
        table.card.once.click()
        assert not second.done()
        second.cancel()

    run(story)


def test_a_client_cannot_press_a_disabled_button():
    async def story():
        table = Table()
        (task,) = await table.asks("cache")
        table.card.once._handle_custom_msg({"event": "click"}, [])
        await asyncio.sleep(0)
        assert not task.done()
        await table.armed()
        table.card.once._handle_custom_msg({"event": "click"}, [])
        assert await task is Span.ONCE, "the control"

    run(story)


def test_old_cards_ask_nothing_and_only_so_many_stay(monkeypatch):
    monkeypatch.setattr("kernel_runtime.jupyter.panels.asking.MOST_CARDS", 2)

    async def story():
        table = Table()
        cards = []
        for number in range(4):
            table.place.cell = b'{"msg_id":"%d"}' % number
            (task,) = await table.asks("cache")
            cards.append(table.card)
            table.card.deny.click()
            await task
        assert [f"card {n}" for n in range(1, 5) if table.stage.panel(f"card {n}")] == ["card 3", "card 4"]
        assert cards[0]._shown is None
        assert "comm_close" in table.ear.kinds()

    run(story)


def test_words_of_the_app_are_only_text():
    async def story():
        table = Table()
        fields = {
            "app": HOSTILE,
            "version": HOSTILE,
            "rule": HOSTILE,
            "reason": HOSTILE,
            "why": (HOSTILE, HOSTILE),
        }
        first, *_ = await table.asks("cache", "secret:S", **fields)
        table.card.deny.click()
        await first
        told = [
            m["data"]["state"].get("value")
            for m in table.ear.contents("comm_open") + table.ear.contents("comm_msg")
        ]
        said = "".join([table.place.shown[0][0]["text/html"], *(v for v in told if isinstance(v, str))])
        assert "&lt;script&gt;" in said, "the words are there"
        assert "<script" not in said
        assert "<img" not in said
        assert "</bdi></td>" not in said

    run(story)


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ("net:api.example.org/POST", "send a POST request to api.example.org over the network"),
        ("files:write:/data/x", "write the file /data/x"),
        ("db:sales:read", "read from the database sales"),
        ("events:publish:news", "publish events of news"),
        ("secret:KEY", "use the secret KEY"),
        ("env:HOME", "read the environment variable HOME"),
        ("process", "start programs"),
        ("call:a.b", "call the handler a.b"),
    ],
)
def test_what_it_would_mean(scope, words):
    assert meaning(parse_request(scope)) == words


async def nothing() -> None:
    """No card is there."""


def test_the_rules_alone_bound_what_is_told():
    async def story():
        questions = Questions(lambda: None)
        for number in range(20):
            task = asyncio.ensure_future(questions.ask(asked(f"secret:S{number}"), nothing))
            await asyncio.sleep(0)
            questions.answer(questions.open[0], Span.ONCE)
            assert await task is Span.ONCE
        assert len(questions.told) == rules.MOST_TOLD

    run(story)
