"""Handlers of other apps in guests of their own: their powers and not the caller's, deadlines, circles, every end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from kernel_runtime import callees
from kernel_runtime.callees import Callees, settings_for
from kernel_runtime.capabilities import broker_for
from kernel_runtime.client import AsyncSession
from kernel_runtime.domain.errors import (
    CallFailed,
    CapabilityDenied,
    Conflict,
    GuestCodeError,
    KernelRuntimeError,
    OutsideFailed,
)
from kernel_runtime.domain.rules import Span
from kernel_runtime.runtime import _announced
from kernel_runtime.state import State
from kernel_runtime.workers.launch import BARE
from tests.broker.calling import install, write
from tests.workers.called_apps import APPS, Front, ask, listed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kernel_runtime.domain.question import Question

SECRET, DOOR = "tok-SeCrEt-0123456789", "door-OpEn-9876543210"

#: Code, and how it fails.
REFUSED = (
    ("call('tight.add', {'a': 'x'})", "Invalid", "tight.add: the argument 'a': Expected `int`, got `str`"),
    ("call('bare.moment')", "CallFailed", "bare.moment: CapabilityDenied"),
    ("call('tight.ad')", "NotFound", "did you mean 'add'"),
    ("call('tight')", "Invalid", "write it like 'app.handler'"),
    ("call('../tight.add')", "Invalid", "$.app"),
    ("await acall('tight.add', {'a': object})", "Invalid", "only plain data"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("callees")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERNEL_RUNTIME_STATE", str(place / "state"))
        patch.setenv("XDG_CONFIG_HOME", str(place / "config"))
        patch.setenv("KERNEL_RUNTIME_MASTER_KEY", "A" * 43 + "=")
        patch.setenv("REGION", "north")
        with State() as state:
            state.vault().set("pin", SECRET.encode())
            state.vault().set("door", DOOR.encode())
        (place / "work").mkdir()
        install(place / "config", place / "apps", **APPS)
        rules = 'allow = ["call:*", "clock", "secret:pin", "secret:door", "events:publish:t"]\n'
        write(place / "config" / "kernel-runtime" / "policy.toml", rules)
        yield place


@pytest.fixture(scope="module")
def front(place: Path) -> Iterator[Front]:
    front = Front(place)
    yield front
    front.portal.call(front.runtime.close())
    front.portal.close()


# -- a guest of its own ----------------------------------------------------------------------------------


def test_each_call_has_a_fresh_guest_in_the_apps_own_directory(front: Front, place: Path) -> None:
    assert [front("tool.count"), front("tool.count")] == [1, 1]
    own = place / "apps" / "tool"
    cwd, listed = front("tool.where")
    assert (cwd, "written" in listed) == (str(own), True)
    assert not (own / "written").exists()


def test_the_called_app_has_its_own_powers_and_not_the_callers(front: Front) -> None:
    """What rules allow is had by who asks for it in a manifest; what the caller was given is the caller's."""
    assert front("tool.moment") is True
    with pytest.raises(CallFailed, match=r"CapabilityDenied: clock: .* does not ask for it"):
        front("bare.moment")

    async def test() -> None:
        broker = front.broker(allow=["env:REGION"])
        assert (await broker.call("env", "get", {"name": "REGION"})).value == "north"  # the control
        with pytest.raises(CallFailed, match="CapabilityDenied: env:REGION"):
            await ask(broker, "tool.region", {})
        await broker.close()

    front.portal.call(test())


def test_what_is_denied_to_the_caller_is_denied_to_whom_it_calls(front: Front) -> None:
    assert front.portal.call(front.ask("tool.on", {"app": "tight.add"}, deny=["clock"])) == 3  # the control
    with pytest.raises(CallFailed, match=r"CapabilityDenied: clock: .*--deny"):
        front.portal.call(front.ask("tool.moment", {}, deny=["clock"]))


def test_nobody_is_asked_for_a_called_app(front: Front) -> None:
    class Person:
        def __init__(self) -> None:
            self.asked: list[str] = []

        async def answer(self, question: Question) -> Span | None:
            self.asked.append(question.what)
            return Span.SESSION

    person = Person()
    with pytest.raises(CallFailed, match="CapabilityDenied: env:REGION"):
        front.portal.call(front.ask("tool.region", {}, person=person))
    assert person.asked == []


def test_a_call_that_is_denied_starts_nothing(front: Front) -> None:
    front("bare.one")  # the control
    calls = [home.calls for home in front.homes]
    with pytest.raises(CapabilityDenied):
        front.portal.call(front.ask("bare.one", {}, deny=["call:bare.one"]))
    assert [home.calls for home in front.homes] == calls


def test_the_called_app_lives_with_its_own_level_and_limits(front: Front) -> None:
    assert front("tight.add", a=1) == 3
    with pytest.raises(CallFailed, match=r"tight\.peek: (FileNotFound|Permission)Error"):
        front("tight.peek")
    with pytest.raises(CallFailed, match=r"tight\.fill: .*memory than its limit of 256"):
        front("tight.fill")


def test_an_app_lies_where_a_guest_may_look(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = listed(place).find("bare", "one")
    assert Callees()._home(entry).runtime.settings.workdir == entry.directory  # the control
    monkeypatch.setenv("HOME", entry.directory)
    with pytest.raises(CallFailed, match="where no guest may look"):
        Callees()._home(entry)


def test_only_what_an_app_depends_on_is_imported_beforehand(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KERNEL_RUNTIME_WARM")
    apps = listed(place)
    assert settings_for(apps.find("tight", "add")).warm == (*BARE, "pandas")
    assert settings_for(apps.find("bare", "one")).warm == BARE


def test_what_a_handler_tells_of_a_secret_is_taken_out(front: Front) -> None:
    with pytest.raises(CallFailed) as caught:
        front("tool.tell")
    assert str(caught.value) == "tool.tell: ValueError: with [secret pin]"


def test_both_sides_are_written_down(front: Front) -> None:
    front("tool.moment")
    with State() as state:
        records = list(state.audit.records())
    assert ("notebook", "call", "tool.moment") in {(r.app, r.capability, r.resource) for r in records}
    assert ("tool", "clock", "") in {(r.app, r.capability, r.resource) for r in records}


# -- what it says ----------------------------------------------------------------------------------------


def test_what_a_handler_prints_is_kept_as_that_apps_without_secrets(front: Front) -> None:
    """Those that it was given, and those that its caller was given and passes; the answer is free of them, too."""
    front.said("tool")

    async def test() -> Any:
        broker = front.broker()
        await broker.call("secrets", "get", {"name": "door"})
        answer = await ask(broker, "tool.chat", {"key": f"<{DOOR}>"})
        await ask(broker, "tool.named", {"name": DOOR})
        await broker.close()
        return answer

    assert front.portal.call(test()) == "<[secret door]>"
    said = front.said("tool")
    assert ("log", "info", "noted") in said
    assert ("stderr", "warning", "warned\n") in said
    printed = "".join(text for source, _, text in said if source == "stdout")
    for part in ("it is [secret pin] <[secret door]>", "from a program\n", "the end\n", "env:[secret door]"):
        assert part in printed
    with State() as state:
        kept = state.log_store("", sealed=False).records("tool")
        asked = [record.resource for record in state.audit.records() if record.app == "tool"]
    assert "[secret door]" in asked
    assert {"the end", "warned"} <= {line for record in kept for line in record.message.splitlines()}
    assert not [one for one in (*kept, *asked) if SECRET in str(one) or DOOR in str(one)]


def test_an_app_that_guesses_a_secret_of_its_callers_is_not_told_that_it_is_right(front: Front) -> None:
    """What its guest says is freed of what it was passed alone. The control is the test before."""

    async def test() -> None:
        broker = front.broker()
        await broker.call("secrets", "get", {"name": "door"})
        with pytest.raises(
            CallFailed, match=r"is it \[secret door\]$"
        ):  # its caller's own words are free of it
            await ask(broker, "tool.guess", {})
        await broker.close()

    front.said("tool")
    front.portal.call(test())
    assert f"ValueError: is it {DOOR}" in front.said("tool")[-1][2]


def test_the_traceback_of_a_handler_is_kept_and_its_caller_is_told_in_short(front: Front) -> None:
    front.said("tool")
    with pytest.raises(CallFailed, match=r"^tool\.fail: ValueError: no such tin$"):
        front("tool.fail", key="tin")
    (_, _, printed), (source, level, traceback) = front.said("tool")
    assert (printed, source, level) == ("before\n", "stderr", "error")
    assert 'raise ValueError("no such " + key)' in traceback
    assert "tool_app.py" in traceback
    assert "ValueError: no such tin" in traceback
    assert "serving.py" not in traceback, "how it was called is nobody's business"
    assert "\x1b" not in traceback


def test_the_language_of_strict_tells_where_a_handler_failed_too(front: Front) -> None:
    with pytest.raises(CallFailed, match=r"^tight\.divide: ZeroDivisionError"):
        front("tight.divide", a=1)
    assert "return a / 0" in front.said("tight")[-1][2]


def test_of_a_guest_that_is_ended_is_kept_what_it_has_said(front: Front) -> None:
    async def test() -> None:
        begun = front.commons.bus.subscribe("t")
        task = asyncio.ensure_future(front.ask("tool.talk_and_hang", {}))
        await begun.something(60.0)
        task.cancel()
        await asyncio.wait([task])

    front.said("tool")
    front.portal.call(test())
    assert front.said("tool") == [("stdout", "info", "begun")]


# -- calls within calls ----------------------------------------------------------------------------------


def test_apps_call_apps_and_never_in_a_circle(front: Front) -> None:
    assert front("back.back") == 1  # the control: back → tool → bare
    with pytest.raises(CallFailed, match="circle are refused: notebook → tool → back → tool"):
        front("tool.on", app="back.back")


def test_a_deadline_holds_for_calls_within(front: Front) -> None:
    """tool waits for back, which waits for tool in vain: nothing of them is left."""
    with pytest.raises(OutsideFailed, match=r"back\.hang did not answer within 2 s"):
        front("back.hang", timeout=2.0)
    assert front.settled() == 0


# -- every end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        ("leave", "exited with status 7"),
        ("crash", "crashed by SIGSEGV"),
        ("garbled", "answered what is none"),
        ("unsaid", "its guest left no answer"),
    ],
)
def test_a_guest_that_gives_no_answer_is_told(front: Front, handler: str, said: str) -> None:
    with pytest.raises(CallFailed, match=rf"^tool\.{handler}:? .*{said}"):
        front(f"tool.{handler}")
    assert front("tool.count") == 1  # the next one


def test_who_ignores_the_deadline_is_ended(front: Front) -> None:
    with pytest.raises(OutsideFailed, match=r"tool\.stubborn did not answer within 1 s"):
        front("tool.stubborn", timeout=1.0)
    assert front.settled() == 0


def test_a_caller_that_gives_up_ends_the_called_guest(front: Front) -> None:
    async def test() -> None:
        begun = front.commons.bus.subscribe("t")
        task = asyncio.ensure_future(front.ask("tool.stubborn", {}))
        await begun.something(60.0)
        assert begun.take()["messages"][0]["from"] == "tool"  # topics are the front's
        assert front.guests == 1
        (sessions,) = [home.runtime.sessions for home in front.homes if home.guests]
        process = psutil.Process(sessions[0].pid)
        task.cancel()
        await asyncio.wait([task])
        assert (task.cancelled(), front.guests) == (True, 0)
        assert sessions[0] not in _announced  # it would be listed as this front's own
        await asyncio.to_thread(process.wait, 60)

    front.portal.call(test())


# -- from within -----------------------------------------------------------------------------------------


def test_code_in_a_guest_calls_and_awaits(front: Front) -> None:
    async def test() -> None:
        session = AsyncSession()
        powers = front.powers(allow=["call:bare.*"])
        session._runtime = front.runtime
        session._session = front.runtime.open_session(
            broker=lambda asking, commons: broker_for(powers, asking.disclosed, commons)
        )
        code = "from kernel_runtime.sdk import acall, call\ncall('tight.add', {'a': 5}), await acall('tight.add', {'a': 1, 'b': 1})"
        assert (await session.run(code)).result == "(7, 2)"
        front.commons.said.records.clear()
        assert (await session.run("call('bare.speak')")).outputs == []
        assert [record.message for record in front.commons.said.records] == ["spoken\n"]  # the control
        for code, name, said in REFUSED:
            with pytest.raises(GuestCodeError) as caught:
                await session.run(code)
            assert (caught.value.ename, said in caught.value.evalue) == (name, True), caught.value.evalue
        await session.close()

    front.portal.call(test())


def test_outside_a_guest_there_is_nobody_to_call() -> None:
    from kernel_runtime.sdk import call

    with pytest.raises(KernelRuntimeError, match="asks the host of a sandboxed guest, and this is none"):
        call("tight.add", {"a": 1})


def test_called_guests_of_a_front_are_bounded(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    front("bare.one")  # the control
    monkeypatch.setattr(callees, "MOST_GUESTS", 0)
    with pytest.raises(Conflict, match="called apps run already"):
        front("bare.one")


def test_an_app_in_anothers_place_is_another_and_of_many_the_oldest_goes(
    front: Front, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callees, "MOST_KEPT", 1)
    own = place / "apps" / "bare"
    assert front("bare.one") == 1
    own.rename(place / "apps" / "before")
    write(own / "app.toml", (place / "apps" / "before" / "app.toml").read_text())
    write(own / "bare_app.py", "def one():\n    return 'another'\n")
    assert front("bare.one") == "another"
    assert (front.settled(), len(front.homes)) == (0, 1)


def test_with_the_front_the_zygotes_of_called_apps_end(front: Front) -> None:
    """The last of these tests: what it closes is all that they had."""
    front("bare.one")
    called = set(psutil.Process().children(recursive=True)) - front.others
    assert called  # the control: a zygote stays for the next call
    front.portal.call(front.runtime.close())
    gone, alive = psutil.wait_procs(called, timeout=60)
    assert (gone != [], alive) == (True, [])
