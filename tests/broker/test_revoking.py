"""What is revoked holds in every session of the app, whichever process it lives in and however it was revoked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from kernel_runtime.broker.commons import Commons
from kernel_runtime.capabilities import Powers, broker_for
from kernel_runtime.cli import commands
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.scopes import parse_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

APP = 'id = "app"\npermissions = [{ type = "cache" }]\n'
#: A session of another process. It begins now, and makes its broker when it is first asked, as sessions do.
OTHER = """
import asyncio, sys
from kernel_runtime.broker.commons import Commons
from kernel_runtime.capabilities import Powers, broker_for
from kernel_runtime.domain.disclosed import Disclosed
from kernel_runtime.domain.errors import CapabilityDenied

async def may(broker):
    try:
        await broker.call("cache", "get", {"key": "x"})
    except CapabilityDenied:
        return "denied"
    return "allowed"

powers, broker = Powers(manifest=sys.argv[1], allow=("cache",)), None
print("begun", flush=True)
for line in sys.stdin:
    broker = broker or broker_for(powers, Disclosed(), Commons())
    print(asyncio.run(may(broker)), flush=True)
"""


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.toml").write_text(APP)
    return tmp_path / "app.toml"


@contextmanager
def another_session(manifest: Path) -> Iterator[Callable[[], str]]:
    """A session in a process of its own; calling it asks whether it may use the cache."""
    words = [sys.executable, "-c", OTHER, str(manifest)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "begun\n"

        def ask() -> str:
            assert process.stdin and process.stdout
            print(file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        yield ask
        process.stdin.close()


def by_a_session(app: Path) -> None:
    """What the panel does, and ``Session.revoke``."""

    async def revoke() -> None:
        broker = broker_for(Powers(manifest=str(app)), Disclosed(), Commons())
        assert await broker.revoke(parse_scope("cache")) == 0, "its own grants are others"
        await broker.close()

    asyncio.run(revoke())


def by_command_line(app: Path) -> None:
    done = CliRunner().invoke(commands, ["policy", "revoke", "cache", str(app.parent)])
    assert done.exit_code == 0, done.output
    assert "revoked: cache; 0 grants were remembered" in done.output


@pytest.mark.parametrize("revoke", [by_a_session, by_command_line])
def test_it_holds_in_a_session_of_another_process(app: Path, revoke: Callable[[Path], None]) -> None:
    with another_session(app) as early, another_session(app) as late:
        assert early() == "allowed"
        revoke(app)
        assert early() == "denied"
        assert late() == "denied", "it had not read its grants when they were revoked"
    with another_session(app) as later:
        assert later() == "allowed", "granted anew, on its command line"


def test_an_app_of_the_same_words_in_another_place_keeps_its_grants(app: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "app.toml"
    copy.parent.mkdir()
    copy.write_text(APP)
    with another_session(copy) as other:
        by_command_line(app)
        assert other() == "allowed"
        by_command_line(copy)
        assert other() == "denied"


def test_an_app_is_known_by_where_it_lies(app: Path, tmp_path: Path) -> None:
    def holder(**powers: Any) -> str:
        return Powers(**powers).placed_manifest().holder

    here = holder(manifest=str(app))
    (tmp_path / "link.toml").symlink_to(app)
    assert holder(manifest=str(tmp_path)) == holder(manifest="app.toml") == here
    assert holder(manifest=str(tmp_path / "link.toml")) == here
    app.write_text(APP.replace('"app"', '"renamed"') + 'version = "2"')
    assert holder(manifest=str(app)) == here
    scripts = [tmp_path / place / "job.py" for place in ("a", "b")]
    for script in scripts:
        script.parent.mkdir()
        script.write_text("")
    holders = {holder(manifest=str(script)) for script in scripts}
    holders |= {holder(directory=str(tmp_path), name=name) for name in ("x", "y")}
    assert len({here, *holders}) == 5


def test_what_is_no_app_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words, said in (
        (["cache", "empty"], "has no app.toml"),
        (["chache", "app.toml"], "SCOPE: no scope begins with"),
        (["cache", "missing"], "does not exist"),
    ):
        done = CliRunner().invoke(commands, ["policy", "revoke", *words])
        assert done.exit_code != 0
        assert said in done.output + str(done.exception)
