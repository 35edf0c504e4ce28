"""``kernel-runtime secrets``: values come from standard input, and never out again."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.state import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("KERNEL_RUNTIME_MASTER_KEY", raising=False)
    monkeypatch.setattr("kernel_runtime.broker.master._keyring", lambda: None)


def kept(tmp_path: Path, name: str = "KEY") -> bytes:
    with State(tmp_path / "state") as state:
        return state.vault().get(name)


def test_a_value_goes_from_standard_input_to_the_vault(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("secrets", "set", "KEY", input="hunter2 hunter2\n")
    assert (done.exit_code, done.stdout) == (0, "kept KEY, version 1\n")
    assert kept(tmp_path) == b"hunter2 hunter2"


def test_only_one_newline_at_the_end_is_taken_off(invoke: Invoke, tmp_path: Path) -> None:
    invoke("secrets", "set", "KEY", input="-----BEGIN-----\nabc\n\n")
    assert kept(tmp_path) == b"-----BEGIN-----\nabc\n"


def test_rotate_list_and_rm(invoke: Invoke, tmp_path: Path) -> None:
    invoke("secrets", "set", "KEY", input="the first value")
    assert invoke("secrets", "rotate", "KEY", "--grace", "1h", input="the second value").exit_code == 0
    assert kept(tmp_path) == b"the second value"
    (found,) = json.loads(invoke("secrets", "list", "--json").stdout)
    assert (found["name"], found["version"], found["older"]) == ("KEY", 2, [1])
    listing = invoke("secrets", "list").stdout
    assert "KEY" in listing
    assert "value" not in listing
    assert "wraps 2 versions" in invoke("secrets", "rotate", "--master-key").stdout
    assert kept(tmp_path) == b"the second value"
    assert invoke("secrets", "rm", "KEY").exit_code == 0
    assert "no secrets are kept" in invoke("secrets", "list").stdout


def test_no_command_takes_a_value_as_an_argument(invoke: Invoke) -> None:
    assert invoke("secrets", "set", "KEY", "hunter2hunter2").exit_code == 2
    assert invoke("secrets", "rotate", "KEY", "hunter2hunter2").exit_code == 2


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        (["set", "KEY"], "", "no value for KEY"),
        (["set", "KEY"], "short", "fewer than 6 bytes"),
        (["set", "a b"], "long enough", "no name of a secret"),
        (["set", "THERE"], "long enough", "rotate THERE"),
        (["rotate", "NONE"], "long enough", "set it first"),
        (["rotate"], "", "name one secret"),
        (["rotate", "THERE", "--master-key"], "", "name one secret"),
        (["rotate", "THERE", "--grace", "soon"], "long enough", "--grace"),
        (["rm", "NONE"], "", "no secret 'NONE'"),
    ],
)
def test_bad_input_is_told(invoke: Invoke, words: list[str], given: str, said: str) -> None:
    invoke("secrets", "set", "THERE", input="a value that is there")
    done = invoke("secrets", *words, input=given)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "a value that is there" not in done.output


def test_at_a_terminal_the_value_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "kernel_runtime", "secrets", "set", "KEY"]
    environment = {**os.environ, "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    process = subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = read_until(ours, b"Value of KEY")
    os.write(ours, b"seen by nobody\n")
    shown += read_until(ours, b"confirmation")
    os.write(ours, b"seen by nobody\n")
    shown += read_until(ours, b"version 1")
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert b"seen by nobody" not in shown
    assert kept(tmp_path) == b"seen by nobody"


def read_until(terminal: int, mark: bytes) -> bytes:
    """What the terminal shows, up to the prompt or message that has this in it."""
    shown = b""
    while mark not in shown:
        piece = os.read(terminal, 4096)
        assert piece, shown
        shown += piece
    return shown
