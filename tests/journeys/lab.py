"""A JupyterLab server and a headless Chromium that shows its notebooks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.journeys.kernels import OURS
from tests.jupyter.kernels import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, CHROMEDRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--window-size=1400,1000", "--force-device-scale-factor=1",
)  # fmt: skip
#: Every cell in the page (not only those in sight), and no question about news.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def free_address() -> tuple[str, int]:
    """An address where nothing listens before the server does: no other process uses this one of the loopback's."""
    pid = os.getpid()
    host = f"127.{64 + pid // 65536 % 64}.{pid // 256 % 256}.{pid % 256}"
    with socket.socket() as probe:
        probe.bind((host, 0))
        return host, int(probe.getsockname()[1])


@contextlib.contextmanager
def server(place: Path, environment: dict[str, str], program: str = "jupyterlab") -> Iterator[str]:
    """JupyterLab (or another program of its server) on a free address, serving ``place``/work; its address."""
    (place / "work").mkdir()
    for name, values in SETTINGS.items():
        file = place / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    host, port = free_address()
    options = [
        "--no-browser", "--allow-root", f"--ip={host}", f"--port={port}", "--ServerApp.port_retries=0",
        "--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={place / 'work'}",
        f"--LabApp.user_settings_dir={place / 'settings'}", f"--LabApp.workspaces_dir={place / 'workspaces'}",
        "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    environment = {**environment, "HOME": str(place), "PYTHONWARNINGS": "ignore"}
    with (place / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", program, *options], cwd=place, env=environment, stdout=log, stderr=log
        )
        try:
            address = f"http://{host}:{port}"
            wait_until(lambda: _answers(f"{address}/api"), PATIENCE, "the server does not answer")
            yield address
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def browser(place: Path) -> Iterator[webdriver.Chrome]:
    """A Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={place / 'profile'}"):
        options.add_argument(flag)
    environment = {**os.environ, "HOME": str(place)}
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER, env=environment))
    try:
        yield driver
    finally:
        driver.quit()


#: So much of the end of an output is told where it is not what was expected.
_SHOWN = 1000


def screenshots(place: Path) -> Path:
    """Where they go: ``$KERNEL_RUNTIME_SCREENSHOTS``, or below ``place``."""
    found = Path(os.environ.get("KERNEL_RUNTIME_SCREENSHOTS") or place / "screenshots")
    found.mkdir(parents=True, exist_ok=True)
    return found


def wait_until(holds: Callable[[], Any], seconds: float, complaint: str | Callable[[], str]) -> Any:
    """The first true value of ``holds()``; ``AssertionError`` with the complaint after ``seconds``."""
    end = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < end, complaint if isinstance(complaint, str) else complaint()
        time.sleep(0.05)
    return value


class Notebook:
    """One open notebook: run cells, read what they show, press what a person presses."""

    PAGE = "lab/tree/{}?reset"

    def __init__(self, driver: webdriver.Chrome, address: str, place: Path) -> None:
        self.driver = driver
        self._address = address
        self._place = place

    def open(
        self,
        *sources: str,
        name: str = "notebook.ipynb",
        kernel: str = OURS,
        hidden: bool = False,
        ours: dict[str, Any] | None = None,
    ) -> None:
        """A new notebook with these cells, its kernel ready. A failing cell does not stop the others.

        ``hidden``: only outputs are shown, which is much quicker with many cells. ``ours``: the table
        ``kernel_runtime`` of its metadata.
        """
        metadata = {"tags": ["raises-exception"]} | ({"jupyter": {"source_hidden": True}} if hidden else {})
        notebook = new_notebook(cells=[new_code_cell(source, metadata=metadata) for source in sources])
        notebook.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
        if ours is not None:
            notebook.metadata["kernel_runtime"] = ours
        nbformat.write(notebook, self._place / "work" / name)
        self.driver.get(f"{self._address}/{self.PAGE.format(name)}")
        wait_until(lambda: len(self.cells()) >= len(sources), PATIENCE, "the notebook does not open")
        self.wait_idle()

    def cells(self) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell")

    def status(self) -> str:
        """``idle``, ``busy``, … of the notebook's kernel; empty until it is connected.

        The indicator in the toolbar says idle some moments before Lab lets cells run.
        """
        script = (
            "const panel = window.jupyterapp?.shell?.currentWidget, context = panel?.sessionContext;"
            "const kernel = context?.session?.kernel;"
            "const open = panel?.content?.widgets?.length && context?.isReady && kernel?.connectionStatus === 'connected';"
            "return open ? kernel.status : ''"
        )
        return str(self.driver.execute_script(script) or "")

    def wait_idle(self, seconds: float = PATIENCE) -> None:
        wait_until(lambda: self.status() == "idle", seconds, f"the kernel is {self.status()!r}, not idle")

    def start(self, index: int) -> None:
        """Run one cell, without waiting."""
        script = (
            "const panel = window.jupyterapp.shell.currentWidget;"
            "panel.content.activeCellIndex = arguments[0];"
            "window.jupyterapp.commands.execute('notebook:run-cell');"
        )
        self.driver.execute_script(script, index)

    def prompt(self, index: int) -> str:
        """What stands left of a cell: ``[ ]:``, ``[*]:`` or its number."""
        script = "return document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')[arguments[0]]?.innerText"
        return str(self.driver.execute_script(script, index) or "")

    def run(self, index: int, shows: str = "", seconds: float = PATIENCE) -> str:
        """Run one cell until it has a number and its output matches ``shows``; the output."""
        self.start(index)
        wait_until(
            lambda: re.search(r"\d", self.prompt(index)),
            seconds,
            f"cell {index} did not run: {self.prompt(index)!r}, the kernel is {self.status()!r}",
        )
        return self.expect(index, shows, seconds)

    def run_all(self, seconds: float = PATIENCE) -> None:
        """Run every cell until the last one has its number and the kernel is idle."""
        self.driver.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        last = "return window.jupyterapp.shell.currentWidget.content.widgets.at(-1).model.executionCount"
        wait_until(
            lambda: self.driver.execute_script(last) and self.status() == "idle",
            seconds,
            f"the last cell did not run, the kernel is {self.status()!r}",
        )

    def that_ran(self) -> list[WebElement]:
        """The cells that have a number."""
        script = (
            "return window.jupyterapp.shell.currentWidget.content.widgets"
            ".filter(cell => cell.model.executionCount).map(cell => cell.node)"
        )
        return list(self.driver.execute_script(script))

    def output(self, index: int) -> str:
        """The text of a cell's outputs."""
        script = (
            "const cell = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[arguments[0]];"
            "return cell?.querySelector('.jp-Cell-outputArea')?.innerText || ''"
        )
        return str(self.driver.execute_script(script, index))

    def expect(self, index: int, pattern: str, seconds: float = PATIENCE) -> str:
        """Wait until the output of a cell matches."""
        wait_until(
            lambda: re.search(pattern, self.output(index), re.DOTALL),
            seconds,
            lambda: f"cell {index} does not show {pattern!r} but {self.output(index)[-_SHOWN:]!r}",
        )
        return self.output(index)

    def find(self, selector: str, index: int | None = None, seconds: float = PATIENCE) -> WebElement:
        """An element in sight, in the page or in the outputs of one cell."""

        def visible(_: object) -> WebElement | None:
            try:
                scope: Any = self.driver if index is None else self.cells()[index]
                return next(
                    (e for e in scope.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()), None
                )
            except StaleElementReferenceException:
                return None

        return WebDriverWait(self.driver, seconds, 0.05).until(visible, f"no {selector} in sight")

    def note_states(self) -> Callable[[], list[str]]:
        """From here on, the states that the kernel goes through."""
        script = (
            "const states = window.kernelStates = [];"
            "const session = window.jupyterapp.shell.currentWidget.sessionContext;"
            "session.statusChanged.connect((_, status) => states.push(status))"
        )
        self.driver.execute_script(script)
        return lambda: list(self.driver.execute_script("return window.kernelStates"))

    def press(self, item: str) -> None:
        """A button of the notebook's toolbar."""
        self.find(f".jp-NotebookPanel-toolbar [data-jp-item-name='{item}'] :is(button, jp-button)").click()

    def confirm(self) -> None:
        """The dialog's affirmative button."""
        self.find(
            ".jp-Dialog .jp-Dialog-footer :is(.jp-mod-accept, .jp-mod-warn):not(.jp-mod-reject)"
        ).click()

    def complaints(self) -> list[str]:
        """Errors of our own page on the browser's console."""
        try:
            entries = self.driver.get_log("browser")
        except WebDriverException:
            return []
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def screenshot(self, path: Path) -> None:
        self.driver.save_screenshot(str(path))
