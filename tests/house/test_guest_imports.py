"""What every guest carries: the modules of a zygote before it preloads anything."""

from __future__ import annotations

import json
import subprocess
import sys

#: Beside the standard library. More here is more for every guest to carry and to be attacked by.
LIBRARIES = {"msgspec", "typing_extensions"}
ROOMS = {"domain", "guest", "sandbox", "wire", "workers"}
#: Parts of the standard library that a bare guest has no business with.
UNWANTED = {"asyncio", "http", "multiprocessing", "pickle", "sqlite3", "ssl", "subprocess", "urllib", "xml"}

PROGRAM = """
import json, sys
import kernel_runtime.workers.zygote_main
print(json.dumps(sorted(sys.modules)))
"""


def _bare_modules() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{PROGRAM}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    modules: list[str] = json.loads(done.stdout)
    return modules


def test_a_bare_guest_has_imported_only_what_is_listed() -> None:
    modules = _bare_modules()
    top = {name.partition(".")[0] for name in modules}
    foreign = top - set(sys.stdlib_module_names) - {"kernel_runtime", "__main__"}
    assert foreign <= LIBRARIES
    assert not top & UNWANTED
    rooms = {name.split(".")[1] for name in modules if name.startswith("kernel_runtime.")}
    assert rooms <= ROOMS


def test_no_shell_and_no_front_in_a_bare_guest() -> None:
    modules = _bare_modules()
    assert "kernel_runtime.guest.shell" not in modules
    assert not [name for name in modules if name.startswith(("kernel_runtime.jupyter", "IPython"))]
