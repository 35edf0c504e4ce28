"""A notebook with every output type, and its outputs in a form that can be compared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

if TYPE_CHECKING:
    from nbformat import NotebookNode

MAY_FAIL = ["raises-exception"]

EVERY_OUTPUT = [
    # streams
    "print('to stdout')\nprint('more')",
    "import sys\nprint('one')\nprint('two', file=sys.stderr)\nprint('three')",
    "import sys\nsys.stdout.write('no newline')",
    # Plain ipykernel reads descriptors in threads, one each, some time later: hence the pauses.
    "import os, time\nos.write(1, b'descriptor 1\\n'); time.sleep(1)",
    "import subprocess\ndone = subprocess.run(['sh', '-c', 'echo out']); time.sleep(1)\ndone",
    "done = subprocess.run(['sh', '-c', 'echo err >&2']); time.sleep(1)\ndone",
    "!echo shell escape",
    "%%bash\necho from bash\necho to stderr >&2",
    "print('carriage\\rreturn'); print('\\x1b[31mred\\x1b[0m'); print('snowman \\u2603 \\U0001F600')",
    "import logging\nlogging.getLogger().warning('a warning')",
    "import warnings\nwarnings.warn('careful')",
    # results
    "1 + 1",
    "'text'",
    "None",
    "_ , __",
    "x = 5; x;",
    ("class Rich:\n    def _repr_html_(self): return '<b>bold</b>'\n    def _repr_latex_(self): return '$x^2$'\n"
    "    def _repr_markdown_(self): return '**bold**'\n    def _repr_json_(self): return {'a': [1, None]}\n"
    "    def __repr__(self): return 'Rich()'\nRich()"),
    ("class Bundle:\n    def _repr_mimebundle_(self, include=None, exclude=None):\n"
    "        return {'text/plain': 'b', 'application/vnd.x+json': {'k': 1}}, {'text/plain': {'m': 2}}\nBundle()"),
    "import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})",
    "pd.DataFrame({'a': [1.5]}).describe()",
    # displays
    "from IPython.display import *\ndisplay(HTML('<i>it</i>')); display(Markdown('# head')); display(Latex('$y$'))",
    "display(JSON({'deep': {'er': [1, 2]}})); display(Pretty('pretty')); display(Math('z'))",
    "display(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"><rect width=\"9\" height=\"9\"/></svg>'))",
    ("import base64\nPNG = base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==')\n"
    "Image(data=PNG, width=20)"),
    "display({'text/plain': 'raw', 'text/html': '<u>raw</u>'}, raw=True, metadata={'text/html': {'k': 'v'}})",
    "h = display('first', display_id='known')",
    "h.update('second')",
    "update_display(HTML('<b>third</b>'), display_id='known')",
    "print('gone'); clear_output(); print('stays')",
    "print('gone later'); clear_output(wait=True); print('kept')",
    "for i in range(3):\n    clear_output(wait=True)\n    display(i)",
    "publish = get_ipython().display_pub.publish\npublish({'text/plain': 'published'}, metadata={'a': 1})",
    "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2, 3]); plt.title('t')",
    "fig, ax = plt.subplots(figsize=(2, 2)); ax.bar([1], [2]); fig",
    # errors
    ("1 / 0", MAY_FAIL),
    ("def f(n):\n    if n: return f(n - 1)\n    raise ValueError('deep')\nf(3)", MAY_FAIL),
    ("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e", MAY_FAIL),
    ("class Own(Exception):\n    def _render_traceback_(self): return ['own', 'traceback']\nraise Own('x')", MAY_FAIL),
    ("def broken(:", MAY_FAIL),
    ("raise ExceptionGroup('group', [ValueError(1), TypeError(2)])", MAY_FAIL),
    ("input('headless? ')", MAY_FAIL),
    ("import getpass\ngetpass.getpass()", MAY_FAIL),
    ("%no_such_magic", MAY_FAIL),
    ("no_such_name", MAY_FAIL),
    ("import sys\nsys.exit('bye')", MAY_FAIL),
    ("raise KeyboardInterrupt", MAY_FAIL),
    ("class Bad:\n    def __repr__(self): raise RuntimeError('in repr')\nBad()", MAY_FAIL),
    # shell
    "%who_ls int",
    "%%time\npass",
    "%%capture held\nprint('held')\ndisplay('held, too')",
    "held.show()",
    "import asyncio\nawait asyncio.sleep(0.01)\nprint('awaited')",
    # It prints while the next cell runs, and not when this one happens to be over.
    "go = asyncio.Event()\nasync def later():\n    await go.wait()\n    print('from a task')\ntask = asyncio.create_task(later())",
    "go.set()\nawait task\nprint('done')",
    "import threading\nt = threading.Thread(target=print, args=('in a thread',)); t.start(); t.join()",
    "In[1], len(Out) > 3, get_ipython().execution_count",
    # widgets
    "import ipywidgets as w\nslider = w.IntSlider(value=3, max=10)\nslider",
    "out = w.Output()\nout",
    "with out:\n    print('captured'); display(HTML('<b>captured, too</b>'))",
    "slider.observe(lambda change: print('now', change['new']), 'value')\nslider.value = 7",
    "@w.interact(n=5)\ndef show(n): print('n is', n)",
    "bar = w.IntProgress(max=3); display(bar)\nfor i in range(4): bar.value = i",
    "with out:\n    raise ValueError('captured error')",
    "out.outputs[0]['text']",
]  # fmt: skip


def every_output(kernel: str) -> NotebookNode:
    """The notebook, for the kernel of that name."""
    cells = [new_markdown_cell("# Every output")]
    for entry in EVERY_OUTPUT:
        source, tags = entry if isinstance(entry, tuple) else (entry, [])
        cells.append(new_code_cell(source, metadata={"tags": tags} if tags else {}))
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
    return notebook


#: What may differ between two runs: addresses, times, files of a cell's code, ids of models.
_VOLATILE = [
    (re.compile(r"0x[0-9a-f]{6,}"), "0xADDRESS"),
    (re.compile(r"[\d.]+(?:e[+-]?\d+)? [nuµμm]?s\b"), "TIME"),
    (re.compile(r"ipykernel_\d+[/\\]\d+\.py"), "CELL.py"),
    (re.compile(r"[0-9a-f]{32}"), "MODEL"),
    (re.compile(r"\b\d{8}-\d{6}\b"), "STAMP"),
]


def comparable(value: Any) -> Any:
    """``value`` with everything volatile replaced."""
    if isinstance(value, dict):
        return {comparable(k): comparable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, str):
        for pattern, name in _VOLATILE:
            value = pattern.sub(name, value)
    return value


def outputs_by_source(notebook: NotebookNode) -> dict[str, Any]:
    """Source → outputs and execution count of each code cell, comparable."""
    return {
        cell.source: [cell.execution_count, comparable(_merged(cell.outputs))]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def _merged(outputs: list[Any]) -> list[Any]:
    """Plain dicts; neighbouring streams joined, one of each name, as every front end shows them.

    Ours keeps the order in which stdout and stderr were written; ipykernel does not.
    """
    found: list[Any] = []
    streams: dict[str, Any] = {}
    for output in outputs:
        plain = dict(nbformat.from_dict(output))
        if plain["output_type"] != "stream":
            streams = {}
            found.append(plain)
        elif plain["name"] in streams:
            streams[plain["name"]]["text"] += plain["text"]
        else:
            streams[plain["name"]] = plain
            found.append(plain)
    return found


def widget_states(notebook: NotebookNode) -> list[Any]:
    """The saved widget models, without ids, in a fixed order."""
    saved = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    return sorted((comparable(state) for state in saved.values()), key=str)
