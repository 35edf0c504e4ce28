"""Where limits and level come from, and what may not be asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.domain.errors import Invalid
from kernel_runtime.domain.level import Level
from kernel_runtime.domain.limits import GIB, MIB
from kernel_runtime.jupyter import limits_magic
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
        ([], {"KERNEL_RUNTIME_WALL": "soon"}, "environment.wall"),
        ([], {"KERNEL_RUNTIME_LEVEL": "none"}, "environment.level"),
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
    assert limits_magic.recognise("%limits?") == "help"
    assert limits_magic.recognise("%limits\n1") is None
    assert limits_magic.completions("%l") == ["%limits"]
    assert limits_magic.completions("l") == []
