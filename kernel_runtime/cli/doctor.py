"""``kernel-runtime doctor``: which walls hold on this host, attacked and not guessed."""

from __future__ import annotations

import contextlib
import textwrap
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from kernel_runtime.workers.doctor import Report, WallReport
    from kernel_runtime.workers.trials import Progress

#: By the strongest level that starts, and what its walls are worth.
STRICT, PERMISSIVE, SECOND_RUNG, NOTHING, BREACHED = 0, 4, 6, 7, 8

_MARKS = {"enforced": ("✓", "green"), "partial": ("◐", "yellow"), "missing": ("✗", "red")}
_PLAIN = {"✓": "+", "◐": "~", "✗": "x"}
_WIDEST = 100
#: Columns: mark and name; attacks that failed of those made.
_COLUMN, _COUNT = 15, 5


@click.command(
    "doctor",
    epilog="""\b
Exit codes:
  0    strict and moderate start here, and no attack got through
  4    strict and moderate refuse to start; permissive starts, without the missing
       walls
  6    there are no namespaces here: strict and moderate start if you accept the
       second rung (--rung landlock)
  7    nothing can be walled in here: no level starts
  8    an attack got through a wall that stands: do not rely on it
""",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quick", is_flag=True, help="Build the walls, but do not attack them.")
def doctor_command(as_json: bool, quick: bool) -> None:
    """Build every wall in throw-away guests, attack it, and say what to change on this host.

    Each attack is made behind all walls, on its wall alone, and without the wall: only if the last
    succeeds does the failure of the others prove anything. Nothing on the host is changed.
    """
    from kernel_runtime.workers import doctor

    with _progress() as progress:
        report = doctor.report(quick=quick, progress=progress)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _print(report)
    raise click.exceptions.Exit(exit_code(report))


def exit_code(report: Report) -> int:
    """What the report comes to, as a number for scripts."""
    if report.level == "none":
        return NOTHING
    if report.breached:
        return BREACHED
    if report.level == "strict":
        return STRICT
    return SECOND_RUNG if report.level_on_rung == "strict" else PERMISSIVE


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """A moving line on a terminal, nothing elsewhere."""
    from kernel_runtime.cli.terminal import console

    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda *_: None
        return
    with screen.status("building the walls") as status:
        yield lambda done, total, name: status.update(f"{done}/{total} attacks  {name}")


def _print(report: Report) -> None:
    from kernel_runtime.cli.terminal import console

    screen = console()
    _print_prose(screen, _title(report), "bold")
    screen.print()
    indent = _COLUMN + (_COUNT if report.attacked else 0)
    for wall in report.walls:
        _print_wall(screen, wall, indent)
    screen.print()
    _print_prose(screen, conclusion(report), "bold")
    _print_fixes(screen, report)


def _title(report: Report) -> str:
    host = report.host
    parts = [host.title or host.system, host.release]
    if host.container:
        parts.append(f"in a {host.container} container")
    if host.wsl:
        parts.append(f"WSL {host.wsl}")
    parts.append("as root" if host.uid == 0 else "as an ordinary user")
    parts.append(f"Landlock {host.landlock}, cgroups {host.cgroups}")
    return "kernel_runtime on " + ", ".join(parts)


def _print_wall(screen: Console, wall: WallReport, indent: int) -> None:
    """Mark, name, how many of the attacks it stopped, what it holds; below that, what is wrong."""
    from rich.text import Text

    mark, style = _MARKS[wall.status]
    tried = [outcome for outcome in wall.attacks if outcome.blocked is not None]
    count = f"{sum(outcome.blocked is True for outcome in tried)}/{len(tried)}" if tried else ""
    head = Text.assemble((_drawable(screen, mark), style), f" {wall.name:<{_COLUMN - 2}}")
    if indent > _COLUMN:
        head.append(f"{count:<{_COUNT}}", style if tried else "")
    first, *others = _wrapped(screen, wall.purpose, " " * indent)
    screen.print(head + Text(first[indent:]))
    for line in others:
        screen.print(line)
    if wall.status != "enforced":
        for line in _wrapped(screen, f"{wall.status}: {wall.detail}", " " * indent):
            screen.print(Text(line, style=style))


def _drawable(screen: Console, mark: str) -> str:
    try:
        mark.encode(screen.encoding)
    except (UnicodeEncodeError, LookupError):
        return _PLAIN[mark]
    return mark


def conclusion(report: Report) -> str:
    """The whole in one or two sentences."""
    if report.level == "none":
        return "Nothing starts here: no wall could be put around a guest."
    if report.breached:
        return f"Do not rely on this host: attacks got through ({', '.join(report.breached)})."
    if report.level == "strict":
        told = _told(report) if report.attacked else "The walls were not attacked."
        return f"strict, moderate and permissive start here. {told}"
    if report.level_on_rung == "strict":
        return (
            "There are no namespaces here. strict and moderate refuse to start, unless you accept the second "
            "rung (Landlock, system-call filter, limits) with --rung landlock or KERNEL_RUNTIME_RUNG=landlock. "
            "permissive starts on it."
        )
    return "strict and moderate refuse to start here. permissive starts, without the missing walls."


def _told(report: Report) -> str:
    """What came of the attacks where none got through."""
    outcomes = [outcome for wall in report.walls for outcome in wall.attacks]
    proven = sum(bool(outcome.blocked and outcome.control) for outcome in outcomes)
    told = f"{proven} attacks failed, and succeeded where their wall was taken away."
    doubtful = sum(outcome.failed or outcome.control is False for outcome in outcomes)
    return f"{told} {doubtful} could not be made, or proven." if doubtful else told


def _print_fixes(screen: Console, report: Report) -> None:
    """Each fix once, whole, with the walls that it is for; what is to be copied is never broken."""
    from rich.text import Text

    fixes: dict[str, list[str]] = {}
    for wall in report.walls:
        if wall.fix and wall.status != "enforced":
            fixes.setdefault(wall.fix, []).append(wall.name)
    for fix, names in fixes.items():
        screen.print()
        screen.print(Text(f"To mend {', '.join(names)}:", style="bold"))
        for line in fix.splitlines():
            if line.startswith("    "):
                screen.print(Text(line, style="cyan"))
            else:
                _print_prose(screen, line)
    if fixes:
        screen.print()
        screen.print("Then run kernel-runtime doctor again.")


def _print_prose(screen: Console, text: str, style: str = "") -> None:
    from rich.text import Text

    for line in _wrapped(screen, text, ""):
        screen.print(Text(line, style=style))


def _wrapped(screen: Console, text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        min(screen.width, _WIDEST),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
