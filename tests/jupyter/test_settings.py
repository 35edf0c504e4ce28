"""Where limits and level come from, and what may not be asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level, Rung
from kernel_runtime.domain.limits import GIB, MIB
from kernel_runtime.jupyter import limits_magic
from kernel_runtime.jupyter.identity import banner
from kernel_runtime.jupyter.settings import Settings, cell_source, parse_arguments, resolve, tighten

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("JUPYTER_CONFIG_PATH", "JUPYTER_NO_CONFIG", "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "config"
    directory.mkdir()
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(directory))
    return directory


def notebook(path: Path, **mine: object) -> dict[str, str]:
    path.write_text(json.dumps({"cells": [], "metadata": {"kernel_runtime": mine}}))
    return {"JPY_SESSION_NAME": str(path)}


def test_defaults() -> None:
    settings = resolve(["-f", "x.json"], {})
    assert (settings.limits.memory, settings.level, settings.origins) == (4 * GIB, Level.MODERATE, {})
    assert settings.connection_file == "x.json"


def test_places_from_weak_to_strong(config: Path) -> None:
    (config / "jupyter_kernel_runtime_config.json").write_text(
        json.dumps({"KernelRuntime": {"memory": "3G", "pids": 64, "wall": "1m"}})
    )
    (config / "jupyter_kernel_runtime_config.py").write_text("c.KernelRuntime.memory = '2G'")
    settings = resolve(["--memory", "1G", "--pids=32"], {"KERNEL_RUNTIME_MEMORY": "512M"})
    assert settings.limits.memory == 512 * MIB
    assert (settings.limits.pids, settings.limits.wall) == (32, 60.0)
    assert settings.origins["memory"] == "environment"
    assert settings.origins["pids"] == "kernelspec"
    assert settings.origins["wall"].endswith("_config.json")


def test_arguments_of_every_form() -> None:
    words = ["-f", "c.json", "--KernelRuntime.memory=1G", "--level", "strict", "--IPKernelApp.x=1"]
    parsed = parse_arguments([*words, "--HistoryManager.hist_file=:memory:"])
    assert parsed.values == {"memory": "1G", "level": "strict", "history": ":memory:"}
    assert parsed.rest == ["--IPKernelApp.x=1"]


def test_a_notebook_may_only_tighten(tmp_path: Path) -> None:
    asked = notebook(tmp_path / "n.ipynb", limits={"memory": "512M", "disk": "900G"}, level="permissive")
    settings = resolve([], asked)
    assert settings.limits.memory == 512 * MIB
    assert settings.limits.disk == 512 * MIB
    assert settings.level is Level.MODERATE
    assert settings.origins["memory"] == "notebook n.ipynb"
    assert len(settings.notes) == 2
    stricter = resolve([], notebook(tmp_path / "s.ipynb", level="strict"))
    assert stricter.level is Level.STRICT


@pytest.mark.parametrize("text", ["", "{", "[]", '{"metadata": 3}'])
def test_a_broken_notebook_asks_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(text)
    assert resolve([], {"JPY_SESSION_NAME": str(path)}).error is None


@pytest.mark.parametrize(
    ("arguments", "environment", "place"),
    [
        (["--memory", "lots"], {}, "kernelspec.memory"),
        ([], {"KERNEL_RUNTIME_WALL": "soon"}, "KERNEL_RUNTIME_WALL: "),
        ([], {"KERNEL_RUNTIME_LEVEL": "none"}, "KERNEL_RUNTIME_LEVEL: "),
        ([], {"KERNEL_RUNTIME_CHECK": "maybe"}, "KERNEL_RUNTIME_CHECK: "),
        ([], {"KERNEL_RUNTIME_ALLOW": "nett:x"}, "KERNEL_RUNTIME_ALLOW: "),
        (["--pids", "0"], {}, "kernelspec.pids"),
    ],
)
def test_what_is_no_amount_is_kept_as_the_error(
    arguments: list[str], environment: dict[str, str], place: str
) -> None:
    settings = resolve(arguments, environment)
    assert isinstance(settings.error, Invalid)
    assert place in str(settings.error)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".json", '{"KernelRuntime": {"memroy": "1G"}}'),
        (".json", "{"),
        (".py", "1/0"),
        (".py", "c.KernelRuntime.memory = 'x'"),
    ],
)
def test_a_broken_configuration_is_named(config: Path, name: str, text: str) -> None:
    path = config / f"jupyter_kernel_runtime_config{name}"
    path.write_text(text)
    assert str(path) in str(resolve([], {}).error)


def test_a_cell_may_only_tighten() -> None:
    settings = Settings()
    source = cell_source(b'{"kernel_runtime":{"limits":{"output":"1M","memory":"64G"}}}')
    assert source is not None
    tighten(settings, source)
    assert settings.limits.output == MIB
    assert settings.limits.memory == 4 * GIB
    assert cell_source(b'{"tags":[]}') is None
    with pytest.raises(Invalid, match="cell metadata"):
        cell_source(b'{"kernel_runtime":{"limits":{"x":1}}}')


def test_the_magic_shows_amounts_and_places() -> None:
    settings = resolve(["--memory", "1G"], {})
    settings.notes.append("<b>asked</b>")
    bundle = limits_magic.answer("show", settings)
    assert "1 GB" in bundle["text/plain"]
    assert "kernelspec" in bundle["text/plain"]
    assert "&lt;b&gt;" in bundle["text/html"]
    assert limits_magic.recognise(" %limits \n") == "show"
    assert limits_magic.recognise("%limits?") == limits_magic.recognise("%limits -h") == "help"
    assert limits_magic.recognise("%limits\n1") is None
    assert limits_magic.completions("%l") == ["%limits"]
    assert limits_magic.completions("l") == []


def test_the_weakest_rung_is_accepted_by_a_person_and_never_by_a_notebook(tmp_path: Path) -> None:
    assert resolve(["--rung", "landlock"], {}).rung is Rung.LANDLOCK
    assert resolve(["--rung", "landlock"], {"KERNEL_RUNTIME_RUNG": "namespaces"}).rung is Rung.NAMESPACES
    refused = resolve([], {"KERNEL_RUNTIME_RUNG": "none"}).error
    assert refused is not None
    assert "KERNEL_RUNTIME_RUNG: 'none' is not a rung; choose one of namespaces, landlock" in str(refused)
    notebook = tmp_path / "asking.ipynb"
    notebook.write_text('{"metadata": {"kernel_runtime": {"rung": "landlock", "limits": {}}}, "cells": []}')
    assert resolve([], {"JPY_SESSION_NAME": str(notebook)}).rung is None


def test_the_banner_says_on_which_rung_it_stands_and_what_is_missing() -> None:
    settings = Settings()
    assert "Walls (rung namespaces): pid, net" in banner(settings, ["pid", "net"])
    second = banner(settings, ["landlock", "seccomp"], {"net": "every socket is refused"})
    assert "Walls (rung landlock): landlock, seccomp\nWithout net: every socket is refused\n" in second


def test_every_limit_is_a_setting_in_every_place(config: Path) -> None:
    texts = {"cpus": "0.5", "session": "2h", "inodes": "999", "file_size": "1M", "open_files": "99"}
    texts |= {"messages": "99", "network": "1G", "bandwidth": "1M/s", "flood": "end"}
    python = "\n".join(f"c.KernelRuntime.{name} = {text!r}" for name, text in texts.items())
    by_file = config / "jupyter_kernel_runtime_config.py"
    by_file.write_text(python)
    configured = resolve([], {})
    by_file.unlink()
    flags = [f"--{name.replace('_', '-')}={text}" for name, text in texts.items()]
    environment = {f"KERNEL_RUNTIME_{name.upper()}": text for name, text in texts.items()}
    metadata = {"limits": {n: t for n, t in texts.items() if n != "flood"}, "flood": "end"}
    tightened = Settings()
    tighten(tightened, cell_source(json.dumps({"kernel_runtime": metadata}).encode()))
    for settings in (configured, resolve(flags, {}), resolve([], environment), tightened):
        assert settings.error is None
        assert settings.flood == "end"
        assert (settings.limits.cpus, settings.limits.session, settings.limits.file_size) == (0.5, 7200, MIB)
        assert (settings.limits.network, settings.limits.bandwidth) == (GIB, MIB)
    assert "0.5 cores" in limits_magic.answer("show", configured)["text/plain"]


def test_a_flood_policy_is_only_tightened_by_a_notebook() -> None:
    settings = Settings(flood="end")
    tighten(settings, cell_source(b'{"kernel_runtime":{"flood":"cut"}}'))
    assert settings.flood == "end"
    assert "may only tighten" in settings.notes[0]


def test_every_limit_has_a_trait_an_option_and_a_completion() -> None:
    from kernel_runtime.cli.options import LIMIT_OPTIONS
    from kernel_runtime.jupyter.completion import OPTIONS
    from kernel_runtime.jupyter.settings import LIMITS
    from kernel_runtime.jupyter.traits import KernelRuntime

    assert set(LIMITS) == set(LIMIT_OPTIONS)
    assert [name for name in (*LIMITS, "flood") if not hasattr(KernelRuntime, name)] == []
    assert [flag for flag, _, _ in LIMIT_OPTIONS.values() if flag not in OPTIONS] == []


def test_a_notebooks_manifest_stands_beside_its_settings(tmp_path: Path) -> None:
    """Limits of an app are none of the kernel's, and the level it asks for tightens like ``level``."""
    asking = notebook(
        tmp_path / "n.ipynb",
        limits={"memory": "512M", "storage": "10M", "api_calls": "1000/day"},
        security={"level": "strict"},
        permissions=[{"type": "cache"}],
    )
    settings = resolve([], asking)
    assert settings.error is None
    assert settings.limits.memory == 512 * 1024**2
    assert settings.level is Level.STRICT
    looser = resolve(["--level", "strict"], notebook(tmp_path / "l.ipynb", security={"level": "permissive"}))
    assert looser.level is Level.STRICT


def test_a_manifest_that_is_none_is_told_at_the_start(tmp_path: Path) -> None:
    """The notebook's own is a warning, for its cells may run; one that the person names keeps them from it."""
    wrong = notebook(tmp_path / "n.ipynb", permissions=[{"type": "cache", "resurce": "x"}])
    settings = resolve([], wrong)
    assert settings.error is None
    assert "n.ipynb:1: permissions[0].resurce: no key is called 'resurce'" in settings.warning
    assert settings.warning in limits_magic.answer("show", settings)["text/plain"]
    assert (
        "limits: is to be a table, not text"
        in resolve([], notebook(tmp_path / "l.ipynb", limits="512M")).warning
    )
    right = notebook(
        tmp_path / "r.ipynb", permissions=[{"type": "cache"}], run={"status": "ok"}, level="strict"
    )
    assert resolve([], right).warning == ""
    (tmp_path / "app.toml").write_text('id = "a"\nnmae = "A"\n')
    named = resolve(["--manifest", str(tmp_path / "app.toml")], right)
    assert "app.toml:2: nmae" in str(named.error)
