"""The person who is asked: questions told in full, folded, bounded and withdrawn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.broker import prompting
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.domain.manifest import Anchors, parse_manifest
from kernel_runtime.domain.question import Unanswered
from kernel_runtime.domain.rules import Span
from kernel_runtime.domain.scopes import parse_request, parse_scope
from tests.broker.asking import MANIFEST, Person, ask, broker, run, written

if TYPE_CHECKING:
    from kernel_runtime.domain.question import Question
    from kernel_runtime.state import State


def test_the_person_sees_what_why_and_which_rule(state: State) -> None:
    async def test() -> None:
        person = Person(Span.ONCE)
        manifest = parse_manifest(MANIFEST, "app.toml", Anchors())
        await ask(broker(state, person, manifest=manifest), "net:api.example.org/GET")
        (question,) = person.asked
        assert question.what == "net:api.example.org:443/GET"
        assert (question.app, question.version, question.why) == ("The app", "1.0", ("prices of the week",))
        assert question.rule == "the policy's default"

    run(test)


@pytest.mark.parametrize(("span", "asked"), [(Span.ONCE, 3), (Span.SESSION, 1), (Span.ALWAYS, 1)])
def test_an_answer_holds_as_long_as_was_said(state: State, span: Span, asked: int) -> None:
    async def test() -> None:
        person = Person(*[span] * 3)
        made = broker(state, person)
        for _ in range(3):
            await ask(made, "cache")
        assert len(person.asked) == asked
        assert state.audit.verify().troubles == ()

    run(test)


def test_always_is_remembered_for_this_version_alone(state: State) -> None:
    async def test() -> None:
        first = parse_manifest(MANIFEST, "app.toml", Anchors())
        await ask(broker(state, Person(Span.ALWAYS), manifest=first), "net:api.example.org/GET")
        again = broker(state, Person(), manifest=first)
        again.gate.recall()
        await ask(again, "net:api.example.org/GET")
        other = parse_manifest(MANIFEST.replace("1.0", "1.1"), "app.toml", Anchors())
        changed = broker(state, manifest=other)
        changed.gate.recall()
        with pytest.raises(CapabilityDenied):
            await ask(changed, "net:api.example.org/GET")
        assert await again.revoke(parse_request("net:api.example.org/GET")) == 1
        later = broker(state, manifest=first)
        later.gate.recall()
        with pytest.raises(CapabilityDenied):
            await ask(later, "net:api.example.org/GET")

    run(test)


def test_a_denial_holds_for_the_session(state: State) -> None:
    async def test() -> None:
        person = Person(None)
        made = broker(state, person)
        for _ in range(3):
            with pytest.raises(CapabilityDenied):
                await ask(made, "cache")
        assert len(person.asked) == 1
        made.gate.grant(Request(scope=parse_scope("cache"), principal="ann", session="s1"), Span.SESSION)
        await ask(made, "cache")  # the person may change their mind

    run(test)


class _Odd:
    """A front whose code returns, or raises, something else."""

    def __init__(self, said: object) -> None:
        self.said = said

    async def answer(self, question: Question) -> Span | None:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said  # type: ignore[return-value]


@pytest.mark.parametrize(
    "said",
    ["deny", "no", "once", "always", "", True, False, 0, 1, {}, [Span.ONCE], ValueError("lost")],
    ids=repr,
)
def test_what_is_no_answer_grants_nothing(state: State, said: object) -> None:
    async def test() -> None:
        made = broker(state, _Odd(said))
        for _ in range(2):
            with pytest.raises(CapabilityDenied, match="cache: the person could not be asked"):
                await ask(made, "cache")
        assert not list(made.gate.grants)
        assert "answered" not in [event for event, _ in written(state)]
        control = broker(state, _Odd(Span.SESSION))
        await ask(control, "cache")

    run(test)


def test_what_was_asked_in_vain_counts_towards_the_flood(state: State) -> None:
    async def test() -> None:
        made = broker(state, _Odd(Unanswered("cache: something else was typed")))
        said = []
        for _ in range(prompting.BURST + 1):
            with pytest.raises(CapabilityDenied) as caught:
                await ask(made, "cache")
            said.append(str(caught.value))
        assert "asks too much" not in said[-2]
        assert "asks too much" in said[-1]

    run(test)


def test_equal_questions_are_one(state: State) -> None:
    async def test() -> None:
        gate = asyncio.Event()
        person = Person(Span.SESSION, gate=gate)
        made = broker(state, person)
        calls = [asyncio.ensure_future(ask(made, "cache", give=n)) for n in range(50)]
        while not person.asked:
            await asyncio.sleep(0)
        gate.set()
        assert [done.value for done in await asyncio.gather(*calls)] == list(range(50))
        assert len(person.asked) == 1
        assert [event for event, _ in written(state)].count("answered") == 1

    run(test)


def test_once_is_one_of_many_that_ask_at_a_time(state: State) -> None:
    async def test() -> None:
        person = Person(Span.ONCE, None)
        made = broker(state, person)
        results = await asyncio.gather(*(ask(made, "cache") for _ in range(5)), return_exceptions=True)
        assert [isinstance(result, CapabilityDenied) for result in results].count(True) == 4
        assert len(person.asked) == 2

    run(test)


def test_a_flood_of_questions_is_cut(state: State) -> None:
    async def test() -> None:
        gate = asyncio.Event()
        person = Person(gate=gate)
        made = broker(state, person)
        calls = [asyncio.ensure_future(ask(made, f"env:V{number}")) for number in range(200)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 200 - prompting.MAX_OPEN:
            done, waiting = await asyncio.wait(calls, timeout=1, return_when=asyncio.ALL_COMPLETED)
        assert len(waiting) == len(person.asked) == prompting.MAX_OPEN
        (told,) = {str(call.exception()).partition(": ")[2].partition("(--allow")[0] for call in done}
        assert f"{prompting.MAX_OPEN} of its questions wait for you already" in told
        assert "answer those and run it again" in told
        await made.close()
        assert person.withdrawn == prompting.MAX_OPEN

    run(test)


def test_questions_one_after_the_other_are_cut_too(state: State) -> None:
    async def test() -> None:
        person = Person(*[None] * 1000)
        made = broker(state, person)
        for number in range(100):
            with pytest.raises(CapabilityDenied):
                await ask(made, f"env:V{number}")
        assert len(person.asked) < 2 * prompting.BURST
        with pytest.raises(CapabilityDenied) as caught:
            await ask(made, "env:LAST")
        told = str(caught.value)
        assert told.startswith(
            "env:LAST: the code of this session asks too much, so you were not asked for this"
        )
        assert f"asked you {prompting.BURST} times" in told
        assert "run it again" in told
        assert "--allow env:LAST" in told

    run(test)


def test_where_nobody_can_be_asked_each_denial_says_so(state: State) -> None:
    """Nobody was bothered: however many there are, none of them is a flood of questions."""

    class Nobody:
        async def answer(self, question: Question) -> Span | None:
            raise CapabilityDenied(f"{question.what}: nobody can be asked here")

    async def test() -> None:
        made = broker(state, Nobody())
        for number in range(3 * prompting.BURST):
            with pytest.raises(CapabilityDenied, match="nobody can be asked here"):
                await ask(made, f"env:V{number}")

    run(test)


def test_nobody_waits_for_ever_for_a_person(state: State) -> None:
    async def test() -> None:
        person = Person(gate=asyncio.Event())
        made = broker(state, person)
        made.prompting = prompting.Prompting(person, patience=0.01)
        for _ in range(2):  # a silence is no denial: it is asked again
            with pytest.raises(CapabilityDenied, match="nobody answered"):
                await ask(made, "cache")
        assert person.withdrawn == 2
        assert {question.seconds for question in person.asked} == {0.01}

    run(test)


def test_a_question_is_withdrawn_with_the_last_who_waits(state: State) -> None:
    async def test() -> None:
        person = Person(gate=asyncio.Event())
        made = broker(state, person)
        calls = [asyncio.ensure_future(ask(made, "cache")) for _ in range(2)]
        while not person.asked:
            await asyncio.sleep(0)
        calls[0].cancel()
        await asyncio.wait([calls[0]])
        assert person.withdrawn == 0
        calls[1].cancel()
        await asyncio.wait([calls[1]])
        await asyncio.sleep(0)
        assert person.withdrawn == 1

    run(test)
