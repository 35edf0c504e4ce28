"""Capabilities through whole sessions: sdk, wall, broker, store, and back."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest

import kernel_runtime
from kernel_runtime.domain.errors import Conflict, GuestCodeError, GuestLost, Invalid
from kernel_runtime.domain.rules import Span
from kernel_runtime.state import State
from tests.broker.outside import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kernel_runtime.domain.question import Question

    Open = Callable[..., kernel_runtime.Session]

SECRET = "tok-SeCrEt-0123456789"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state of this module's own, with a secret in it."""
    place = tmp_path_factory.mktemp("capabilities")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERNEL_RUNTIME_STATE", str(place / "state"))
        patch.setenv("XDG_CONFIG_HOME", str(place / "config"))
        patch.setenv("KERNEL_RUNTIME_MASTER_KEY", "A" * 43 + "=")
        patch.setenv("REGION", "north")
        (place / "shelf").mkdir()
        with State() as state:
            state.vault().set("api-token", SECRET.encode())
        yield place


class Person:
    def __init__(self, *answers: Span | None) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def answer(self, question: Question) -> Span | None:
        self.asked.append(question.what)
        return self.answers.pop(0)


@pytest.fixture(scope="module")
def granted(place: Path, directory: Path) -> Iterator[kernel_runtime.Session]:
    """One session for the tests that leave it healthy."""
    with kernel_runtime.Session(
        workdir=directory,
        memory="512M",
        name="granted",
        allow=[
            *("cache", "secret:*", "events:publish:t", "events:subscribe:t", "clock", "env:REGION"),
            *(f"files:{way}:{place}/shelf/**" for way in ("read", "write")),
        ],
        deny=["secret:other"],
    ) as session:
        yield session


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("work")
    path.chmod(0o755)
    return path


def test_nothing_is_opened_before_something_is_asked(place: Path, open_session: Open, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERNEL_RUNTIME_STATE", str(tmp_path / "state"))
        session = open_session()
        session.run("1 + 1")
        assert not (tmp_path / "state").exists()
        session.run("from kernel_runtime.sdk import log; log.info('x')")
        assert (tmp_path / "state").exists()


def test_an_app_keeps_and_finds_and_caches(granted: kernel_runtime.Session) -> None:
    done = granted.run(
        "from kernel_runtime.sdk import storage, cache, log, events\n"
        "storage.set('x', {'a': [1, b'2']})\ncache.set('y', 3, ttl=60)\nlog.info('hello', n=1)\n"
        "with events.subscribe('t') as heard:\n    events.publish('t', 5)\n    print(next(heard).data)\n"
        "print(storage.get('x'), await cache.aget('y'), storage.keys())"
    )
    assert done.stdout == "5\n{'a': [1, b'2']} 3 ['x']\n"


def test_files_of_the_host_are_written_read_listed_and_removed(
    granted: kernel_runtime.Session, place: Path
) -> None:
    shelf = place / "shelf"
    done = granted.run(
        f"from kernel_runtime.sdk import files\nplace = {str(shelf)!r}\n"
        "files.write_text(place + '/a.txt', 'one ')\nfiles.write_bytes(place + '/a.txt', b'two', append=True)\n"
        "with files.open(place + '/a.txt', 'rb') as file: print(file.read())\n"
        "print(files.read_text(place + '/a.txt'), files.listdir(place), files.stat(place + '/a.txt')['size'])"
    )
    assert done.stdout == "b'one two'\none two ['a.txt'] 7\n"
    assert (shelf / "a.txt").read_text() == "one two"
    with pytest.raises(GuestCodeError, match="open is for reading"):
        granted.run("files.open(place + '/a.txt', 'w')")
    granted.run("files.remove(place + '/a.txt')")
    assert list(shelf.iterdir()) == []


def test_time_and_single_variables_of_the_host(granted: kernel_runtime.Session) -> None:
    done = granted.run(
        "import time\nfrom kernel_runtime.sdk import clock, env\n"
        "print(env.get('REGION'), abs(clock.now().timestamp() - time.time()) < 600, (await clock.anow()).tzinfo is not None)"
    )
    assert done.stdout == "north True True\n"
    with pytest.raises(GuestCodeError, match="--allow env:HOME grants it"):
        granted.run("env.get('HOME')")


def test_headless_denials_name_the_flag(granted: kernel_runtime.Session) -> None:
    for code, flag in (
        ("from kernel_runtime.sdk import secrets; secrets.get('other')", "--deny"),
        ("from kernel_runtime.sdk import events; events.publish('u', 1)", "--allow events:publish:u"),
    ):
        with pytest.raises(GuestCodeError) as caught:
            granted.run(code)
        assert (caught.value.ename, flag in caught.value.evalue) == ("CapabilityDenied", True)


def test_an_error_of_the_sdk_ends_where_the_cell_asked(granted: kernel_runtime.Session) -> None:
    """How the sdk asks is no step of the user's, whether it is waited for or awaited."""
    for asked in ("events.publish('elsewhere', 1)", "await events.apublish('elsewhere', 1)"):
        error = granted.run(f"from kernel_runtime.sdk import events\n{asked}", check=False).error
        assert error is not None
        text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
        assert error.ename == "CapabilityDenied"
        assert f"----> 2 {asked}" in text
        assert "kernel_runtime/" not in text


def test_long_output_and_long_arguments_keep_their_place(granted: kernel_runtime.Session) -> None:
    """Both are looked through beside the loop; what comes after them waits for them."""
    granted.run("from kernel_runtime.sdk import cache, secrets\ntoken = secrets.get('api-token')")
    done = granted.run(
        "print('begin', token)\nprint(('x' * 99 + '\\n') * 20_000, token)\nprint('middle')\n"
        "cache.set('many', [[n] for n in range(90_000)])\nprint(len(cache.get('many')))\n"
        "print('y' * 500_000 + token)\nprint('end')\ntoken + 'z' * 500_000"
    )
    words = [
        "begin [secret api-token]",
        "x" * 99,
        "\n [secret api-token]",
        "middle",
        "90000",
        "y" * 500_000,
        "end",
    ]
    places = [done.stdout.index(word) for word in words]
    assert places == sorted(places)
    assert done.stdout.count("x") == 20_000 * 99
    assert done.result is not None
    assert done.result.startswith("'[secret api-token]zzz")
    assert SECRET not in repr(done)


def test_a_secret_is_used_inside_and_shown_nowhere(granted: kernel_runtime.Session) -> None:
    """Printed, in pieces, encoded, as a result, as HTML, in an error with its traceback, in a log record."""
    granted.run("from kernel_runtime.sdk import secrets, log\ntoken = secrets.get('api-token')")
    done = granted.run(
        "import base64, json, sys\nfrom IPython.display import HTML, display\n"
        "print(token)\nsys.stdout.write(token[:9]); sys.stdout.flush(); sys.stdout.write(token[9:] + '\\n')\n"
        "print(base64.b64encode(token.encode()).decode(), token.encode().hex())\n"
        "print(json.dumps([token]), file=sys.stderr)\ndisplay(HTML('<b>' + token + '</b>'))\n"
        "log.info('with ' + token, token=token)\ntoken"
    )
    with pytest.raises(GuestCodeError) as caught:
        granted.run("def f(token): raise ValueError('no ' + token)\nf(token)")
    told = repr((done, caught.value.ename, caught.value.evalue, caught.value.traceback))
    assert SECRET not in told
    assert SECRET[:9] not in told
    assert SECRET[9:] not in told
    assert told.count("[secret api-token]") >= 8
    assert granted.run("len(token), 'other text'").result == f"({len(SECRET)}, 'other text')"
    with State() as state:
        assert SECRET not in repr(list(state.audit.records()))
    records = repr(list(granted._session._open.broker().logs.records))
    assert SECRET not in records
    assert "with [secret api-token]" in records


def test_a_secret_does_not_leave_as_a_variable_a_state_or_a_file(granted: kernel_runtime.Session) -> None:
    granted.snapshot("before")
    granted.run(
        "import numpy, socket\nfrom kernel_runtime.sdk import secrets\ntoken = secrets.get('api-token')\n"
        "class Odd: pass\nodd = type(token, (), {})()\nnested = {'auth': ['Bearer ' + token], 'n': 1}\n"
        "raw = token.encode()\nshort = 'x' * 110 + token\nletters = numpy.array([token])\nfine = numpy.arange(3)\n"
        "for name in ('notes.txt', token + '.txt'):\n    with open(name, 'w') as file: file.write('with ' + token)"
    )
    assert granted.run(f"token == {SECRET!r}").result == "True"  # the control: it is in there
    mark = "[secret api-token]"
    assert granted.value("token") == mark
    assert granted.value("nested") == {"auth": [f"Bearer {mark}"], "n": 1}
    assert granted.value("raw") == mark.encode()
    assert list(granted.value("fine")) == [0, 1, 2]
    with pytest.raises(Conflict, match="letters: the value of a secret is in it"):
        granted.value("letters")
    with pytest.raises(Conflict) as caught:
        granted.value("odd")  # its type's name is the secret
    told = repr((str(caught.value), granted.diff("before"), granted.written_since("before"), granted.files()))
    told += granted.files_diff("notes.txt") + repr(granted.checkpoint().skipped)
    assert SECRET[:8] not in told
    assert told.count(mark) >= 5
    granted.files_drop()


def test_a_revocation_holds_in_the_other_session_of_the_app(place: Path, open_session: Open) -> None:
    code = "from kernel_runtime.sdk import cache\ncache.set('x', 1)"
    one, other = (open_session(allow=["cache"]) for _ in range(2))
    other.run(code)
    assert one.revoke("cache") == 1
    for session in (one, other):
        with pytest.raises(GuestCodeError, match="CapabilityDenied"):
            session.run(code)


def test_the_person_is_asked_once_for_a_session(place: Path, open_session: Open) -> None:
    person = Person(Span.SESSION, None)
    session = open_session(person=person)
    session.run("from kernel_runtime.sdk import cache, secrets\nfor _ in range(3): cache.set('x', 1)")
    with pytest.raises(GuestCodeError, match="CapabilityDenied"):
        session.run("secrets.get('api-token')")
    assert person.asked == ["cache", "secret:api-token"]


def test_strict_asks_for_what_rules_allow(place: Path, open_session: Open, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    rules = tmp_path / "rules.toml"
    rules.write_text('allow = ["cache"]\n')
    rules.chmod(0o644)
    code = "from kernel_runtime.sdk import cache\ncache.set('x', 1)"
    open_session(policy=str(rules)).run(code)
    with pytest.raises(GuestCodeError, match="at this level it is asked all the same"):
        open_session(policy=str(rules), level="strict").run(code)


def test_a_manifest_bounds_what_is_granted_and_tightens(
    place: Path, open_session: Open, tmp_path: Path
) -> None:
    app = tmp_path / "app.toml"
    app.write_text('id = "bound"\n[limits]\npids = 40\nstorage = "1K"\n[[permissions]]\ntype = "cache"\n')
    session = open_session(manifest=app, allow=["cache", "clock"])
    assert session.limits.pids == 40
    session.run("from kernel_runtime.sdk import cache, storage\ncache.set('x', 1)")
    for code, error in (
        ("import kernel_runtime.sdk.secrets as s; s.get('api-token')", "does not ask for it"),
        ("storage.set('big', bytes(2000))", "quota"),
    ):
        with pytest.raises(GuestCodeError, match=error):
            session.run(code)
    with pytest.raises(Invalid, match="did you mean"):
        open_session(allow=["chache"])


def test_who_copies_a_manifest_word_for_word_is_another_app(
    place: Path, open_session: Open, tmp_path: Path
) -> None:
    """An "always" and what was kept are for the app in its place, not for whoever calls itself the same."""
    text = 'id = "same"\nversion = "1"\n[[permissions]]\ntype = "cache"\n'
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.toml").write_text(text)
    code = "from kernel_runtime.sdk import cache, storage\nkept = storage.get('x')\nstorage.set('x', 1)\ncache.set('x', 1)\nkept"
    mine, theirs = (tmp_path / name / "app.toml" for name in ("mine", "theirs"))
    assert open_session(manifest=mine, person=Person(Span.ALWAYS)).run(code).result is None
    assert open_session(manifest=mine).run(code).result == "1"  # the control: the same one again
    with pytest.raises(GuestCodeError, match="CapabilityDenied"):
        open_session(manifest=theirs).run(code)
    assert (
        open_session(manifest=theirs, allow=["cache"])
        .run("from kernel_runtime.sdk import cache, storage\nstorage.keys(), cache.get('x')")
        .result
        == "(['x'], None)"
    )


def test_a_copy_does_not_wait_for_the_originals_answers(place: Path, open_session: Open) -> None:
    session = open_session(allow=["events:subscribe:t"])
    session.run(
        "import asyncio\nfrom kernel_runtime.sdk import events\nheard = events.subscribe('t')\nended = []\n"
        "async def listen():\n    try: await heard.aget()\n    except Exception as error: ended.append(str(error))\n"
        "task = asyncio.ensure_future(listen())\nawait asyncio.sleep(0.1)"
    )
    session.snapshot("listening")
    assert session.run("task.done()").result == "False"  # the line that goes on still waits
    session.restore("listening")
    said = session.run("await asyncio.wait([task], timeout=60)\nprint(ended)").stdout
    assert "it was on its way when this state was kept" in said
    session.run("from kernel_runtime.sdk import storage\nstorage.set('after', 1)")


def test_calls_end_with_the_guest_that_made_them(place: Path, open_session: Open) -> None:
    session = open_session(allow=["events:subscribe:t"])
    with pytest.raises(GuestLost):
        session.run(
            "import asyncio, os\nfrom kernel_runtime.sdk import events\nheard = events.subscribe('t')\n"
            "task = asyncio.ensure_future(heard.aget())\nawait asyncio.sleep(0)\nos._exit(3)"
        )
    broker = session._session._open.broker()
    session.run("1")
    assert broker.usage["events"].running == 0


def test_a_flood_of_calls_is_answered_and_the_session_goes_on(granted: kernel_runtime.Session) -> None:
    done = granted.run(
        "import asyncio\nfrom kernel_runtime.sdk import events, door\nheard = events.subscribe('t')\n"
        "poll = door.Ask('events', 'poll', {'subscription': heard._number, 'wait': 60.0}, door.same)\n"
        "calls = [asyncio.ensure_future(door.awaited(poll)) for _ in range(1500)]\n"
        "done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)\n"
        "while len(done) < 476: done, waiting = await asyncio.wait(calls, timeout=0.1)\n"
        "print(len(waiting), {type(call.exception()).__name__ for call in done})\n"
        "for call in waiting: call.cancel()\nawait asyncio.wait(waiting)\nheard.close()"
    )
    assert done.stdout == "1024 {'Conflict'}\n"


def hostile(session: kernel_runtime.Session, frames: str) -> Any:
    """Frames written past the sdk, through the guest's own connection."""
    return session.run(
        "import kernel_runtime.wire as wire\nfrom kernel_runtime.sdk import door, storage\n"
        "storage.get('x')  # the control: this is how one asks\n"
        "connection = door._Door.host._connection\n"
        f"for frame in {frames}: connection.send(frame)\n"
        "import time; time.sleep(60)"
    )


@pytest.mark.parametrize(
    "frames",
    [
        "[wire.Call(id=1, capability='storage', action='keys')]",
        "[wire.Call(id=9, capability='storage', action='keys'), wire.Call(id=8, capability='storage', action='keys')]",
        "[wire.Withdraw(id=99)]",
        "[wire.Call(id=9, capability='storage', action='get', arguments=b'\\xdd\\xff\\xff\\xff\\xff')]",
        "[wire.Call(id=9, capability='storage', action='get', arguments=bytes(17 << 20))]",
        "[wire.Call(id=9, capability='../x', action='get')]",
        "[wire.Called(id=1)]",
    ],
    ids=[
        "a replay",
        "out of order",
        "a withdrawal of nothing",
        "a bomb",
        "too much",
        "no name",
        "an answer from inside",
    ],
)
def test_a_branch_that_breaks_the_protocol_ends_with_that_verdict(
    place: Path, open_session: Open, frames: str
) -> None:
    session = open_session()
    with pytest.raises(GuestLost) as caught:
        hostile(session, frames)
    assert caught.value.verdict.reason == "protocol"
    assert session.run("1 + 1").result == "2"


def test_the_network_limit_holds_for_what_http_moves(
    open_session: Open, place: Path, directory: Path
) -> None:
    with serving() as server:
        allowed = [f"net:127.0.0.1:{server.port}/GET"]
        url = f"http://127.0.0.1:{server.port}/bytes?n=4000"
        get = f"from kernel_runtime.sdk import http\nlen(http.get({url!r}).content)"
        limited = open_session(workdir=directory, allow=allowed, network="10k")
        assert [limited.run(get).result for _ in range(2)] == ["4000", "4000"]
        assert limited.usage().network == 8000
        result = limited.run(get, check=False)
        assert result.verdict is not None
        assert (result.verdict.reason, result.verdict.limit, result.verdict.survived) == (
            "network",
            10_240,
            True,
        )
        assert result.error is not None
        assert result.error.ename == "CapabilityDenied"
        assert "in all (its limit `network`)" in result.error.evalue
        assert limited.run("1 + 1").result == "2", "later cells that move nothing are none of its business"
        later = limited.run("1 / 0", check=False)
        assert later.verdict is None
        control = open_session(workdir=directory, allow=allowed)
        assert [control.run(get).result for _ in range(3)] == ["4000"] * 3


@pytest.mark.parametrize(
    "condition",
    [
        'rate = "60/fortnight"',
        'until = "soon"',
        'when = "Mon-Frog 09:00-17:00"',
        "quota = {call = 3}",
        'rat = "1/s"',
    ],
)
def test_a_policy_that_is_none_starts_nothing(tmp_path: Path, condition: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f'allow = [{{ scope = "cache", {condition} }}]\n')
    with pytest.raises(Invalid, match=r"policy\.toml"):
        kernel_runtime.Session(policy=str(file))
    file.write_text('allow = [{ scope = "cache", rate = "60/min" }]\n')
    kernel_runtime.Session(policy=str(file))


def test_a_policy_that_nobody_writes_is_not_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    os.mkfifo(file)
    with pytest.raises(Invalid, match="a policy is a regular file"):
        kernel_runtime.Session(policy=str(file))
