"""``%%app`` in a real shell: a cell with a manifest at its head, in a guest with that manifest's powers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from IPython.core.error import UsageError

from tests.broker.calling import install, write

if TYPE_CHECKING:
    from pathlib import Path

    from IPython.core.interactiveshell import InteractiveShell

    from tests.jupyter_magics.conftest import Displays

HEAD = """\
# /// app
# [limits]
# memory = "{memory}"
# [[permissions]]
# type = "env"
# resource = "REGION"
# ///
"""
ASK = """\
from kernel_runtime.sdk import CapabilityDenied, env
for name in ("REGION", "HOME"):
    try:
        print(env.get(name))
    except CapabilityDenied as error:
        print(type(error).__name__, error)
"""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state and a policy of its own."""
    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("REGION", "north")
    policy = tmp_path / "config" / "kernel-runtime" / "policy.toml"
    policy.parent.mkdir(parents=True)
    policy.write_text('[[allow]]\nscope = "env:*"\n')
    policy.chmod(0o600)


def run(shell: InteractiveShell, line: str, cell: str, *, memory: str = "300M") -> None:
    shell.run_cell_magic("app", line, HEAD.format(memory=memory) + cell)


def test_it_may_do_what_its_manifest_asks_for_and_a_policy_grants(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy grants both: what the manifest does not ask for stays denied."""
    run(shell, "prices", ASK)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "north"
    assert said[1].startswith("CapabilityDenied")
    shell.run_cell_magic("sandbox", "", ASK)  # the control: it declares nothing, the policy decides alone
    assert "CapabilityDenied" not in capsys.readouterr().out
    shell.run_line_magic("sandbox", "list")
    assert "prices: level moderate, memory 300 MB" in capsys.readouterr().out


def test_it_is_kept_and_begins_anew_with_another_manifest(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.user_ns["y"] = 20
    run(shell, "prices -i y", "x = y + 1")
    run(shell, "prices -o x", "x += 1")
    assert shell.user_ns["x"] == 22
    assert capsys.readouterr().err == ""
    run(shell, "prices", "print('x' in globals())", memory="200M")
    assert capsys.readouterr() == ("False\n", "the manifest of prices has changed: it begins anew\n")
    run(shell, "prices --fresh", "print('x' in globals())", memory="200M")
    assert capsys.readouterr() == ("False\n", "")


CALLED = """\
permissions = []
---
def latest(metal):
    print("looking for", metal)
    raise ValueError("no price of " + metal)
"""
CALL = """\
from kernel_runtime.sdk import CallFailed, call
try:
    call("metals.latest", {"metal": "tin"})
except CallFailed as error:
    print(error)
"""


def test_what_a_called_app_prints_stands_in_the_logs_and_not_below_the_cell(
    shell: InteractiveShell, displays: Displays, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    install(tmp_path / "config", tmp_path / "apps", metals=CALLED)
    write(tmp_path / "config" / "kernel-runtime" / "policy.toml", 'allow = ["call:metals.*"]\n')
    shell.run_cell_magic("sandbox", "--name caller", CALL)
    assert capsys.readouterr() == ("metals.latest: ValueError: no price of tin\n", "")
    shell.run_line_magic("sandbox", "logs")
    told = displays.published[-1]["data"]["text/plain"]
    assert "stdout caller: metals.latest: ValueError: no price of tin" in told
    assert "stdout metals (called): looking for tin" in told
    assert 'stderr metals (called): ----> 3     raise ValueError("no price of " + metal)' in told


def test_bad_cells_are_one_plain_line(shell: InteractiveShell) -> None:
    with pytest.raises(UsageError, match="does not begin with its manifest"):
        shell.run_cell_magic("app", "", "print(1)")
    with pytest.raises(UsageError, match=r"%%app:4: limits.memory"):
        run(shell, "", "print(1)", memory="lots")
    with pytest.raises(UsageError, match="there is no variable 'nothing'"):
        run(shell, "-i nothing", "print(1)")
    shell.run_cell_magic("sandbox", "--name taken", "1")
    with pytest.raises(UsageError, match="a guest of %%sandbox is called 'taken'"):
        run(shell, "taken", "print(1)")
