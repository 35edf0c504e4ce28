"""The panel of snapshots in a real JupyterLab: what a person presses, and what the kernel then holds.

Screenshots lie in pytest's temporary directory, or in ``$KERNEL_RUNTIME_SCREENSHOTS``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.keys import Keys

from tests.journeys import lab, panel_kernel
from tests.journeys.lab import Notebook, wait_until
from tests.journeys.panel_kernel import COMPARING, PATIENT
from tests.jupyter.kernels import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium import webdriver

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

DARK, LIGHT = "JupyterLab Dark", "JupyterLab Light"


@pytest.fixture(scope="module", autouse=True)
def kernels(prefix: Path) -> None:
    panel_kernel.install(prefix)


@pytest.fixture
def panel(
    request: pytest.FixtureRequest, driver: webdriver.Chrome, address: str, place: Path
) -> Iterator[Panel]:
    """A notebook that can open the panel; photographed at the end, in both themes."""
    found = Panel(driver, address, place)
    found.shots = lab.screenshots(place)
    yield found
    found.photograph(request.node.name.removeprefix("test_"))


class Panel(Notebook):
    """A notebook with the panel in the output of one of its cells."""

    index = 0
    shots: Path

    def show(self, index: int) -> None:
        """Run the cell that opens the panel."""
        self.index = index
        self.run(index, "Snapshots")

    def photograph(self, name: str) -> None:
        """The page around the panel, in both themes."""
        script = "document.querySelector('.kr-panel')?.scrollIntoView({block: 'center'})"
        self.driver.execute_script(script)
        for theme in (DARK, LIGHT):
            self.theme(theme)
            self.screenshot(self.shots / f"{name}_{theme.split()[-1].lower()}.png")

    def rows(self) -> list[str]:
        """The texts of the tree's rows, newest first, without the state as it is now."""
        script = (
            "const cell = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[arguments[0]];"
            "return [...cell.querySelectorAll('.kr-tree tbody tr')].map(row => row.innerText)"
        )
        return list(self.driver.execute_script(script, self.index))[1:]

    def wait_rows(self, pattern: str) -> None:
        wait_until(
            lambda: re.search(pattern, "\n".join(self.rows()), re.DOTALL),
            PATIENCE,
            lambda: f"{pattern}: {self.rows()}",
        )

    def choose(self, pattern: str) -> None:
        """Press the row that matches, once it is there."""
        self.wait_rows(pattern)
        found = [number for number, row in enumerate(self.rows()) if re.search(pattern, row)]
        # the button under the mouse, as a person hits it: the picture above lets clicks through
        buttons = self.cells()[self.index].find_elements("css selector", ".kr-rows button")
        assert len(buttons) == len(self.rows())
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", buttons[found[0]])
        buttons[found[0]].click()
        wait_until(
            lambda: "mod-active" in str(self._row(found[0]).get_attribute("class")),
            PATIENCE,
            "it is not chosen",
        )

    def _row(self, number: int):
        return self.cells()[self.index].find_elements("css selector", ".kr-rows button")[number]

    def button(self, label: str):
        buttons = self.cells()[self.index].find_elements("css selector", ".kr-actions button")
        return next(each for each in buttons if each.text.strip() == label)

    def press_panel(self, label: str, says: str) -> None:
        """Press a button of the panel once it can be pressed; wait until the panel says so."""
        wait_until(lambda: self.button(label).is_enabled(), PATIENCE, f"{label} cannot be pressed")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.button(label))
        self.button(label).click()
        wait_until(
            lambda: re.search(says, self.said()),
            PATIENCE,
            lambda: f"{label}: {says!r}, it says {self.said()!r}",
        )

    def said(self) -> str:
        return str(self.find(".kr-said", self.index).text)

    def reload(self) -> None:
        """Save, and load the page anew."""
        self.driver.execute_script("return window.jupyterapp.commands.execute('docmanager:save')")
        self.driver.refresh()
        wait_until(lambda: len(self.cells()) >= len(CELLS), PATIENCE, "the notebook does not open")

    def interrupt(self) -> None:
        self.driver.execute_script("window.jupyterapp.commands.execute('notebook:interrupt-kernel')")

    def theme(self, name: str) -> None:
        self.driver.execute_script(
            "window.jupyterapp.commands.execute('apputils:change-theme', {theme: arguments[0]})", name
        )
        script = "return document.body.dataset.jpThemeLight === arguments[0] && !document.querySelector('#jupyterlab-splash')"
        light = str(name == LIGHT).lower()
        wait_until(lambda: self.driver.execute_script(script, light), PATIENCE, f"no theme {name}")


CELLS = ("data = [1, 2, 3]", "data.append(4); extra = 'x'", "data = data * 2", "%snapshots", "len(data)")


def test_restore_undo_and_redo(panel):
    panel.open(*CELLS, name="restore.ipynb", kernel=PATIENT)
    for index in range(3):
        panel.run(index)
    panel.show(3)
    assert panel.run(4, "8")
    panel.wait_rows(r"\[3\].*\[2\].*\[1\]")
    panel.choose(r"\[2\]")
    panel.press_panel("Restore", r"#\d+ is back after \d+ ms")
    panel.run(4, r"\b4\b")
    panel.press_panel("Undo", "The last cell is undone")
    panel.press_panel("Redo", "Taken back")
    panel.run(4, r"\b4\b")


def test_a_guest_of_the_magic_has_it_in_an_ordinary_notebook(panel):
    guest = "%%sandbox --name scout\n"
    cells = (f"{guest}{cell}" for cell in ("data = [1]", "data.append(2)", "data"))
    panel.open(
        "%load_ext kernel_runtime",
        *cells,
        "%sandbox snapshots --name scout",
        "%sandbox kill scout",
        name="guest.ipynb",
        kernel="python3",
    )
    for index in range(3):
        panel.run(index)
    panel.index = 4
    panel.run(4, "Snapshots of scout")
    panel.choose(r"\[2\]")
    panel.press_panel("Restore", r"#\d+ is back after \d+ ms")
    panel.run(3, r"\[1\]")
    panel.press_panel("Undo", "The last cell is undone")
    panel.photograph("guest_of_the_magic")
    panel.run(5)
    wait_until(lambda: not panel.rows(), 20, "its guest is gone, and it stays")


def test_pin_and_drop(panel):
    panel.open(*CELLS, name="pin.ipynb", kernel=PATIENT)
    for index in range(3):
        panel.run(index)
    panel.show(3)
    panel.choose(r"\[1\]")
    panel.press_panel("Pin", r"#\d+ is kept")
    panel.wait_rows(r"#2\s*pinned")
    assert not panel.button("Drop").is_enabled(), "what is pinned is not dropped"
    panel.press_panel("Unpin", "no longer pinned")
    panel.press_panel("Drop", "#2 is dropped")
    wait_until(lambda: len(panel.rows()) == 2, PATIENCE, "it is still there")
    assert panel.run(4, "8"), "dropping a snapshot leaves the state alone"


def test_two_lines_of_state_from_one_snapshot(panel):
    panel.open(*CELLS, "data = 'the other'", "data", name="lines.ipynb", kernel=PATIENT)
    for index in range(3):
        panel.run(index)
    panel.show(3)
    panel.choose(r"\[1\]")
    panel.find(".kr-actions input[type=text]", 3).send_keys("try-2", Keys.TAB)
    panel.press_panel("Branch", "The line try-2 begins at #2")
    panel.run(4, r"\b3\b")
    panel.run(5)
    panel.wait_rows("try-2")
    panel.press_panel("Switch", "The line main goes on")
    panel.run(4, "8")
    panel.press_panel("Switch", "The line try-2 goes on")
    panel.run(6, "the other")


def test_it_is_live_while_a_cell_runs_and_says_why_not(panel):
    panel.open(*CELLS, "import time\ntime.sleep(600)", name="busy.ipynb", kernel=PATIENT)
    panel.run(0)
    panel.show(3)
    panel.start(5)
    panel.wait_rows("#2")
    panel.choose("#1")
    panel.press_panel("Restore", "A cell is running: interrupt it first, or wait for its end.")
    panel.photograph("refused")
    panel.press_panel("Pin", "#1 is kept")
    panel.interrupt()
    panel.expect(5, "KeyboardInterrupt")
    panel.wait_idle()  # the error is seen before the cell is over
    panel.press_panel("Restore", "#1 is back")


def test_it_comes_back_after_a_reload_beside_the_guests_own_widgets(panel):
    slider = "import ipywidgets\nslider = ipywidgets.IntSlider(value=3, description='mine')\nslider"
    panel.open(*CELLS, slider, "slider.value", name="beside.ipynb", kernel=PATIENT)
    panel.run(0)
    panel.run(5, "mine")
    panel.show(3)
    panel.reload()
    panel.wait_rows("#2")
    panel.choose("#1")
    panel.press_panel("Pin", "#1 is kept")
    panel.find(".noUi-handle", 5).send_keys(Keys.ARROW_RIGHT)
    panel.wait_idle()
    panel.run(6, "4")


def test_it_comes_back_after_a_reload_also_while_a_cell_runs(panel):
    panel.open(*CELLS, "import time\ntime.sleep(600)", name="reload.ipynb", kernel=PATIENT)
    panel.run(0)
    panel.show(3)
    panel.start(5)
    panel.reload()
    panel.wait_rows("#2")
    panel.choose("#1")
    panel.press_panel("Pin", "#1 is kept")
    panel.interrupt()


def test_a_reload_while_a_cell_runs_beside_the_guests_own_widgets(panel):
    """Both are back at once; what is done to the guest's is heard when its cell is over."""
    slider = "import ipywidgets\nslider = ipywidgets.IntSlider(value=3, description='mine')\nslider"
    panel.open(
        *CELLS, slider, "import time\ntime.sleep(600)", "slider.value", name="both.ipynb", kernel=PATIENT
    )
    panel.run(0)
    panel.run(5, "mine")
    panel.show(3)
    panel.start(6)
    panel.reload()
    panel.find(".noUi-handle", 5).send_keys(Keys.ARROW_RIGHT)
    panel.wait_rows("#2")
    panel.choose("#1")
    panel.press_panel("Pin", "#1 is kept")
    assert panel.status() == "busy", "the cell has gone on all the while"
    panel.interrupt()
    panel.wait_idle()
    panel.run(7, "4")


def test_after_a_restart_of_the_kernel_a_new_panel_opens(panel):
    panel.open(*CELLS, name="restart.ipynb", kernel=PATIENT)
    panel.run(0)
    panel.show(3)
    panel.wait_rows("#1")
    states = panel.note_states()
    panel.press("restart")
    panel.confirm()
    wait_until(lambda: "restarting" in states(), PATIENCE, "it does not restart")
    panel.wait_idle()
    panel.run(0)
    panel.run(1)
    panel.show(3)
    panel.wait_rows("#2.*#1")
    panel.choose("#2")
    panel.press_panel("Restore", "#2 is back")
    panel.run(4, r"\b3\b")


def test_two_snapshots_are_compared(panel):
    panel.open(*CELLS, name="diff.ipynb", kernel=COMPARING)
    for index in range(3):
        panel.run(index)
    panel.show(3)
    panel.choose("#3")
    panel.press_panel("Compare", "variables differ from #2 to #3")
    said = panel.output(3)
    assert "<b>not bold</b>" in said
    assert "list of 4" in said
    assert panel.driver.execute_script("return window.hacked || 0") == 0
