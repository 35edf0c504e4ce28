"""``doctor``: the table, the fixes, the exit codes, the JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from kernel_runtime.cli import doctor as command
from kernel_runtime.workers import doctor
from kernel_runtime.workers.hosts import Facts
from kernel_runtime.workers.remedies import remedy
from kernel_runtime.workers.trials import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

UBUNTU = Facts(
    title="Ubuntu 24.04.1 LTS", release="6.8.0", apparmor_userns=True, interpreter="/usr/bin/python3.12"
)


def wall(name: str, status: str = "enforced", **fields: Any) -> doctor.WallReport:
    return doctor.WallReport(name=name, status=status, purpose=doctor.PURPOSES[name], **fields)


def report(*changed: doctor.WallReport, **fields: Any) -> doctor.Report:
    """All walls enforced but those given."""
    by_name = {name: wall(name) for name in doctor.PURPOSES} | {w.name: w for w in changed}
    settings = {"level": "strict", "rung": "namespaces", "attacked": True, "host": UBUNTU} | fields
    settings = {"level_on_rung": settings["level"]} | settings
    return doctor.Report(walls=list(by_name.values()), **settings)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """What the command prints of a report, 80 columns wide."""

    def show(made: doctor.Report, *options: str, env: dict[str, str] | None = None) -> Result:
        monkeypatch.setattr(doctor, "report", lambda **_: made)
        runner = CliRunner(env={"COLUMNS": "80"} | (env or {}))
        return runner.invoke(command.doctor_command, [*options])

    return show


def test_it_tries_the_walls_of_this_host(invoke: Callable[..., Result]) -> None:
    told = invoke("doctor", "--quick", "--json")
    parsed = msgspec.json.decode(told.stdout, type=doctor.Report)
    assert [w.name for w in parsed.walls] == list(doctor.PURPOSES)
    assert told.exit_code == command.exit_code(parsed)


def test_every_wall_is_a_line_with_its_mark(shown: Callable[..., Result]) -> None:
    blocked = Outcome(name="a", proves="b", blocked=True, control=True)
    told = shown(report(wall("net", attacks=[blocked, blocked])))
    assert re.search(r"^✓ net +2/2 +no route to any network$", told.stdout, re.MULTILINE)
    assert "strict, moderate and permissive start here. 2 attacks failed" in told.stdout.replace("\n", " ")
    assert told.exit_code == 0


def test_what_is_wrong_is_said_below_the_wall(shown: Callable[..., Result]) -> None:
    through = Outcome(name="speak netlink to the kernel", proves="x", blocked=False, control=True)
    told = shown(
        report(
            wall("seccomp", "partial", detail="got through: speak netlink to the kernel", attacks=[through]),
            breached=["seccomp"],
        )
    )
    assert "◐ seccomp" in told.stdout
    assert "partial: got through: speak netlink" in told.stdout
    assert "Do not rely on this host" in told.stdout
    assert told.exit_code == 8


def test_fixes_are_whole_and_said_once(shown: Callable[..., Result]) -> None:
    """What is to be copied is never broken or cut, however narrow the terminal is."""
    fix = remedy("user", UBUNTU)
    lost = [
        wall(name, "missing", detail="unshare: Operation not permitted", fix=fix) for name in ("user", "net")
    ]
    told = shown(report(*lost, level="permissive"), env={"COLUMNS": "40"})
    commands = [line for line in fix.splitlines() if line.startswith("    ")]
    assert commands
    for line in commands:
        assert told.stdout.splitlines().count(line) == 1
    assert "To mend net, user:" in told.stdout
    prose = [line for line in told.stdout.splitlines() if line not in commands]
    assert max(map(len, prose)) <= 40
    assert told.exit_code == 4


def test_a_terminal_without_such_characters_gets_others(shown: Callable[..., Result]) -> None:
    runner = CliRunner(charset="ascii")
    shown(report())
    told = runner.invoke(command.doctor_command, [])
    assert told.exit_code == 0, told.output
    assert "+ net" in told.stdout


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({}, 0, "strict, moderate and permissive start"),
        ({"level": "permissive"}, 4, "permissive starts, without the missing walls"),
        ({"level": "permissive", "rung": "landlock", "level_on_rung": "strict"}, 6, "--rung landlock"),
        ({"level": "permissive", "rung": "landlock"}, 4, "permissive starts, without the missing walls"),
        ({"level": "none", "rung": "none"}, 7, "Nothing starts here"),
        ({"breached": ["net"]}, 8, "Do not rely on this host"),
    ],
)
def test_the_exit_code_tells_the_strongest_level(
    fields: dict[str, Any], code: int, said: str, shown: Callable[..., Result]
) -> None:
    told = shown(report(**fields))
    assert told.exit_code == code
    assert said in " ".join(told.stdout.split())
    help_text = CliRunner().invoke(command.doctor_command, ["--help"]).output
    assert re.search(rf"^ +{code} +\w", help_text, re.MULTILINE)


def test_the_example_in_the_documentation_is_a_report(root: Path) -> None:
    page = (root / "docs/reference/doctor.md").read_text()
    example = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert example is not None
    written = json.loads(example[1])
    parsed = msgspec.convert(written, doctor.Report)
    full = msgspec.to_builtins(parsed)
    assert written.keys() == full.keys()
    for key in ("walls", "host"):
        some, whole = (x[0] if isinstance(x, list) else x for x in (written[key], full[key]))
        assert some.keys() == whole.keys()
    assert written["walls"][0]["attacks"][0].keys() == full["walls"][0]["attacks"][0].keys()
    for code in (0, 4, 6, 7, 8):
        assert re.search(rf"^\| {code} \|", page, re.MULTILINE)
