"""A real JupyterLab in a real browser: what a person sees and presses.

Screenshots lie in pytest's temporary directory, or in ``$KERNEL_RUNTIME_SCREENSHOTS``.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.keys import Keys

from tests.journeys import lab
from tests.journeys.lab import Notebook, wait_until
from tests.jupyter.kernels import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium import webdriver

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDGETS = "import ipywidgets as w\nfrom IPython.display import display\nimport time"


@pytest.fixture(scope="module")
def environment(jupyter: dict[str, str]) -> dict[str, str]:
    return {**jupyter, "KERNEL_RUNTIME_WARM": "1", "KERNEL_RUNTIME_MEMORY": "600M"}


@pytest.fixture
def notebook(
    request: pytest.FixtureRequest, driver: webdriver.Chrome, address: str, place: Path
) -> Iterator[Notebook]:
    """The browser, still without a notebook; photographed at the end, also of a failed test."""
    found = Notebook(driver, address, place)
    yield found
    found.screenshot(lab.screenshots(place) / f"{request.node.name.removeprefix('test_')}.png")


def test_results_tables_and_plots(notebook):
    notebook.open(
        "print('hello from the guest')\n6 * 7",
        "import pandas as pd\npd.DataFrame({'city': ['Oslo', 'Lima'], 'people': [717710, 10092000]})",
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nfig, ax = plt.subplots(figsize=(5, 2.5))\n"
        "ax.plot([1, 4, 9, 16]); ax.set_title('squares');",
        "from IPython.display import HTML, Latex, Markdown\ndisplay(HTML('<b id=bold>bold</b>'), Markdown('*slanted*'))\n1/0",
        name="results.ipynb",
    )
    assert "42" in notebook.run(0, "hello from the guest.*42")
    notebook.run(1, "Lima")
    assert len(notebook.find("table.dataframe", 1).find_elements("css selector", "tbody tr")) == 2
    notebook.run(2)
    image = notebook.find(".jp-RenderedImage img", 2)
    wait_until(lambda: int(image.get_property("naturalWidth") or 0) > 200, PATIENCE, "the plot has no pixels")
    assert "ZeroDivisionError" in notebook.run(3, "division by zero")
    assert notebook.find("b#kr-bold", 3).text == "bold"


def test_a_slider_with_a_callback(notebook):
    notebook.open(
        f"{WIDGETS}\nslider = w.IntSlider(value=3, max=10, description='n')\nlabel = w.Label('not moved')\n"
        "out = w.Output()\n"
        "def moved(change):\n    label.value = f'moved to {change[\"new\"]}'\n    with out: print('saw', change['new'])\n"
        "slider.observe(moved, 'value')\nw.VBox([slider, label, out])",
        "slider.value",
        name="slider.ipynb",
    )
    notebook.run(0, "not moved")
    handle = notebook.find(".noUi-handle", 0)
    handle.send_keys(Keys.ARROW_RIGHT)
    notebook.expect(0, "moved to 4.*saw 4")
    handle.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    notebook.expect(0, "moved to 6.*saw 6")
    assert "6" in notebook.run(1, "6")


def test_interact(notebook):
    notebook.open(
        f"{WIDGETS}\n@w.interact(n=(0, 10), name='a')\ndef show(n=5, name='a'): print(f'{{name}} squared is {{n * n}}')",
        name="interact.ipynb",
    )
    notebook.run(0, "a squared is 25")
    notebook.find(".noUi-handle", 0).send_keys(Keys.ARROW_LEFT)
    notebook.expect(0, "a squared is 16")
    text = notebook.find("input[type=text]", 0)
    text.send_keys("bc", Keys.ENTER)
    notebook.expect(0, "abc squared is 16")


#: Every width that a progress bar has had.
NOTE_WIDTHS = """
window.widths = [];
const note = () => document.querySelectorAll('.progress-bar').forEach(bar => window.widths.push(bar.style.width));
new MutationObserver(note).observe(document.body, {subtree: true, childList: true, attributes: true, attributeFilter: ['style']});
"""


def test_a_progress_bar_moves_while_the_cell_runs(notebook):
    notebook.open(
        f"{WIDGETS}\nbar = w.IntProgress(max=20); label = w.Label(); display(bar, label)\n"
        "for i in range(21):\n    bar.value = i; label.value = f'at {i}'; time.sleep(0.1)\nprint('over')",
        name="progress.ipynb",
    )
    notebook.driver.execute_script(NOTE_WIDTHS)
    notebook.run(0, "at 20.*over")
    widths = notebook.driver.execute_script("return window.widths")
    assert len(set(widths)) >= 5, widths


def test_an_output_widget_captures(notebook):
    notebook.open(
        f"{WIDGETS}\nout = w.Output(layout={{'border': '1px solid blue'}})\nout",
        "with out:\n    print('captured'); display('rich')\n    1/0",
        "button = w.Button(description='press me')\nsaid = w.Output()\n"
        "@button.on_click\ndef pressed(_):\n    with said: print('pressed')\nw.VBox([button, said])",
        "import asyncio\nasync def later():\n    await asyncio.sleep(0.5)\n    out.append_stdout('from a task')\n"
        "task = asyncio.ensure_future(later())",
        name="output.ipynb",
    )
    for index in range(3):
        notebook.run(index)
    notebook.expect(0, "captured.*rich.*ZeroDivisionError")
    assert notebook.output(1).strip() == ""
    notebook.find(".widget-button", 2).click()
    notebook.expect(2, "pressed")
    notebook.run(3)
    notebook.expect(0, "from a task")


def test_the_interrupt_button(notebook):
    notebook.open("x = 'kept'\nprint('begun')\nwhile True: pass", "x", name="interrupt.ipynb")
    notebook.start(0)
    notebook.expect(0, "begun")
    wait_until(lambda: notebook.status() == "busy", PATIENCE, "the kernel is not shown as busy")
    notebook.press("interrupt")
    notebook.expect(0, "KeyboardInterrupt")
    notebook.wait_idle()
    assert "kept" in notebook.run(1, "kept")


def test_the_restart_button(notebook):
    notebook.open("x = 'there'; x", "x", name="restart.ipynb")
    notebook.run(0, "there")
    states = notebook.note_states()
    notebook.press("restart")
    notebook.confirm()
    wait_until(lambda: "restarting" in states(), PATIENCE, "the kernel is not shown as restarting")
    notebook.wait_idle()
    assert "NameError" in notebook.run(1, "NameError")
    notebook.run(0, "there")


def test_input_and_getpass(notebook):
    notebook.open(
        "name = input('Your name? ')\nprint('hello', name)",
        "import getpass\nsecret = getpass.getpass('Secret: ')\nprint(len(secret), 'characters')",
        name="input.ipynb",
    )
    notebook.start(0)
    notebook.expect(0, "Your name")
    notebook.find("input.jp-Stdin-input, .jp-Stdin-input input", 0).send_keys("Ada", Keys.ENTER)
    notebook.expect(0, "hello Ada")
    notebook.start(1)
    box = notebook.find("input.jp-Stdin-input, .jp-Stdin-input input", 1)
    assert box.get_attribute("type") == "password"
    box.send_keys("12345", Keys.ENTER)
    notebook.expect(1, "5 characters")
    assert "12345" not in notebook.output(1)


def test_a_cell_that_runs_out_of_memory(notebook):
    notebook.open(
        "import mmap\nx = []\nwhile True: x.append(mmap.mmap(-1, 1 << 24)); x[-1].write(bytes(1 << 24))",
        "x = [0]\nwhile True: x.append(bytes(1 << 20) + b'x')",
        "1 + 1",
        "import os; os._exit(3)",
        name="memory.ipynb",
    )
    said = notebook.run(0, "MemoryLimitExceeded")
    assert re.search(r"more memory than its limit of 600 MB", said)
    assert "may use 600 MB of memory" in notebook.run(1, "MemoryError")
    assert "2" in notebook.run(2, "2")
    assert "exited with status 3" in notebook.run(3, "GuestExited")
    assert (
        "Kernel" not in notebook.driver.find_element("css selector", "body").text.partition("restarting")[1]
    )


def test_a_long_output_does_not_hang_the_page(notebook):
    notebook.open(
        "for i in range(20_000): print('line', i)\nprint('the very end')", "'still here'", name="long.ipynb"
    )
    notebook.run(0, "line 19999")
    assert "still here" in notebook.run(1, "still here")


def test_script_in_an_output_does_not_run(notebook):
    notebook.open(
        "from IPython.display import HTML, Javascript\n"
        "display(HTML('<img src=x onerror=\"window.hacked = 1\"><script>window.hacked = 2</script><p>shown</p>'))\n"
        "display(Javascript('window.hacked = 3'))\nprint('over')",
        name="script.ipynb",
    )
    notebook.run(0, "over")
    time.sleep(0.5)
    assert notebook.driver.execute_script("return window.hacked || 0") == 0
    assert "shown" in notebook.output(0)
