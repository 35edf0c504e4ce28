"""The panels of resources, permissions and logs, and the card that asks, in a real JupyterLab: what a person
presses, and what becomes of it. One server, one browser.

Screenshots in both themes are taken where ``$KERNEL_RUNTIME_SCREENSHOTS`` says where to.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.journeys import asking_kernel
from tests.journeys.lab import Notebook, wait_until
from tests.jupyter.kernels import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium import webdriver
    from selenium.webdriver.remote.webelement import WebElement

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=2</script>"
#: What the notebook asks for in its metadata.
MANIFEST = {
    "name": "Forecasts",
    "version": "1.2",
    "permissions": [
        {
            "type": "net",
            "resource": "api.example.org",
            "actions": ["GET"],
            "reason": f"to fetch tomorrow's weather {HOSTILE}",
        },
        {"type": "cache", "reason": "to keep what was fetched"},
        {"type": "secret", "resource": "API_KEY", "reason": "the weather service wants one"},
        {"type": "db", "resource": "stations", "actions": ["read"]},
    ],
}
POLICY = 'allow = ["cache"]\ndeny = ["secret:*"]\n'
BUSY = """
import threading, time
blocks = []
end = time.monotonic() + 600
while time.monotonic() < end:
    if len(blocks) < 32: blocks.append(bytearray(b"x") * (8 << 20))
    sum(i * i for i in range(200_000)); time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def environment(place: Path, jupyter: dict[str, str], prefix: Path) -> dict[str, str]:
    """With a policy of the person's own."""
    policy = place / "config" / "kernel-runtime" / "policy.toml"
    policy.parent.mkdir(parents=True, mode=0o700)
    policy.write_text(POLICY)
    policy.chmod(0o600)
    asking_kernel.install(prefix)
    own = {
        "KERNEL_RUNTIME_WARM": "0",
        "KERNEL_RUNTIME_MEMORY": "320M",
        "KERNEL_RUNTIME_STATE": str(place / "state"),
        "XDG_CONFIG_HOME": str(place / "config"),
    }
    return {**jupyter, **own}


@pytest.fixture
def page(driver: webdriver.Chrome, address: str, place: Path) -> Iterator[Page]:
    found = Page(driver, address, place)
    yield found
    assert driver.execute_script("return window.hacked || 0") == 0, "nothing of a guest has run in the page"


class Page(Notebook):
    """A notebook with panels in the outputs of its cells."""

    def photograph(self, index: int, name: str) -> None:
        """The page around a cell's panel, in both themes."""
        place = os.environ.get("KERNEL_RUNTIME_SCREENSHOTS")
        if not place:
            return
        Path(place).mkdir(parents=True, exist_ok=True)
        for theme in ("Dark", "Light"):
            self.theme(theme)
            panel = self.find(".kr-panel", index)
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", panel)
            self.screenshot(Path(place) / f"{name}_{theme.lower()}.png")

    def theme(self, name: str) -> None:
        script = "window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab ' + arguments[0]})"
        self.driver.execute_script(script, name)
        script = "return document.body.dataset.jpThemeLight === arguments[0] && !document.querySelector('#jupyterlab-splash')"
        light = str(name == "Light").lower()
        wait_until(lambda: self.driver.execute_script(script, light), PATIENCE, f"no theme {name}")

    def button(self, index: int, label: str) -> WebElement | None:
        """A button in sight, by what stands on it."""
        buttons = self.cells()[index].find_elements(By.CSS_SELECTOR, ".kr-panel button")
        return next((each for each in buttons if each.is_displayed() and each.text.strip() == label), None)

    def press_in(self, index: int, label: str, shows: str = "") -> None:
        """Press a button of a cell's panel once it can be pressed, until the cell shows something."""

        def able():
            found = self.button(index, label)
            return found is not None and found.is_enabled() and found

        button = wait_until(able, PATIENCE, f"{label} cannot be pressed")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        if shows:
            self.expect(index, shows)

    def choose(self, index: int, pattern: str) -> None:
        """Press the row that matches, as a person hits it, once it is there."""
        rows: list[WebElement] = []

        def places() -> list[int]:
            rows[:] = self.cells()[index].find_elements(By.CSS_SELECTOR, ".kr-list tbody tr")
            return [number for number, row in enumerate(rows) if re.search(pattern, row.text)]

        place = wait_until(places, PATIENCE, f"no row {pattern!r}")[0]
        buttons = self.cells()[index].find_elements(By.CSS_SELECTOR, ".kr-rights button")
        assert len(buttons) == len(rows)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", buttons[place])
        buttons[place].click()

    def select(self, index: int, option: str) -> None:
        """The drop-down list that has this option."""
        script = (
            "const cell = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[arguments[0]];"
            "for (const each of cell.querySelectorAll('.kr-panel select')) {"
            " const found = [...each.options].find(option => option.text.replaceAll('\u00a0', ' ') === arguments[1]);"
            " if (found) { each.value = found.value; each.dispatchEvent(new Event('change', {bubbles: true})); return true; } }"
        )
        wait_until(
            lambda: self.driver.execute_script(script, index, option), PATIENCE, f"no option {option!r}"
        )

    def ask_to_stop(self) -> None:
        self.driver.execute_script("window.jupyterapp.commands.execute('notebook:interrupt-kernel')")

    def said(self, index: int) -> Any:
        return self.find(".kr-said", index).text


def test_resources_are_watched_throttled_paused_and_killed(page):
    page.open("x = 'kept'", "%resources", BUSY, "x", name="resources.ipynb", kernel=asking_kernel.NAME)
    page.run(0)
    page.run(1, "Memory.*CPU.*Processes and threads")
    page.start(2)
    page.expect(1, "a cell runs")
    page.expect(1, r"nearly used up|used up")
    page.expect(1, r"memory: \d+ MB of 320 MB")
    page.select(1, "¼ core")
    page.press_in(1, "Throttle", "It runs with ¼ core from now on")
    page.photograph(1, "resources")
    page.press_in(1, "Pause", "paused")
    page.press_in(1, "Resume", "It goes on")
    page.press_in(1, "Kill", "Killed")
    page.expect(2, "killed by the person")
    page.wait_idle()
    assert "kept" in page.run(3, "kept")
    page.expect(1, "idle")


def test_the_card_asks_under_the_cell_that_runs(page):
    many = "\n".join(
        f"# ask db:stations:read\n# ask net:api.example.org/GET\n# ask env:VAR{n}" for n in range(12)
    )
    page.open(
        "# ask net:api.example.org/GET\nprint('begun')",
        "# ask net:api.example.org/GET\n# ask secret:API_KEY\n# ask cache",
        many,
        name="card.ipynb",
        kernel=asking_kernel.NAME,
        ours={key: value for key, value in MANIFEST.items() if key != "permissions"},
    )
    page.start(0)
    page.expect(0, r"“Forecasts” 1\.2 wants to.*net:api\.example\.org:443/GET.*denied in \d+ s")
    page.photograph(0, "card")
    page.press_in(0, "This session", r"net:api.example.org/GET: allow")
    page.expect(0, "nothing is asked now.*was allowed for this session")
    page.wait_idle()
    page.run(1, "net:api.example.org/GET: allow.*secret:API_KEY: deny.*cache: allow")
    page.start(2)
    page.expect(2, r"1 of 8 questions.*Waiting behind it")  # beyond that nobody is asked: denied at once
    page.photograph(2, "card_flood")
    page.press_in(2, "Deny all", "env:VAR11: deny")
    page.wait_idle()
    page.photograph(2, "card_over")


def test_permissions_are_granted_revoked_searched_and_suggested(page, place):
    page.open(
        "# ask net:api.example.org/GET\n# ask secret:API_KEY\n# ask events:publish:news",
        "%permissions",
        "# ask net:api.example.org/GET",
        "%permissions suggest",
        "# ask net:api.example.org/GET",
        name="permissions.ipynb",
        kernel=asking_kernel.NAME,
        ours=MANIFEST,
    )
    page.start(0)
    page.expect(0, "not checked by anybody")
    page.expect(0, re.escape(HOSTILE))
    page.photograph(0, "card_why")
    page.press_in(0, "Deny", r"net:api.example.org/GET: deny")
    page.wait_idle()
    page.run(1, "Forecasts.*net:api.example.org/GET")
    page.choose(1, "net:api")
    page.press_in(1, "Allow this session", "Granted for this session")
    page.photograph(1, "permissions")
    page.run(2, "net:api.example.org/GET: allow")
    page.press_in(1, "Revoke", "(?i)revoked: net")
    page.press_in(1, "Audit trail", "records, newest first")
    page.find(".kr-panel input[type=text]", 1).send_keys("secret")
    page.expect(1, "1 record, newest first")
    page.find(".kr-panel input[type=text]", 1).clear()
    page.find(".kr-panel input[type=text]", 1).send_keys("e")
    page.expect(1, "revoked")
    page.photograph(1, "audit")
    page.run(4, "net:api.example.org/GET: deny")
    page.run(3, "Write to the policy")
    page.find(".kr-wishes input[type=checkbox]", 3).click()
    page.photograph(3, "suggest")
    page.press_in(3, "Write to the policy", "1 line written to")
    text = (place / "config" / "kernel-runtime" / "policy.toml").read_text()
    assert 'allow = [\n  "net:api.example.org/GET",\n"cache"]' in text
    (place / "config" / "kernel-runtime" / "policy.toml").write_text(POLICY)
    page.choose(3, "net:api") if page.button(3, "Rights") is None else page.press_in(3, "Rights")
    page.expect(3, "2 granted")


def test_logs_are_followed_searched_and_exported(page, place):
    page.open(
        f"import sys\nprint('loading 120 stations')\nprint('slow answer', file=sys.stderr)\nprint({HOSTILE!r})\n# ask cache",
        "%logs",
        "import time\nfor n in range(10_000): print('tick', n); time.sleep(0.2)",
        "1/0",
        name="logs.ipynb",
        kernel=asking_kernel.NAME,
        ours=MANIFEST,
    )
    page.run(0, "cache: allow")
    page.run(1, "loading 120 stations")
    page.expect(1, "audit.*decision allow cache")
    page.start(2)
    page.expect(1, "tick 3")
    page.ask_to_stop()
    page.expect(2, "KeyboardInterrupt")
    page.wait_idle()
    page.run(3, "ZeroDivisionError")
    page.expect(1, "ZeroDivisionError: division by zero")
    page.expect(1, re.escape(HOSTILE))
    page.photograph(1, "logs")
    page.select(1, "error and up")
    page.expect(1, "the newest 2 lines")
    page.press_in(1, "JSONL", r"2 lines written to logs-\S+\.jsonl")
    (file,) = (place / "work").glob("logs-*.jsonl")
    assert "ZeroDivisionError" in file.read_text()


def test_guests_of_the_magic_have_panels_in_an_ordinary_notebook(page):
    page.open(
        "%load_ext kernel_runtime",
        "%%sandbox --name scout\nfrom kernel_runtime.sdk import clock, log\nlog.warning('looking', n=2)\n"
        f"print({HOSTILE!r})\nclock.now().year > 2000",
        "%%sandbox --name other\nprint('from another')",
        "%sandbox permissions scout",
        "%sandbox logs",
        name="ordinary.ipynb",
        kernel="python3",
    )
    page.run(0)
    page.start(1)
    page.find("input.jp-Stdin-input, .jp-Stdin-input input", 1).send_keys("no", Keys.ENTER)
    page.expect(1, "CapabilityDenied")
    page.run(2, "from another")
    page.run(3, "%%sandbox scout of ordinary.ipynb")
    page.choose(3, "clock")
    page.press_in(3, "Allow this session", "Granted for this session")
    page.photograph(3, "sandbox_permissions")
    page.run(1, "True")
    page.run(4, "scout: looking n=2")
    page.expect(4, re.escape(f"scout: {HOSTILE}"))
    page.expect(4, "scout: CapabilityDenied: clock")
    page.expect(4, "scout: granted allow clock")
    page.expect(4, "other: from another")
    page.photograph(4, "sandbox_logs")
    page.press_in(3, "other", "%%sandbox other of ordinary.ipynb")
