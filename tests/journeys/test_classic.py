"""The panels and the card that asks in the classic notebook, in a real browser.

Screenshots are taken where ``$KERNEL_RUNTIME_SCREENSHOTS`` says where to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.by import By

from tests.journeys.classic import Classic
from tests.journeys.lab import wait_until
from tests.jupyter.kernels import PATIENCE

if TYPE_CHECKING:
    from selenium import webdriver

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

ASKS = "from kernel_runtime.sdk import cache\ncache.set('rates', 7)\nprint('kept', cache.get('rates'))"


@pytest.fixture(scope="module")
def environment(place: Path, jupyter: dict[str, str]) -> dict[str, str]:
    """Its extensions for widgets are switched on by the environment's configuration."""
    own = {"KERNEL_RUNTIME_STATE": str(place / "state"), "XDG_CONFIG_HOME": str(place / "config")}
    configured = {name: value for name, value in jupyter.items() if name != "JUPYTER_NO_CONFIG"}
    return {**configured, **own, "KERNEL_RUNTIME_WARM": "0"}


@pytest.fixture(scope="module")
def program() -> str:
    return "nbclassic"


@pytest.fixture
def page(driver: webdriver.Chrome, address: str, place: Path) -> Classic:
    return Classic(driver, address, place)


def press(page: Classic, index: int, label: str) -> None:
    """A button of a cell's panel, once it can be pressed."""

    def able() -> bool:
        buttons = page.cells()[index].find_elements(By.CSS_SELECTOR, ".kr-panel button")
        found = [each for each in buttons if each.text.strip() == label and each.is_enabled()]
        for button in found[:1]:
            page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
            button.click()
        return bool(found)

    wait_until(able, PATIENCE, f"{label} cannot be pressed")


def photograph(page: Classic, index: int, name: str) -> None:
    if place := os.environ.get("KERNEL_RUNTIME_SCREENSHOTS"):
        page.driver.execute_script(
            "arguments[0].scrollIntoView({block: 'center'})", page.find(".kr-panel", index)
        )
        Path(place).mkdir(parents=True, exist_ok=True)
        page.screenshot(Path(place) / f"classic_{name}.png")


def test_panels_and_the_card_work_in_the_classic_notebook(page: Classic) -> None:
    page.open("print('said')", ASKS, "%permissions", "%resources", "%logs", name="classic.ipynb")
    page.run(0, "said")
    page.start(1)
    page.expect(1, r"wants to use the cache.*denied in \d+ s")
    photograph(page, 1, "card")
    press(page, 1, "This session")
    page.expect(1, "kept 7")
    page.wait_idle()
    page.run(2, "cache")
    press(page, 2, "Audit trail")
    page.expect(2, "records, newest first")
    photograph(page, 2, "permissions")
    page.run(3, "Memory.*CPU.*Processes and threads")
    press(page, 3, "Pause")
    page.expect(3, "paused")
    photograph(page, 3, "resources")
    press(page, 3, "Resume")
    page.expect(3, "It goes on")
    page.run(4, "said")
    photograph(page, 4, "logs")
    assert "kept 7" in page.run(1, "kept 7"), "for this session: nobody is asked again"
    assert page.driver.find_elements(By.CSS_SELECTOR, ".output_error, .output_stderr") == []
    assert "Error" not in page.driver.find_element(By.ID, "notebook").text
    assert page.complaints() == []
