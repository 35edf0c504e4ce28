"""A notebook that kishu watches, run in kishu's own environment: one JSON order a line, one answer each.

``{"run": CODE}`` runs a cell and answers with the ``seconds`` that kishu takes before and after it and
the ``bytes`` of its database; ``{"back": N, "probe": CODE}`` checks out the state after cell N (from 1)
and answers with the ``seconds`` until the probe has its value. An ``error`` ends it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from kishu.jupyterint import KishuForJupyter
from kishu.notebook_id import NotebookId


class Timed(KishuForJupyter):
    """``seconds``: spent in kishu for the present cell; ``trouble``: what went wrong there, which
    IPython would only print."""

    seconds = 0.0
    trouble = ""

    def pre_run_cell(self, info: Any) -> None:
        self.seconds = 0.0
        self._clocked(super().pre_run_cell, info)

    def post_run_cell(self, result: Any) -> None:
        self._clocked(super().post_run_cell, result)

    def _clocked(self, hook: Any, about: Any) -> None:
        begun = time.perf_counter()
        try:
            hook(about)
        except Exception:
            self.trouble = traceback.format_exc(limit=-3)
        self.seconds += time.perf_counter() - begun


class Notebook:
    """Its shell, with kishu's hooks around each cell."""

    def __init__(self, file: Path) -> None:
        nbformat.write(nbformat.v4.new_notebook(), file)
        self._shell = InteractiveShell.instance()
        self._kishu = Timed(NotebookId(key="benchmark", path=file, kernel_id="benchmark"), ip=self._shell)
        self._kishu.set_session_id(1)
        self._kishu.install_kishu_hooks()

    def run(self, code: str) -> dict[str, float]:
        self._shell.run_cell(code, store_history=True).raise_error()
        if self._kishu.trouble:
            raise RuntimeError(self._kishu.trouble)
        return {"seconds": self._kishu.seconds, "bytes": self._kishu.database_path().stat().st_size}

    def back(self, cell: int, probe: str) -> dict[str, float]:
        begun = time.perf_counter()
        self._kishu.checkout(f"1:0:{cell}", skip_notebook=True)
        eval(probe, self._shell.user_ns)
        return {"seconds": time.perf_counter() - begun}


def main() -> None:
    """Answers go to the real output; what cells and kishu print does not."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    notebook = Notebook(Path(sys.argv[1]) / "notebook.ipynb")
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer: dict[str, Any] = (
                notebook.run(order["run"]) if "run" in order else notebook.back(order["back"], order["probe"])
            )
        except Exception:
            answer = {"error": traceback.format_exc(limit=-3)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
