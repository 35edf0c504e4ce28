"""A real IPython shell with the extension loaded, and real guests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from kernel_runtime.jupyter import magics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Displays:
    """Keeps what is published instead of showing it."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.cleared: list[bool] = []
        self.is_publishing = False

    def publish(self, **message: Any) -> None:
        self.published.append(message)

    def clear_output(self, wait: bool = False) -> None:
        self.cleared.append(wait)


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all tests here: they share a zygote."""
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture
def shell(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.chdir(directory)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ".ipython"))
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance()
    made.colors = "nocolor"
    made.display_pub = Displays()
    magics.load_ipython_extension(made)
    yield made
    magics.unload_ipython_extension(made)
    InteractiveShell.clear_instance()


@pytest.fixture
def displays(shell: InteractiveShell) -> Displays:
    found: Displays = shell.display_pub
    return found
