"""The classic notebook, driven as JupyterLab is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selenium.webdriver.common.by import By

from tests.journeys.lab import Notebook

if TYPE_CHECKING:
    from selenium.webdriver.remote.webelement import WebElement

_CELL = "const cell = window.Jupyter?.notebook?.get_cell(arguments[0]);"


class Classic(Notebook):
    """See ``Notebook``; what is of Lab only (its toolbar, dialogs, states) is not there."""

    PAGE = "notebooks/{}"

    def cells(self) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, "#notebook .code_cell")

    def status(self) -> str:
        script = (
            "const kernel = window.Jupyter?.notebook?.kernel;"
            "return kernel?.is_connected() && kernel.info_reply.status ? "
            "(document.querySelector('#kernel_indicator_icon.kernel_idle_icon') ? 'idle' : 'busy') : ''"
        )
        return str(self.driver.execute_script(script) or "")

    def start(self, index: int) -> None:
        self.driver.execute_script("window.Jupyter.notebook.execute_cells([arguments[0]])", index)

    def prompt(self, index: int) -> str:
        script = f"{_CELL} return cell?.element.find('.input_prompt').text()"
        return str(self.driver.execute_script(script, index) or "")

    def output(self, index: int) -> str:
        script = f"{_CELL} return cell?.element.find('.output_wrapper')[0]?.innerText"
        return str(self.driver.execute_script(script, index) or "")
