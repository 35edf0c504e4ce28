"""The panel of snapshots in a real JupyterLab: what a person presses, and what the kernel then holds.

Screenshots lie in pytest's temporary directory, or in ``$KERNEL_RUNTIME_SCREENSHOTS``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.keys import Keys

from tests.journeys import lab
from tests.journeys.lab import Notebook, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium import webdriver

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

DARK, LIGHT = "JupyterLab Dark", "JupyterLab Light"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("panel")


@pytest.fixture(scope="module")
def address(place: Path, jupyter: dict[str, str]) -> Iterator[str]:
    with lab.server(place, {**jupyter, "KERNEL_RUNTIME_WARM": "0"}) as found:
        yield found


@pytest.fixture(scope="module")
def driver(place: Path) -> Iterator[webdriver.Chrome]:
    with lab.browser(place) as found:
        yield found


@pytest.fixture
def panel(
    request: pytest.FixtureRequest, driver: webdriver.Chrome, address: str, place: Path
) -> Iterator[Panel]:
    """A notebook that can open the panel; photographed at the end, in both themes."""
    shots = Path(os.environ.get("KERNEL_RUNTIME_SCREENSHOTS") or place / "screenshots")
    shots.mkdir(parents=True, exist_ok=True)
    found = Panel(driver, address, place)
    yield found
    for theme in (DARK, LIGHT):
        found.theme(theme)
        name = request.node.name.removeprefix("test_")
        found.screenshot(shots / f"{name}_{theme.split()[-1].lower()}.png")


class Panel(Notebook):
    """A notebook with the panel in the output of one of its cells."""

    index = 0

    def show(self, index: int) -> None:
        """Run the cell that opens the panel."""
        self.index = index
        self.run(index, "Snapshots")

    def rows(self) -> list[str]:
        """The texts of the tree's rows, newest first, without the state as it is now."""
        script = (
            "const cell = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[arguments[0]];"
            "return [...cell.querySelectorAll('.kr-tree tbody tr')].map(row => row.innerText)"
        )
        return list(self.driver.execute_script(script, self.index))[1:]

    def wait_rows(self, pattern: str) -> None:
        wait_until(
            lambda: re.search(pattern, "\n".join(self.rows()), re.DOTALL), 20, f"{pattern}: {self.rows()}"
        )

    def choose(self, pattern: str) -> None:
        """Press the row that matches."""
        found = [number for number, row in enumerate(self.rows()) if re.search(pattern, row)]
        assert found, (pattern, self.rows())
        # the button under the mouse, as a person hits it: the picture above lets clicks through
        buttons = self.cells()[self.index].find_elements("css selector", ".kr-rows button")
        assert len(buttons) == len(self.rows())
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", buttons[found[0]])
        buttons[found[0]].click()
        wait_until(
            lambda: "mod-active" in str(self._row(found[0]).get_attribute("class")), 10, "it is not chosen"
        )

    def _row(self, number: int):
        return self.cells()[self.index].find_elements("css selector", ".kr-rows button")[number]

    def button(self, label: str):
        buttons = self.cells()[self.index].find_elements("css selector", ".kr-actions button")
        return next(each for each in buttons if each.text.strip() == label)

    def press_panel(self, label: str, says: str) -> None:
        """Press a button of the panel once it can be pressed; wait until the panel says so."""
        wait_until(lambda: self.button(label).is_enabled(), 10, f"{label} cannot be pressed")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.button(label))
        self.button(label).click()
        wait_until(lambda: re.search(says, self.said()), 20, f"{label}: {says!r}, it says {self.said()!r}")

    def said(self) -> str:
        return str(self.find(".kr-said", self.index).text)

    def theme(self, name: str) -> None:
        self.driver.execute_script(
            "window.jupyterapp.commands.execute('apputils:change-theme', {theme: arguments[0]})", name
        )
        light = str(name == LIGHT).lower()
        wait_until(
            lambda: self.driver.execute_script("return document.body.dataset.jpThemeLight") == light,
            20,
            f"no theme {name}",
        )


CELLS = ("data = [1, 2, 3]", "data.append(4); extra = 'x'", "data = data * 2", "%snapshots", "len(data)")


def test_restore_undo_and_redo(panel):
    panel.open(*CELLS, name="restore.ipynb")
    for index in range(3):
        panel.run(index)
    panel.show(3)
    assert panel.run(4, "8")
    panel.wait_rows(r"\[3\].*\[2\].*\[1\]")
    panel.choose(r"\[2\]")
    panel.press_panel("Restore", r"#\d+ is back")
    assert panel.run(4, "4")
    panel.press_panel("Undo", "The last cell is undone")
    panel.press_panel("Redo", "Taken back")
    panel.wait_rows("current")
