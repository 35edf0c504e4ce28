"""Where the time of a kernel's start goes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.guests import Guest, Stand, stand
from benchmarks.kernels import SUBJECTS, house, kernel
from benchmarks.registry import profile
from benchmarks.turns import turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

_PROGRAMS = {
    "python -c pass": ("-c", "pass"),
    "… -I, the imports of the zygote": ("-I", "-c", "import kernel_runtime.workers.zygote_main"),
    "… what the kernel imports before it launches the zygote": (
        "-c", "import kernel_runtime.runtime, kernel_runtime.workers.zygote",
    ),
    "… and asyncio, zmq, the front": ("-c", "import kernel_runtime.runtime, asyncio, kernel_runtime.jupyter.front"),
    "… the guest's shell": ("-I", "-c", "import kernel_runtime.guest.shell as s; s.prepare()"),
    "… ipykernel's application": ("-c", "import ipykernel.kernelapp"),
}  # fmt: skip


@profile("start", "From the start of the process to the first result")
def start(scale: Scale) -> Iterator[tuple[str, float]]:
    """Interpreters with the imports of each part; then the parts; then the whole, in turns."""
    times: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    for name in turns(scale.rounds * 2, list(_PROGRAMS)):
        times[name].append(_program(_PROGRAMS[name]))
    for name, values in times.items():
        yield name, statistics.median(values)
    yield from _bare_zygote(scale)
    yield from _kernels(scale)


def _program(arguments: tuple[str, ...]) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True)
    return time.perf_counter() - begun


def _bare_zygote(scale: Scale) -> Iterator[tuple[str, float]]:
    moments: dict[str, list[float]] = {name: [] for name in ("boot", "born", "forked", "ready", "result")}
    for _ in range(scale.rounds):
        with stand(()) as ours:
            moments["boot"].append(ours.boot_seconds)
            one = ours.wait(_first(ours))
            for later, earlier in (
                ("born", "begun"),
                ("forked", "asked"),
                ("ready", "forked"),
                ("result", "ready"),
            ):
                moments[later].append(one.since(later, earlier))
    titles = ("bare zygote: launch → booted", "  spawn → Born", "  pid 1 imports and prepares the shell, forks",
              "  branch begins", "  first `1+1`")  # fmt: skip
    for title, values in zip(titles, moments.values(), strict=True):
        yield title, statistics.median(values)


async def _first(ours: Stand) -> Guest:
    one = Guest(ours, ours.plan())
    await one.be_born()
    await one.fork()
    await one.run("1+1")
    one.end()
    return one


def _kernels(scale: Scale) -> Iterator[tuple[str, float]]:
    spent: dict[str, list[float]] = {}
    with house():
        for subject in turns(scale.rounds, SUBJECTS):
            with kernel(subject) as started:
                launched = time.perf_counter()
                started.info()
                informed = time.perf_counter()
                started.reply(started.client.execute("1+1"))
                for title, seconds in (
                    ("start_kernel returns", launched - started.begun),
                    ("→ kernel_info reply", informed - started.begun),
                    ("→ first result", time.perf_counter() - started.begun),
                ):
                    spent.setdefault(f"{subject}: {title}", []).append(seconds)
    for title, values in sorted(spent.items()):
        yield title, statistics.median(values)
