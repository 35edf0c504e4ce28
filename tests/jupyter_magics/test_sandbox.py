"""``%%sandbox`` in a real shell, with real guests."""

from __future__ import annotations

import builtins
import getpass
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.error import UsageError

from kernel_runtime.cli.terminal import harmless
from kernel_runtime.jupyter import magics, sandbox_states
from kernel_runtime.jupyter.showing import NO_WIDGETS, SandboxError
from kernel_runtime.workers import limiter

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Displays
    from IPython.core.interactiveshell import InteractiveShell


def run(shell: InteractiveShell, line: str, cell: str) -> None:
    shell.run_cell_magic("sandbox", line, cell)


def test_streams_are_told_apart(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "", "import sys\nprint('out')\nprint('err', file=sys.stderr)")
    assert capsys.readouterr() == ("out\n", "err\n")


def test_output_comes_while_the_cell_runs(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    before_the_answer: list[str] = []

    class Out:
        def write(self, text: str) -> None:
            seen.append(text)

        def flush(self) -> None: ...

    def answer(prompt: str = "") -> str:
        before_the_answer.extend(seen)
        return ""

    monkeypatch.setattr("sys.stdout", Out())
    monkeypatch.setattr(builtins, "input", answer)
    run(shell, "", "print('a')\n_ = input()\nprint('b')")
    assert "".join(before_the_answer) == "a\n"
    assert "".join(seen) == "a\nb\n"


def test_a_guest_is_kept_by_name(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "--name a", "x = 1")
    run(shell, "--name b", "x = 2")
    run(shell, "--name a", "print(x)")
    run(shell, "--name a --fresh", "print('x' in globals())")
    assert capsys.readouterr().out == "1\nFalse\n"


def test_quotes_around_a_name_are_none_of_it(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, "--name 'a b'", "x = 1")
    run(shell, '--name "a b"', "x += 1")
    shell.run_line_magic("sandbox", "list")
    assert capsys.readouterr().out.startswith("a b: level moderate")
    shell.run_line_magic("sandbox", "--name 'a b' undo")
    run(shell, "--name 'a b'", "print(x)")
    assert capsys.readouterr().out == "1\n"
    shell.run_line_magic("sandbox", "kill 'a b'")
    shell.run_line_magic("sandbox", "list")
    assert capsys.readouterr().out.startswith("no guests yet")
    with pytest.raises(UsageError, match="No closing quotation"):
        run(shell, "--name 'a", "1")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("list extra", "it takes no name: it shows those of all guests"),
        ("logs nope", "it takes no name: it shows those of all guests"),
        ("kill a b", "it takes one guest, not 2"),
        ("resources nope", "nope"),
    ],
)
def test_what_an_action_does_not_take_is_refused(shell: InteractiveShell, line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        shell.run_line_magic("sandbox", line)


def test_variables_go_in_and_out(shell: InteractiveShell) -> None:
    np, pd = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    shell.push({"a": np.arange(3), "df": pd.DataFrame({"x": [1, 2]}), "n": {"k": [1]}, "b": b"\x00"})
    run(
        shell,
        "-i a -i df -i n -i b -o total -o df2 -o c",
        "total = int(a.sum()) + n['k'][0]\ndf2 = df * 2\nc = b + b",
    )
    assert shell.user_ns["total"] == 4
    assert shell.user_ns["df2"]["x"].tolist() == [2, 4]
    assert shell.user_ns["c"] == b"\x00\x00"


def test_values_without_a_safe_format_are_named(shell: InteractiveShell) -> None:
    shell.push({"f": open})
    with pytest.raises(UsageError, match=r"-i f: .*function"):
        run(shell, "-i f", "1")
    with pytest.raises(UsageError, match="object"):
        run(shell, "-o o", "o = object()")
    with pytest.raises(UsageError, match="gone"):
        run(shell, "-o gone", "1")
    with pytest.raises(UsageError, match="no variable 'nothing'"):
        run(shell, "-i nothing", "1")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("--memory lots", "not an amount of bytes"),
        ("--time soon", "not a time"),
        ("--idle soon", "--idle: 'soon' is not a time"),
        ("--pids 1.5", "whole number"),
        ("--level mild", "not a level"),
        ("-i 1x", "not the name of a variable"),
        ("--wrong", "unrecognized"),
    ],
)
def test_bad_options(shell: InteractiveShell, line: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        run(shell, line, "1")


def test_limits_of_a_kept_guest_do_not_change(shell: InteractiveShell) -> None:
    run(shell, "--memory 512M", "x = 1")
    run(shell, "--memory 0.5G", "x")
    run(shell, "", "x")
    with pytest.raises(UsageError, match=r"memory 512 MB.*cannot become 1 GB.*--fresh"):
        run(shell, "--memory 1G", "x")
    with pytest.raises(UsageError, match=r"level moderate.*cannot become strict"):
        run(shell, "--level strict", "x")
    with pytest.raises(UsageError, match=r"idle off.*cannot become 1800 s.*--fresh"):
        run(shell, "--idle 30m", "x")
    run(shell, "--memory 1G --fresh", "assert 'x' not in globals()")
    run(shell, "--idle 30m --fresh", "x = 1")
    run(shell, "--idle 0.5h", "x")
    guest = magics._extensions[id(shell)].guests.get(sandbox_states.DEFAULT)
    assert guest.watched.terms.idle == 1800.0


def test_errors_are_the_guests_own(shell: InteractiveShell) -> None:
    with pytest.raises(SandboxError, match="ZeroDivisionError: division by zero") as caught:
        run(shell, "", "1/0")
    shown = harmless("\n".join(caught.value._render_traceback_()), colours=False)
    assert "1/0" in shown
    assert "magics.py" not in shown


def test_a_killed_guest_says_why_and_the_next_cell_works(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, "", "kept = 'alive'")
    with pytest.raises(
        SandboxError, match=r"exited with status 3.*variables are as they were before this cell"
    ) as caught:
        run(shell, "", "import os; os._exit(3)")
    assert len(caught.value._render_traceback_()) == 1
    run(shell, "", "print(kept)")
    assert capsys.readouterr().out == "alive\n"


def test_a_limit_says_why(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "LIMIT_GRACE", 60.0)
    with pytest.raises(
        SandboxError, match=r"WallLimitExceeded.*longer than its limit of 3 s.*variables are kept"
    ):
        run(shell, "--time 3s", "x = 1\nwhile True: pass")
    run(shell, "", "assert x == 1")


def test_rich_displays(shell: InteractiveShell, displays: Displays) -> None:
    run(
        shell,
        "",
        (
            "from IPython.display import HTML, Javascript, display, clear_output\n"
            "h = display(HTML('<b onclick=\"x()\">hi</b><script>bad()</script><img src=\"http://leak/\">'), display_id='d')\n"
            "h.update(HTML('<i>new</i>'))\nclear_output(wait=True)\ndisplay(Javascript('bad()'))\n6*7"
        ),
    )
    first, update, script, result = displays.published
    assert first["data"]["text/html"].startswith(
        "<b>hi</b><img><small>[image not loaded: http://leak/]</small>"
    )
    assert "a script in this output was left out" in first["data"]["text/html"]
    assert update["update"]
    assert update["transient"] == first["transient"]
    assert first["transient"]["display_id"] != "d"
    assert "application/javascript" not in script["data"]
    assert result["data"] == {"text/plain": "42"}
    assert displays.cleared == [True]


def test_the_rules_of_the_page_hold_at_every_level(shell: InteractiveShell, displays: Displays) -> None:
    run(
        shell,
        "--level permissive",
        "from IPython.display import Javascript, display\ndisplay(Javascript('x()'))",
    )
    assert displays.published[0]["data"].keys() == {"text/plain", "text/html"}
    assert "JavaScript was not run" in displays.published[0]["data"]["text/html"]


def test_widgets_are_left_out_with_one_note(
    shell: InteractiveShell, displays: Displays, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ipywidgets")
    run(
        shell,
        "",
        "import ipywidgets as w\nfrom IPython.display import display\ndisplay(w.IntSlider(), w.IntSlider())",
    )
    assert capsys.readouterr().err == NO_WIDGETS
    assert all(set(message["data"]) == {"text/plain"} for message in displays.published)


def test_prompts_are_marked(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts: list[str] = []

    def answered(prompt: str = "") -> str:
        prompts.append(prompt)
        return "bob"

    monkeypatch.setattr(builtins, "input", answered)
    monkeypatch.setattr(getpass, "getpass", answered)
    run(shell, "--name a", "from getpass import getpass\nprint(input('who? '), getpass('secret? '))")
    assert prompts == ["[sandbox a] who? ", "[sandbox a] secret? "]
    assert capsys.readouterr().out == "bob bob\n"


def test_headless_prompts_raise_inside(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(prompt: str = "") -> str:
        raise EOFError

    monkeypatch.setattr(builtins, "input", nobody)
    with pytest.raises(SandboxError):
        run(shell, "", "input('who? ')")


def test_ctrl_c_interrupts_the_guest(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    run(shell, "", "x = 5")

    class Out:
        def write(self, text: str) -> None:
            if text.strip():  # the cell runs; a moment later the person presses
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

        def flush(self) -> None: ...

    with monkeypatch.context() as patched, pytest.raises(SandboxError, match="KeyboardInterrupt"):
        patched.setattr("sys.stdout", Out())
        run(shell, "", "import time\nprint('go', end='', flush=True)\ntime.sleep(100_000)")
    run(shell, "", "assert x == 5")


def test_ctrl_c_while_output_is_shown(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def write(self, text: str) -> None:
            raise KeyboardInterrupt

        def flush(self) -> None: ...

    with monkeypatch.context() as patched, pytest.raises(SandboxError, match="KeyboardInterrupt"):
        patched.setattr("sys.stdout", Interrupted())
        run(shell, "", "import time\nprint('go', flush=True)\ntime.sleep(100_000)")
    run(shell, "", "1")


def test_list_kill_reset(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_line_magic("sandbox", "list")
    assert "no guests yet" in capsys.readouterr().out
    run(shell, "--name a --memory 512M", "x = 1")
    shell.run_line_magic("sandbox", "list")
    assert capsys.readouterr().out.startswith("a: level moderate, memory 512 MB")
    shell.run_line_magic("sandbox", "reset a")
    run(shell, "--name a", "assert 'x' not in globals()")
    shell.run_line_magic("sandbox", "kill a")
    with pytest.raises(UsageError, match="no guest is called 'a'; there are: none"):
        shell.run_line_magic("sandbox", "kill a")


def test_inside_a_running_loop(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    import asyncio

    async def main() -> None:
        run(shell, "", "print('in')")

    asyncio.run(main())
    assert capsys.readouterr().out == "in\n"


def complete(shell: InteractiveShell, text: str, *, whole: bool = False) -> list[str]:
    """At the end of the first line, or of the whole text."""
    from IPython.core.completer import provisionalcompleter

    place = len(text if whole else text.split("\n")[0])
    with provisionalcompleter():
        return [found.text for found in shell.Completer.completions(text, place)]


def test_completion(shell: InteractiveShell) -> None:
    shell.push({"frame": 1})
    run(shell, "--name work", "1")
    assert "--memory" in complete(shell, "%%sandbox --me\nx = 1")
    assert complete(shell, "%%sandbox --name w") == ["work"]
    assert complete(shell, "%%sandbox --level ") == ["moderate", "permissive", "strict"]
    assert "--idle" in complete(shell, "%%sandbox --id\nx = 1")
    assert "30m" in complete(shell, "%%sandbox --idle ")
    assert complete(shell, "%%sandbox -i fra") == ["frame"]
    assert complete(shell, "%%sandbox -o \nresult = 1\nother = 2") == ["other", "result"]
    panels = {"resources", "permissions", "logs"}
    assert set(complete(shell, "%sandbox ")) == {"list", "kill", "reset", *panels, *sandbox_states.ACTIONS}
    for action in ("kill", "permissions", "resources"):
        assert complete(shell, f"%sandbox {action} ") == ["work"]
    assert "work" not in complete(shell, "%sandbox logs ")
    assert "--memory" not in complete(shell, "print --me")


APP = "%%app prices\n\n# /// app\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("%%app --fr", ["--fresh"]),
        ("%%app -i fra", ["frame"]),
        ("%%app prices\n#", ["# /// app"]),
        (f"{APP}# lim", ["limits"]),
        (f"{APP}# [[perm", ["permissions"]),
        (f"{APP}# [[permissions]]\n# ty", ["type"]),
        (f'{APP}# [[permissions]]\n# type = "c', ["cache", "call", "clock"]),
        (f'{APP}# permissions = [{{ type = "files", actions = ["', ["read", "write"]),
        (f"{APP}# [limits]\n# mem", ["memory"]),
        (f"{APP}# ///", ["# ///"]),
    ],
)
def test_completion_of_an_app_and_its_manifest(shell: InteractiveShell, text: str, found: list[str]) -> None:
    shell.push({"frame": 1})
    assert complete(shell, text, whole=True) == found


def test_below_the_manifest_python_is_completed(shell: InteractiveShell) -> None:
    shell.push({"memory_of_mine": 1})
    below = f"{APP}# [limits]\n# ///\nmemory_of"
    assert complete(shell, below, whole=True) == ["memory_of_mine"]
    assert complete(shell, "# /// app\n# [limits]\n# memory_of", whole=True) != [
        "memory"
    ]  # no cell of an app


def test_help(shell: InteractiveShell) -> None:
    text = shell.magics_manager.magics["cell"]["sandbox"].__doc__
    assert text is not None
    assert "--memory" in text
    assert "Run this cell in a guest" in text


def test_unload_removes_everything(shell: InteractiveShell) -> None:
    from kernel_runtime.jupyter import magics

    before = len(shell.Completer.custom_matchers)
    magics.unload_ipython_extension(shell)
    assert "sandbox" not in shell.magics_manager.magics["cell"]
    assert "sandbox" not in shell.magics_manager.magics["line"]
    assert len(shell.Completer.custom_matchers) == before - 1
    magics.load_ipython_extension(shell)
    run(shell, "", "1")


def test_payloads_of_a_guest_do_nothing(shell: InteractiveShell) -> None:
    told: list[Any] = []
    shell.set_next_input = lambda *a, **k: told.append(a)
    run(shell, "", "get_ipython().set_next_input('evil')")
    assert told == []


def test_logs_and_permissions_of_guests_in_panels(
    shell: InteractiveShell, displays: Displays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a plain shell there are no widgets; what stands for them is displayed."""
    monkeypatch.setenv("KERNEL_RUNTIME_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def shown(line: str) -> dict[str, Any]:
        shell.run_line_magic("sandbox", line)
        data: dict[str, Any] = displays.published[-1]["data"]
        return data

    run(shell, "--name one", "from kernel_runtime.sdk import log\nprint('said')\nlog.warning('wrote', n=1)")
    with pytest.raises(SandboxError):
        run(shell, "--name two", "from kernel_runtime.sdk import clock\nclock.now()")
    with pytest.raises(SandboxError):
        run(shell, "--name two", "import os; os._exit(3)")
    first = shown("logs")
    for line in (
        "stdout one: said",
        "log    one: wrote n=1",
        "stderr two: CapabilityDenied: clock",
        "audit  two: decision ask clock",
        "host   two: ",
    ):
        assert line in first["text/plain"]
    assert (
        shown("logs")["application/vnd.jupyter.widget-view+json"]
        == first["application/vnd.jupyter.widget-view+json"]
    )
    assert "permissions of %%sandbox one" in shown("permissions")["text/plain"]
    assert "asks    clock" in shown("permissions two")["text/plain"]
    with pytest.raises(UsageError, match="no guest is called 'three'; there are: one, two"):
        shown("permissions three")
    shell.run_line_magic("sandbox", "kill two")
    assert "permissions of %%sandbox one" in shown("permissions")["text/plain"]
    assert "two:" not in shown("resources")["text/plain"]
