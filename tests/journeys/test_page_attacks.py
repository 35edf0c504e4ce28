"""Every attack of ``page_attacks`` in a real browser: under our kernel, through ``%%sandbox`` and on
the page of ``run --html`` nothing comes through; under plain ipykernel each does.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from selenium.common.exceptions import WebDriverException

from tests.journeys.kernels import OURS, PLAIN
from tests.journeys.lab import Notebook, wait_until
from tests.journeys.markers import Markers, markers
from tests.journeys.page_attacks import ATTACKS, SETUP, Attack

if TYPE_CHECKING:
    from pathlib import Path

    from selenium import webdriver

pytestmark = pytest.mark.browser

#: Where a click ends a page's life it would ask first; nobody is there to answer.
_LET_LEAVE = "addEventListener('beforeunload', event => event.stopImmediatePropagation(), true)"
_PRESS = """
const target = [...document.querySelectorAll(arguments[0])].find(e => !arguments[1] || arguments[1].contains(e));
if (!target) return false;
for (const kind of ['mouseover', 'pointerenter', 'click'])
    target.dispatchEvent(new MouseEvent(kind, {bubbles: true, cancelable: true, view: window}));
return true;
"""
_INSPECT = """
if (!window.jupyterapp) return;
const panel = window.jupyterapp.shell.currentWidget, cells = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')];
panel.content.activeCellIndex = cells.indexOf(arguments[0]);
panel.content.activeCell.inputHidden = false;
panel.content.activeCell.editor.setCursorPosition({line: 0, column: 2});
window.jupyterapp.commands.execute('tooltip:launch-notebook');
"""
#: So long nothing new must come, and in the page of the control at most so long is waited for the rest.
QUIET_SECONDS, PATIENCE_SECONDS = 3.0, 90.0


class Battle:
    """Runs the attacks in one page and says which came through."""

    def __init__(self, driver: webdriver.Chrome, marker: Markers) -> None:
        self._driver = driver
        self._marker = marker

    def press_all(self, cells: list[Any]) -> None:
        """What a person presses, in the page or in a frame of it."""
        for attack, cell in zip(ATTACKS, cells, strict=True):
            if attack.inspect:
                self._driver.execute_script(_INSPECT, cell)
            if attack.click:
                with contextlib.suppress(WebDriverException):  # not there, or gone
                    self._press(attack, cell)
                self._driver.switch_to.default_content()

    def _press(self, attack: Attack, cell: Any) -> bool:
        if self._driver.execute_script(_PRESS, attack.click, cell):
            return True
        for frame in (cell or self._driver).find_elements("css selector", "iframe"):
            self._driver.switch_to.frame(frame)
            if self._press(attack, None):
                return True
            self._driver.switch_to.parent_frame()
        return False

    def came_through(self, expected: set[str]) -> set[str]:
        """Once nothing new has happened for a while."""
        known: set[str] = set()
        begun = since = time.monotonic()
        while (now := time.monotonic()) - since < QUIET_SECONDS or (
            not expected <= known and now - begun < PATIENCE_SECONDS
        ):
            time.sleep(0.1)
            if not (found := self._now()) <= known:
                known |= found
                since = time.monotonic()
        return known

    def _now(self) -> set[str]:
        script = "return [" + ",".join(f"[{a.name!r}, {a.came_through()}]" for a in ATTACKS) + "]"
        flags = {name for name, hit in self._driver.execute_script(script) if hit}
        return flags | (self._marker.called & {attack.name for attack in ATTACKS})


def _fought(
    driver: webdriver.Chrome, address: str, place: Path, marker: Markers, kernel: str, *, magic: str = ""
) -> set[str]:
    """All attacks as cells of one notebook; with ``magic`` before each."""
    notebook = Notebook(driver, address, place)
    load = ["%load_ext kernel_runtime"] if magic else []
    cells = [SETUP, *(attack.source(marker.aims) for attack in ATTACKS)]
    notebook.open(
        *load,
        *(magic + cell for cell in cells),
        name=f"{kernel}{len(load)}.ipynb",
        kernel=kernel,
        hidden=True,
    )
    driver.execute_script(_LET_LEAVE)
    notebook.run_all(180)
    ran = notebook.that_ran()[len(load) :]
    return _looked_at(driver, marker, ran, place / f"{kernel}{len(load)}.png")


def _paged(driver: webdriver.Chrome, place: Path, marker: Markers) -> set[str]:
    """All attacks on the HTML page of ``kernel-runtime run --html``."""
    notebook = new_notebook(cells=[new_code_cell(SETUP, metadata={"tags": ["raises-exception"]})])
    for attack in ATTACKS:
        notebook.cells.append(
            new_code_cell(attack.source(marker.aims), metadata={"tags": ["raises-exception"]})
        )
    nbformat.write(notebook, place / "paged.ipynb")
    command = [sys.executable, "-m", "kernel_runtime", "run", "paged.ipynb", "--html", "--quiet"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    driver.get((place / "paged.executed.html").as_uri())
    cells = driver.find_elements("css selector", ".jp-CodeCell")
    return _looked_at(driver, marker, cells, place / "page.png")


def _looked_at(driver: webdriver.Chrome, marker: Markers, cells: list[Any], photo: Path) -> set[str]:
    """What comes through once everything has been pressed; scripts in frames do run."""
    control = photo.name == f"{PLAIN}0.png"
    if not control:
        wait_until(
            lambda: _canary(driver, cells[0]) == "awake", PATIENCE_SECONDS, "scripts in frames do not run"
        )
    battle = Battle(driver, marker)
    battle.press_all(cells[1:])
    found = battle.came_through({attack.name for attack in ATTACKS if control and not attack.harmless})
    driver.save_screenshot(str(photo))
    first, *others = driver.window_handles
    for window in others:
        driver.switch_to.window(window)
        driver.close()
    driver.switch_to.window(first)
    return found


def _canary(driver: webdriver.Chrome, cell: Any) -> str:
    """What a script in the innermost frame of a cell has written there; empty while that is not loaded."""
    try:
        frames = cell.find_elements("css selector", "iframe")
        while frames:
            driver.switch_to.frame(frames[0])
            frames = driver.find_elements("css selector", "iframe")
        return str(driver.find_element("id", "canary").text)
    except WebDriverException:
        return ""
    finally:
        driver.switch_to.default_content()


# Each page has markers of its own: what the one before still sends does not count.


@pytest.fixture(scope="module")
def plain(driver: webdriver.Chrome, address: str, place: Path) -> set[str]:
    with markers() as marker:
        return _fought(driver, address, place, marker, PLAIN)


@pytest.fixture(scope="module")
def ours(driver: webdriver.Chrome, address: str, place: Path) -> set[str]:
    with markers() as marker:
        return _fought(driver, address, place, marker, OURS)


@pytest.fixture(scope="module")
def sandboxed(driver: webdriver.Chrome, address: str, place: Path) -> set[str]:
    with markers() as marker:
        return _fought(driver, address, place, marker, PLAIN, magic="%%sandbox\n")


@pytest.fixture(scope="module")
def page(driver: webdriver.Chrome, place: Path) -> set[str]:
    with markers() as marker:
        return _paged(driver, place, marker)


every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


@every_attack
def test_plain_ipykernel_lets_it_through(plain, attack):
    assert (attack.name in plain) is not bool(attack.harmless)


@every_attack
def test_our_kernel_does_not(ours, attack):
    assert attack.name not in ours


@pytest.mark.slow
@every_attack
def test_the_magic_does_not(sandboxed, attack):
    assert attack.name not in sandboxed


@pytest.mark.slow
@every_attack
def test_the_page_of_a_run_does_not(page, attack):
    assert attack.name not in page
