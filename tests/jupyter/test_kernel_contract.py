"""The whole of jupyter_kernel_test, on the real kernel behind its walls."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

import jupyter_kernel_test

from tests.jupyter.kernels import MEMORY_HISTORY, REAL

NAME = "kernel-runtime-contract"


def install() -> None:
    """A kernelspec of this source tree in a directory of its own, found through JUPYTER_PATH."""
    root = Path(tempfile.mkdtemp(prefix="kernel-runtime-test-"))
    folder = root / "kernels" / NAME
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", REAL, "-f", "{connection_file}", MEMORY_HISTORY]
    spec = {"argv": argv, "display_name": NAME, "language": "python", "interrupt_mode": "message"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    os.environ["JUPYTER_PATH"] = f"{root}{os.pathsep}{os.environ.get('JUPYTER_PATH', '')}"


install()


class TestContract(jupyter_kernel_test.KernelTests):
    kernel_name = NAME
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples: ClassVar = [{"text": "zi", "matches": {"zip"}}]
    complete_code_samples: ClassVar = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]
    incomplete_code_samples: ClassVar = ["print('''hello", "def f(x):\n  x*2"]
    invalid_code_samples: ClassVar = ["import = 7q"]
    code_page_something = "zip?"
    code_generate_error = "raise"
    code_execute_result: ClassVar = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
        {"code": "1+2+3", "result": "6"},
        {"code": "5+6", "result": "11"},
    ]
    code_display_data: ClassVar = [
        {"code": "from IPython.display import HTML, display; display(HTML('<b>x</b>'))", "mime": "text/html"},
        {"code": "from IPython.display import Math, display; display(Math('x'))", "mime": "text/latex"},
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"


class TestWelcome(jupyter_kernel_test.IopubWelcomeTests):
    kernel_name = NAME
    support_iopub_welcome = True


del jupyter_kernel_test
