"""The kernel, which takes a snapshot before each cell however long that takes on a busy machine.

Where ``PANEL_DIFF`` is set, a stand-in compares two snapshots. Run it as a file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kernel_runtime.domain.snapshot import Budget
from kernel_runtime.jupyter.kernel import RuntimeHouse, build_house, main
from kernel_runtime.jupyter.panels import differences
from kernel_runtime.jupyter.panels.differences import Difference

if TYPE_CHECKING:
    from kernel_runtime.domain.snapshot import Snapshot
    from kernel_runtime.jupyter.guest import House, Session
    from kernel_runtime.jupyter.settings import Settings

PATIENT, COMPARING = "patient", "comparing"
ROWS = (
    Difference(name="data", change="changed", before="list of 3", after="list of 4, [3] is 4"),
    Difference(
        name="extra", change="added", after="str <b>not bold</b><img src=x onerror='window.hacked=1'>"
    ),
    Difference(name="scratch", change="removed", before="ndarray float64 (1000, 1000), 7.63 MB"),
)


def install(prefix: Path) -> None:
    """Two kernelspecs of it, without and with the comparing."""
    for name, env in ((PATIENT, {}), (COMPARING, {"PANEL_DIFF": "1"})):
        place = prefix / "share" / "jupyter" / "kernels" / name
        place.mkdir(exist_ok=True)
        argv = [sys.executable, str(Path(__file__)), "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": "Python (kernel_runtime)", "language": "python", "env": env}
        (place / "kernel.json").write_text(json.dumps(spec | {"interrupt_mode": "message"}))


def patient_house() -> House:
    """The house, whose sessions have the patient budget."""
    house = build_house()
    assert isinstance(house, RuntimeHouse)
    open_session = house.open_session

    def patiently(settings: Settings) -> Session:
        session = open_session(settings)
        session.snapshots.set_budget(Budget(pause=3600))
        return session

    house.open_session = patiently
    return house


async def diff(first: Snapshot, second: Snapshot) -> tuple[Difference, ...]:
    """Always the same; its texts are hostile."""
    return ROWS


if __name__ == "__main__":
    if os.environ.get("PANEL_DIFF"):
        differences.by = lambda session: diff
    sys.exit(main(build=patient_house))
