"""The broker: calls decided, performed and written down; questions folded; nothing hangs and nothing leaks."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.broker import prompting
from kernel_runtime.broker.broker import Broker, Caller
from kernel_runtime.broker.handler import Call, Demand, Performed
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import (
    CapabilityDenied,
    Invalid,
    KernelRuntimeError,
    NotFound,
    StorageFailed,
)
from kernel_runtime.domain.manifest import Anchors, parse_manifest, undeclared
from kernel_runtime.domain.policy import Policy, Source
from kernel_runtime.domain.rules import Effect, Layer, Rule, Span
from kernel_runtime.domain.scopes import parse_request, parse_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel_runtime.domain.question import Question
    from kernel_runtime.state import State

MANIFEST = """
id = "app"
name = "The app"
version = "1.0"
[[permissions]]
type = "net"
resource = "*.example.org"
reason = "prices of\\nthe week"
"""


class Handler:
    """``demand`` asks for the scopes that are named, ``raise`` raises, ``wait`` waits for ever."""

    name = "test"

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.closed = 0

    async def perform(self, call: Call, demand: Demand) -> Performed:
        self.begun += 1
        for scope in call.arguments.get("scopes", ()):
            await demand(Request(scope=parse_request(scope), principal="forged", session="forged"))
        if call.action == "crash":
            raise ZeroDivisionError("the-secret-value")
        if call.action == "refuse":
            raise NotFound("no the-secret-value here")
        if call.action == "wait":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        return Performed(value=call.arguments.get("give"), size=call.arguments.get("size", 0))

    async def close(self) -> None:
        self.closed += 1


class Person:
    """Answers from a list, and keeps what it was asked; ``None`` in ``gate`` means: at once."""

    def __init__(self, *answers: Span | None, gate: asyncio.Event | None = None) -> None:
        self.answers = list(answers)
        self.asked: list[Question] = []
        self.withdrawn = 0
        self._gate = gate

    async def answer(self, question: Question) -> Span | None:
        self.asked.append(question)
        try:
            if self._gate is not None:
                await self._gate.wait()
            else:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.withdrawn += 1
            raise
        return self.answers.pop(0)


def allowing(*scopes: str) -> Policy:
    rules = [Rule(effect=Effect.ALLOW, scope=parse_scope(scope), place="p:1") for scope in scopes]
    return Policy([Source(name="p", layer=Layer.USER, rules=tuple(rules))])


def broker(state: State, person: Any = None, *, policy: Policy | None = None, **options: Any) -> Broker:
    manifest = options.pop("manifest", None) or undeclared("app")
    gate = state.gate(manifest, policy or Policy(), headless=person is None)
    handler = options.pop("handler", None) or Handler()
    caller = Caller(principal="ann", session="s1")
    return Broker(gate, {"test": lambda: handler}, person, caller=caller, **options)


def ask(made: Broker, *scopes: str, action: str = "do", **arguments: Any) -> Any:
    return made.call("test", action, {"scopes": list(scopes), **arguments})


def written(state: State) -> list[tuple[str, str]]:
    return [(record.event, record.decision) for record in state.audit.records()]


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


def test_what_is_granted_is_performed_and_written_down(state: State) -> None:
    async def test() -> None:
        made = broker(state, policy=allowing("cache"))
        assert (await ask(made, "cache", give=7, size=100)).value == 7
        assert written(state) == [("decision", "allow"), ("performed", "allow")]
        record = list(state.audit.records())[-1]
        assert (record.bytes, record.principal, record.app) == (100, "ann", "app")
        assert (made.usage["test"].calls, made.usage["test"].bytes, made.usage["test"].errors) == (1, 100, 0)

    run(test)


def test_what_is_not_granted_says_what_to_ask_for(state: State) -> None:
    async def test() -> None:
        made = broker(state)
        with pytest.raises(CapabilityDenied, match=r"--allow net:api\.example\.org:443/GET"):
            await ask(made, "net:api.example.org/GET")
        assert written(state) == [("decision", "deny")]
        assert made.usage["test"].denied == 1

    run(test)


def test_a_handler_cannot_speak_for_another_principal(state: State) -> None:
    async def test() -> None:
        await ask(broker(state, policy=allowing("cache")), "cache")
        assert {record.principal for record in state.audit.records()} == {"ann"}

    run(test)


def test_a_crash_is_answered_without_what_it_says(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        made = broker(
            state, policy=allowing("cache"), redact=lambda text: text.replace("the-secret-value", "[secret]")
        )
        with pytest.raises(KernelRuntimeError, match="the host's handler failed") as caught:
            await ask(made, "cache", action="crash")
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert "ZeroDivisionError: [secret]" in capsys.readouterr().err
        with pytest.raises(NotFound, match=r"no \[secret\] here"):
            await ask(made, action="refuse")
        assert (await ask(made, give=1)).value == 1  # it goes on
        assert made.usage["test"].errors == 2
        assert "the-secret-value" not in repr(list(state.audit.records()))

    run(test)


def test_what_there_is_not_is_named(state: State) -> None:
    async def test() -> None:
        with pytest.raises(Invalid, match="there are test"):
            await broker(state).call("http", "request", {})

    run(test)


# -- the person --------------------------------------------------------------------------------------


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


# -- ends, and states that fail ------------------------------------------------------------------------


def test_cancelled_calls_are_stopped_and_written_down(state: State) -> None:
    async def test() -> None:
        handler = Handler()
        made = broker(state, policy=allowing("cache"), handler=handler)
        call = asyncio.ensure_future(ask(made, "cache", action="wait"))
        while handler.begun == 0:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert handler.cancelled == 1
        assert [record.reason for record in state.audit.records()][-1] == "cancelled"
        assert made.usage["test"].running == 0

    run(test)


def test_the_end_of_a_session_ends_all_calls(state: State) -> None:
    async def test() -> None:
        handler = Handler()
        closed: list[bool] = []
        made = broker(state, handler=handler, on_close=lambda: closed.append(True))
        calls = [asyncio.ensure_future(ask(made, action="wait")) for _ in range(20)]
        while handler.begun < 20:
            await asyncio.sleep(0)
        await made.close()
        await made.close()
        assert all(call.cancelled() for call in calls)
        assert (handler.cancelled, handler.closed, closed) == (20, 1, [True])
        with pytest.raises(KernelRuntimeError, match="being closed"):
            await ask(made)

    run(test)


def test_a_locked_database_is_waited_for_and_then_denies(state: State) -> None:
    async def test() -> None:
        made = broker(state, policy=allowing("cache"), patience=0.1)
        other = sqlite3.connect(state.directory / "state.db", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(CapabilityDenied, match="what cannot be written down is not allowed"):
                await ask(made, "cache")
            made._patience = 60.0
            waiting = asyncio.ensure_future(ask(made, "cache", give=1))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            other.execute("COMMIT")
            assert (await waiting).value == 1
        finally:
            other.close()

    run(test)


def test_what_was_done_and_cannot_be_written_down_is_not_given(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        made = broker(state, policy=allowing("cache"), patience=0.01)

        def full(*args: object, **options: object) -> None:
            raise StorageFailed("the disk is full")

        monkeypatch.setattr(made.gate, "performed", full)
        with pytest.raises(StorageFailed):
            await ask(made, "cache", give=1)

    run(test)


def test_a_descriptor_that_nobody_gets_is_closed(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    class Opener(Handler):
        async def perform(self, call: Call, demand: Demand) -> Performed:
            reading, writing = os.pipe()
            os.close(writing)
            self.opened = reading
            await super().perform(call, demand)
            return Performed(descriptors=(reading,))

    async def test() -> None:
        opener = Opener()
        made = broker(state, policy=allowing("cache"), handler=opener, patience=60.0)
        given = await ask(made, "cache")
        os.close(*given.descriptors)  # control: what is answered is whose it was answered to

        def locked(*args: object, **options: object) -> None:
            raise StorageFailed("locked")

        monkeypatch.setattr(made.gate, "performed", locked)
        call = asyncio.ensure_future(ask(made, "cache"))
        await asyncio.sleep(0)
        call.cancel()  # while it waits to be written down
        await asyncio.wait([call])
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(opener.opened)

    run(test)


def test_who_is_denied_again_and_again_waits(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel_runtime.broker.broker.DENIALS", 3)
    monkeypatch.setattr("kernel_runtime.broker.broker.DENIALS_A_SECOND", 0.001)

    async def test() -> None:
        made = broker(state, policy=allowing("cache"))
        for _ in range(5):  # what is allowed costs nothing
            assert (await ask(made, "cache", give=1)).value == 1
        for _ in range(3):
            with pytest.raises(CapabilityDenied):
                await ask(made, "clock")
        before = len(written(state))
        flood = [asyncio.ensure_future(ask(made, "clock")) for _ in range(50)]
        await asyncio.wait(flood, timeout=0.05)
        assert not any(one.done() for one in flood)
        assert len(written(state)) == before
        await made.close()
        assert all(one.cancelled() for one in flood)

    run(test)


def test_what_is_allowed_to_who_waits_is_not_paid_for(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel_runtime.broker.broker.DENIALS", 1)
    monkeypatch.setattr("kernel_runtime.broker.broker.DENIALS_A_SECOND", 20.0)

    async def test() -> None:
        made = broker(state, policy=allowing("cache"))
        with pytest.raises(CapabilityDenied):
            await ask(made, "clock")
        debt: list[float] = []
        for _ in range(3):
            await ask(made, "cache")
            debt.append(made._denials.wait(0.0))
        assert max(debt) < 2 / 20.0

    run(test)
