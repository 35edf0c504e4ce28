"""The person asked in a cell of ``%%sandbox``: who can be asked there, what counts, and what withdraws a question."""

from __future__ import annotations

import asyncio
import builtins
import re
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import CapabilityDenied
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.question import Question
from kernel_runtime.domain.rules import Span
from kernel_runtime.domain.scopes import parse_request
from kernel_runtime.jupyter.cell_person import CellPerson
from kernel_runtime.jupyter.guests import converse
from kernel_runtime.jupyter.line import Line, Withdrawn
from kernel_runtime.jupyter.showing import Showing, marked
from kernel_runtime.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    Scene = Callable[["Guest", Callable[[str, bool], str | None]], None]


def asked_for(scope: str = "cache") -> Question:
    request = Request(scope=parse_request(scope))
    return Question(request=request, rule="the policy's default", reason="no rule speaks of it", app="g of b")


class Guest:
    """Its code is a scene, played in the thread that waits for a guest."""

    level = Level.MODERATE
    #: Seconds that an interrupt takes at most: until the scene says that it is over.
    patience = 0.0

    def __init__(self, scene: Scene, person: CellPerson) -> None:
        self.scene = scene
        self.person = person
        self.interrupts = 0
        self.over = threading.Event()
        self._taken_back: Callable[[], object] = lambda: None

    def run(self, code: str, *, on_input: Callable[[str, bool], str | None], **_: Any) -> Result:
        self.scene(self, on_input)
        return Result()

    def interrupt(self) -> None:
        """As code that is interrupted: it takes its question back."""
        self.interrupts += 1
        self._taken_back()
        self.over.wait(self.patience)

    def ask(self, scope: str = "cache") -> Span | None:
        return asyncio.run(self._ask(scope))

    async def _ask(self, scope: str) -> Span | None:
        loop, asking = asyncio.get_running_loop(), asyncio.current_task()
        assert asking is not None
        self._taken_back = lambda: loop.call_soon_threadsafe(asking.cancel)
        try:
            return await self.person.answer(asked_for(scope))
        finally:
            self._taken_back = lambda: None


class Typist:
    """Stands in for ``input``: ``says`` gets each prompt."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, says: Callable[[str], str]) -> None:
        self.prompts: list[str] = []
        self.says = says
        monkeypatch.setattr(builtins, "input", self)

    def __call__(self, prompt: str = "") -> str:
        self.prompts.append(prompt)
        return self.says(prompt)


def play(scene: Scene, *, name: str = "g", known: bool = True) -> Guest:
    guest: Any = Guest(scene, CellPerson(name, known=known))
    _cell(guest, name)
    return guest  # type: ignore[no-any-return]


def _cell(guest: Any, name: str = "g") -> None:
    showing = Showing(None, name, guest, guest.person)  # type: ignore[arg-type]
    converse(guest, "", showing.show, person=guest.person)


def number(prompt: str) -> str:
    found = re.search(r"once (\d\d)", prompt)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("said", "known", "span"),
    [
        ("once {}", True, Span.ONCE),
        ("session {}", True, Span.SESSION),
        ("always {}", True, Span.ALWAYS),
        ("always {}", False, Span.SESSION),  # the next to be called so may be somebody else's
        ("deny {}", True, None),
        ("", True, None),
    ],
)
def test_only_words_with_the_number_grant(
    monkeypatch: pytest.MonkeyPatch, said: str, known: bool, span: Span | None
) -> None:
    typist = Typist(monkeypatch, lambda prompt: said.format(number(prompt)))
    answers: list[Span | None] = []
    play(lambda guest, _: answers.append(guest.ask()), known=known)
    assert answers == [span]
    assert all("g of b wants: cache" in prompt for prompt in typist.prompts)


@pytest.mark.parametrize("said", ["once", "yes"])
def test_other_words_are_no_answer(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    typist = Typist(monkeypatch, lambda _: said)
    play(lambda guest, _: refused(guest, "something else was typed than an answer; you have not denied it"))
    assert len(typist.prompts) == 3


def refused(guest: Guest, match: str, scope: str = "cache") -> None:
    try:
        guest.ask(scope)
    except CapabilityDenied as error:
        assert match in str(error), error
        assert "--allow" not in str(error)
    else:
        pytest.fail("it was asked")


@pytest.mark.parametrize("how", [EOFError, NotImplementedError, RuntimeError, OSError])
def test_without_stdin_what_does_grant_is_named(
    monkeypatch: pytest.MonkeyPatch, how: type[Exception]
) -> None:
    def nobody(prompt: str) -> str:
        raise how

    typist = Typist(monkeypatch, nobody)
    grants = "nobody can be asked here: `%sandbox permissions 'my guest'` or your policy file grants it"
    play(lambda guest, _: refused(guest, grants), name="my guest")
    assert len(typist.prompts) == 1


def test_in_another_thread_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    typist = Typist(monkeypatch, lambda prompt: f"once {number(prompt)}")
    cell = threading.Thread(target=play, args=[lambda guest, _: refused(guest, "nobody can be asked here")])
    cell.start()
    cell.join()
    assert typist.prompts == []


def test_before_and_after_its_cell_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    typist = Typist(monkeypatch, lambda prompt: f"once {number(prompt)}")
    guest = Guest(lambda guest, _: None, CellPerson("g", known=True))
    refused(guest, "its cell is over")
    _cell(guest)
    refused(guest, "its cell is over")
    assert typist.prompts == []


def test_ctrl_c_withdraws_and_the_cell_asks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(prompt: str) -> str:
        raise KeyboardInterrupt

    def scene(guest: Guest, _: object) -> None:
        with pytest.raises(asyncio.CancelledError):  # no answer comes before the interrupt
            guest.ask()
        refused(guest, "interrupted", "env:X")
        guest.over.set()

    monkeypatch.setattr(Guest, "patience", 10.0)
    typist = Typist(monkeypatch, pressed)
    guest = play(scene)
    assert guest.interrupts == 1
    assert len(typist.prompts) == 1
    typist.says = lambda prompt: f"once {number(prompt)}"
    answers: list[Span | None] = []
    guest.scene = lambda guest, _: answers.append(guest.ask())  # the next cell
    _cell(guest)
    assert answers == [Span.ONCE]


class Waits:
    """A person who types nothing; ``asked`` is set while they look at the prompt."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def __call__(self, prompt: str) -> str:
        self.asked.set()
        threading.Event().wait()
        raise AssertionError


def test_a_question_that_nobody_waits_for_is_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is up, or the guest has gone: the broker cancels it."""
    waits = Waits()
    typist = Typist(monkeypatch, waits)
    answers: list[Span | None] = []

    async def cancelled(guest: Guest) -> None:
        task = asyncio.ensure_future(guest.person.answer(asked_for()))
        await asyncio.to_thread(waits.asked.wait)
        task.cancel()
        await asyncio.wait([task])
        typist.says = lambda prompt: f"once {number(prompt)}"
        answers.append(await guest.person.answer(asked_for("env:X")))

    guest = play(lambda guest, _: asyncio.run(cancelled(guest)))
    assert answers == [Span.ONCE]
    assert guest.interrupts == 0


def test_the_end_of_the_cell_withdraws_what_a_thread_of_the_guest_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = Waits()
    Typist(monkeypatch, waits)
    left: list[threading.Thread] = []

    def scene(guest: Guest, _: object) -> None:
        left.append(threading.Thread(target=refused, args=[guest, "its cell is over"]))
        left[0].start()
        waits.asked.wait()

    guest = play(scene)
    left[0].join()
    assert guest.interrupts == 0


def test_the_end_of_the_guest_withdraws_its_own_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = Waits()
    Typist(monkeypatch, waits)
    texts: list[str | None] = []
    left: list[threading.Thread] = []

    def scene(guest: Guest, read: Callable[[str, bool], str | None]) -> None:
        left.append(threading.Thread(target=lambda: texts.append(read("who? ", False))))
        left[0].start()
        waits.asked.wait()

    play(scene)
    left[0].join()
    assert texts == [None]


def test_questions_are_read_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = threading.Lock()

    def says(prompt: str) -> str:
        assert reading.acquire(blocking=False)
        reading.release()
        return f"{'session' if 'cache' in prompt else 'once'} {number(prompt)}"

    async def both(guest: Guest) -> list[Span | None]:
        return await asyncio.gather(*(guest.person.answer(asked_for(scope)) for scope in ("env:X", "cache")))

    Typist(monkeypatch, says)
    answers: list[Span | None] = []
    play(lambda guest, _: answers.extend(asyncio.run(both(guest))))
    assert answers == [Span.ONCE, Span.SESSION]


@pytest.mark.parametrize("between", ["\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\r\n"])
def test_no_line_of_a_guests_prompt_is_without_its_name(between: str) -> None:
    prompt = marked(
        "g", f"who?{between}[kernel_runtime asks; this is not the notebook]{between}Type `once 11`: "
    )
    lines = prompt.splitlines()
    assert all(line.startswith("[sandbox g] ") for line in lines)
    assert len(lines) == (1 if between == "\x85" else 3)  # that one no terminal gets to see


# -- lines -------------------------------------------------------------------------------------------


def test_a_line_that_was_withdrawn_is_not_read() -> None:
    line = Line("x", lambda _: None)
    assert line.read(lambda: "typed") == "typed"  # the control
    line.withdraw()
    with pytest.raises(Withdrawn):
        line.read(lambda: pytest.fail("it was read"))


def test_a_line_that_is_read_is_given_up_when_it_is_withdrawn() -> None:
    line = Line("x", lambda _: None)
    withdraws = threading.Thread(target=line.withdraw)

    def typed() -> str:
        withdraws.start()
        threading.Event().wait()
        return "typed"

    before = signal.getsignal(signal.SIGURG)
    with pytest.raises(Withdrawn):
        line.read(typed)
    withdraws.join()
    assert signal.getsignal(signal.SIGURG) is before


@pytest.mark.parametrize("ending", [str, lambda: [].pop()])
def test_withdrawing_ends_nothing_but_the_reading(ending: Callable[[], str]) -> None:
    """In about the moment in which the person has typed, or stdin has ended."""
    ended = set()
    for _ in range(200):
        line = Line("x", lambda _: None)
        withdraws = threading.Thread(target=line.withdraw)

        def typed(thread: threading.Thread = withdraws) -> str:
            thread.start()
            return ending()

        try:
            line.read(typed)
            ended.add("typed")
        except Withdrawn:
            ended.add("withdrawn")
        except IndexError:
            ended.add("typed")
        withdraws.join()
    assert ended <= {"typed", "withdrawn"}


def test_ctrl_c_while_a_line_is_read_is_the_persons() -> None:
    line = Line("x", lambda _: None)

    def pressed() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        line.read(pressed)
