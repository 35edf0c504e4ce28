"""JupyterLab's debugger on our kernel: press the bug, click a gutter, look, go on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.by import By

from tests.journeys import lab
from tests.journeys.lab import Notebook, wait_until
from tests.jupyter.kernels import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium import webdriver

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FUNCTION = "def add(a, b):\n    total = a + b\n    return total"
BUG = ".jp-DebuggerBugButton"


@pytest.fixture
def notebook(driver: webdriver.Chrome, address: str, place: Path) -> Iterator[Notebook]:
    found = Notebook(driver, address, place)
    yield found
    found.screenshot(lab.screenshots(place) / "debugger.png")


def command(notebook: Notebook, name: str) -> None:
    notebook.driver.execute_script("window.jupyterapp.commands.execute(arguments[0])", name)


def start(notebook: Notebook) -> None:
    """Press the bug; it is there before it does anything."""

    def pressed() -> bool:
        button = notebook.find(BUG)
        if button.get_attribute("aria-pressed") == "true":
            return True
        time.sleep(0.5)
        if button.get_attribute("aria-pressed") != "true":
            button.click()
        return False

    wait_until(pressed, PATIENCE, "the debugger does not start")


def is_enabled(notebook: Notebook, name: str) -> bool:
    script = "return window.jupyterapp.commands.isEnabled(arguments[0])"
    return bool(notebook.driver.execute_script(script, name))


def text(notebook: Notebook, selector: str) -> str:
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText).join('\\n')"
    return str(notebook.driver.execute_script(script, selector))


def break_at(notebook: Notebook, cell: int, line: int) -> None:
    """Click into the gutter beside a line (from 1)."""
    gutter = ".cm-breakpoint-gutter .cm-gutterElement"
    lines = wait_until(
        lambda: notebook.cells()[cell].find_elements(By.CSS_SELECTOR, gutter),
        PATIENCE,
        "no gutter for breakpoints",
    )
    shown = [each for each in lines if each.value_of_css_property("visibility") == "visible"]
    shown[line - 1].click()
    # The dot comes before the kernel has answered, the panel's entry after it.
    wait_until(
        lambda: "Cell" in text(notebook, ".jp-DebuggerBreakpoints"), PATIENCE, "no breakpoint is listed"
    )


def test_debug_a_cell(notebook: Notebook) -> None:
    notebook.open(FUNCTION, "known = 41\nresult = add(known, 1)\nprint('sum', result)")
    command(notebook, "debugger:show-panel")
    start(notebook)
    break_at(notebook, 0, 2)
    notebook.run(0)
    notebook.start(1)
    wait_until(
        lambda: "add" in text(notebook, ".jp-DebuggerCallstack"), PATIENCE, "the call stack stays empty"
    )
    wait_until(
        lambda: "41" in text(notebook, ".jp-DebuggerVariables"), PATIENCE, "the variables are not shown"
    )
    assert notebook.status() == "busy"
    assert is_enabled(notebook, "debugger:next")
    command(notebook, "debugger:next")
    wait_until(lambda: "total" in text(notebook, ".jp-DebuggerVariables"), PATIENCE, "the step is not seen")
    command(notebook, "debugger:continue")
    notebook.expect(1, "sum 42")
    notebook.wait_idle()
    wait_until(
        lambda: "known" in text(notebook, ".jp-DebuggerVariables"), PATIENCE, "no variables after the cell"
    )
    assert [each for each in notebook.complaints() if "/lsp/" not in each] == []
