"""The check before a cell runs: what is shown, what is refused, and what it may cost."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level
from kernel_runtime.jupyter.advice import (
    MAX_CELL,
    Advice,
    CheckRefused,
    Mode,
    load_policy,
    mode_for,
    parse_mode,
)
from kernel_runtime.jupyter.notebook import kernel_flags
from kernel_runtime.jupyter.settings import resolve
from tests.jupyter.kernels import REAL, SCRIPTED, kinds, running, text_of

if TYPE_CHECKING:
    from pathlib import Path

CELL = "number\nimport os as o\no.system('<b>')"


def advice(mode: Mode) -> Advice:
    return Advice(mode, load_policy(""))


def test_a_notice_is_one_display_with_line_severity_and_suggestion() -> None:
    bundle = advice(Mode.SHOW).judge(CELL)
    assert bundle is not None
    assert bundle["text/plain"].startswith("check: line 3: error: uses os.system (as o.system); use pathlib")
    assert "line 3" in bundle["text/html"]
    assert "<b>error</b>" in bundle["text/html"]
    assert advice(Mode.SHOW).judge("x = 1") is None
    assert advice(Mode.OFF).judge(CELL) is None


def test_what_the_source_says_is_text_in_the_page() -> None:
    policy = load_policy("")
    shown = Advice(Mode.SHOW, policy).judge("getattr(__import__('<img src=x>'), n)\nimport subprocess")
    assert shown is not None
    assert "<img" not in shown["text/html"]


def test_many_findings_are_cut() -> None:
    bundle = advice(Mode.SHOW).judge("eval('1')\n" * 40)
    assert bundle is not None
    assert "… and 28 more" in bundle["text/plain"]
    assert bundle["text/html"].count("<tr>") == 14


def test_refuse_names_what_it_refuses() -> None:
    with pytest.raises(CheckRefused, match=r"nothing of it was run\nline 3: error: uses os.system"):
        advice(Mode.REFUSE).judge(CELL)
    with pytest.raises(CheckRefused, match=r"cannot be checked.*line 1"):
        advice(Mode.REFUSE).judge("def f(:")
    with pytest.raises(CheckRefused, match="not checked"):
        advice(Mode.REFUSE).judge("#" * (MAX_CELL + 1))
    warned = advice(Mode.REFUSE).judge("import socket")
    assert warned is not None


def test_a_syntax_error_is_left_to_python_and_a_long_cell_is_named() -> None:
    assert advice(Mode.SHOW).judge("def f(:") is None
    bundle = advice(Mode.SHOW).judge("#" * (MAX_CELL + 1))
    assert bundle == {"text/plain": f"check: longer than {MAX_CELL} characters: not checked"}


def test_the_longest_cell_takes_a_bounded_time() -> None:
    line = "o.a.b.c(x)[y] = [i for i in z if i.q]\n"
    cell = "import os as o\n" + line * ((MAX_CELL - 20) // len(line))
    began = time.process_time()
    advice(Mode.SHOW).judge(cell)
    assert time.process_time() - began < 20  # some 0.15 s; what grows with the square takes minutes


def test_modes() -> None:
    assert mode_for("", False, Level.MODERATE) is Mode.OFF
    assert mode_for("", False, Level.PERMISSIVE) is Mode.OFF
    assert mode_for("", True, Level.MODERATE) is Mode.SHOW
    assert mode_for("", False, Level.STRICT) is Mode.SHOW
    assert mode_for("off", True, Level.STRICT) is Mode.OFF
    assert parse_mode(" Refuse ") is Mode.REFUSE
    with pytest.raises(Invalid, match="choose one of off, show, refuse"):
        parse_mode("maybe")


# -- settings ---------------------------------------------------------------------------------------


def test_settings_come_from_flags_and_environment(tmp_path: Path) -> None:
    policy = tmp_path / "team.toml"
    policy.write_text("[check]\n")
    settings = resolve(["--check", "show"], {"KERNEL_RUNTIME_POLICY": str(policy)})
    assert (settings.check, settings.policy, settings.error) == ("show", str(policy), None)
    assert settings.origins["policy"] == "environment"
    flags = kernel_flags(settings)
    assert {f"--KernelRuntime.policy={policy}", "--KernelRuntime.check=show"} <= set(flags)


def test_a_malformed_policy_keeps_every_cell_from_running(tmp_path: Path) -> None:
    policy = tmp_path / "team.toml"
    policy.write_text("[check]\nblok = []\n")
    settings = resolve(["--policy", str(policy)], {})
    assert f"{policy}:2: check: no key is called 'blok'; did you mean 'block'?" in str(settings.error)
    assert "cannot be read" in str(resolve(["--policy", str(tmp_path / "none")], {}).error)
    assert "choose one of" in str(resolve(["--check", "maybe"], {}).error)
    with running(SCRIPTED, "--policy", str(policy)) as kernel:
        reply, outputs = kernel.run("number")
        assert (reply["content"]["ename"], kinds(outputs)) == ("Invalid", ["error"])
        assert "did you mean 'block'?" in reply["content"]["evalue"]


# -- in a kernel ----------------------------------------------------------------------------------------


def test_the_notice_comes_before_the_cell_s_own_output() -> None:
    with running(SCRIPTED, "--check", "show") as kernel:
        reply, outputs = kernel.run(CELL)
        assert reply["content"]["status"] == "ok"
        assert kinds(outputs) == ["display_data", "stream"]
        assert "uses os.system" in outputs[1]["content"]["data"]["text/plain"]
        assert text_of(outputs)
        _, silent = kernel.run(CELL, silent=True)
        assert kinds(silent) == ["stream"]
        kernel.run("import subprocess as p")
        assert "subprocess" not in str(kernel.run("number")[1])


def test_the_person_s_own_policy_is_read_without_being_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "kernel-runtime"
    place.mkdir(mode=0o755)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    policy = place / "policy.toml"
    policy.write_text('[check]\nblock = [{name = "number", severity = "warning"}]\n')
    policy.chmod(0o644)
    with running(SCRIPTED) as kernel:
        _, outputs = kernel.run(CELL)
        assert kinds(outputs) == ["display_data", "stream"]
    policy.write_text('deny = ["process"]\n')
    with running(SCRIPTED) as kernel:
        assert kinds(kernel.run(CELL)[1]) == ["stream"]
    policy.write_text("[check]\nblok = []\n")
    assert "no key is called 'blok'" in str(resolve([], dict(os.environ)).error)
    assert resolve(["--check", "off"], dict(os.environ)).error is None


def test_a_refused_cell_does_not_reach_the_guest() -> None:
    with running(SCRIPTED, "--check", "refuse") as kernel:
        for silent in (False, True):
            reply, outputs = kernel.run(CELL, silent=silent)
            assert reply["content"]["ename"] == "CheckRefused"
            assert "line 3: error: uses os.system" in reply["content"]["evalue"]
            assert kinds(outputs) == ([] if silent else ["error"])
        assert kernel.run("number")[0]["content"]["status"] == "ok"


def test_moderate_says_nothing_and_strict_says_it_twice() -> None:
    with running(SCRIPTED) as kernel:
        assert kinds(kernel.run(CELL)[1]) == ["stream"]
    with running(REAL, "--level", "strict") as kernel:
        reply, outputs = kernel.run("import ctypes")
        assert reply["content"]["ename"] == "PolicyError"
        assert kinds(outputs) == ["display_data", "error"]
        reply, outputs = kernel.run("x = [1]\nx[0] += 1\nx")
        assert kinds(outputs) == ["execute_result"]
