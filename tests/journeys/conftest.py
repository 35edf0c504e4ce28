"""A temporary Jupyter: our kernelspec installed into its own prefix, beside plain ipykernel; for modules that ask
for it its server, and a browser."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from kernel_runtime.jupyter import kernelspec
from tests.conftest import unmeasured
from tests.journeys import lab
from tests.journeys.kernels import PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium import webdriver

PLAIN_SPEC = {
    "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
    "display_name": "Plain",
    "language": "python",
}


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix with two kernels: ours, installed as ``kernel-runtime install`` does, and ipykernel."""
    place = tmp_path_factory.mktemp("prefix")
    kernels = kernelspec.kernels_dir(prefix=str(place))
    kernelspec.write_spec(kernels)
    (kernels / PLAIN).mkdir()
    (kernels / PLAIN / "kernel.json").write_text(json.dumps(PLAIN_SPEC))
    return place


@pytest.fixture(scope="session")
def jupyter_paths(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment that keeps Jupyter away from everything of this user and this machine."""
    home = tmp_path_factory.mktemp("jupyter-home")
    places = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    return {
        **places,
        "JUPYTER_PATH": str(prefix / "share" / "jupyter"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_NO_CONFIG": "1",
    }


@pytest.fixture(scope="module", autouse=True)
def jupyter(jupyter_paths: dict[str, str]) -> Iterator[dict[str, str]]:
    """That environment, for this process and those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - unmeasured(os.environ).keys():
            patch.delenv(name)
        for name, value in jupyter_paths.items():
            patch.setenv(name, value)
        yield dict(os.environ)


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server and the browser of a module keep their things; notebooks are in ``work``."""
    return tmp_path_factory.mktemp(request.module.__name__.rpartition("test_")[2])


@pytest.fixture(scope="module")
def environment(jupyter: dict[str, str]) -> dict[str, str]:
    """What the server is started with; for a module to replace."""
    return {**jupyter, "KERNEL_RUNTIME_WARM": "0"}


@pytest.fixture(scope="module")
def program() -> str:
    """Which server it is; for a module to replace."""
    return "jupyterlab"


@pytest.fixture(scope="module")
def address(place: Path, environment: dict[str, str], program: str) -> Iterator[str]:
    """Of the server that runs."""
    with lab.server(place, environment, program) as found:
        yield found


@pytest.fixture(scope="module")
def driver(place: Path) -> Iterator[webdriver.Chrome]:
    with lab.browser(place) as found:
        yield found
