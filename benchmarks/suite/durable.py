"""Checkpoints on disk: the first, one after 1 % changed, one after nothing did, and the way back.

The peers write all of the state to a file each time and synchronise it; they have no increments.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import OURS, Reading, Spec
from benchmarks.kishu import KISHU, OFTEN, is_asked_for, notebook
from benchmarks.registry import benchmark
from benchmarks.sizes import SIZES, sizes
from benchmarks.states import change, state_of
from kernel_runtime import wire
from kernel_runtime.guest.channel import Channel
from kernel_runtime.guest.checkpoint_save import save  # before any fork, as in a warm zygote
from kernel_runtime.store.checkpoints import DiskStore
from kernel_runtime.store.keys import NoKey
from kernel_runtime.workers.checkpoints import SaveOrder, receive_checkpoint, send_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.scale import Scale

_MB = 1_000_000
#: The state, what its writer copies of it, and what comes back: so many times its size must be free.
_PILE = 3.0

_SPECS = tuple(
    spec
    for kind, what in (("arrays", "numpy arrays"), ("mix", "arrays, a frame and dicts"))
    for spec in (
        Spec(name=f"durable.{kind}_first", what=f"{what}: first checkpoint, on disk"),
        Spec(name=f"durable.{kind}_changed", what=f"{what}: 1 % changed, on disk"),
        Spec(name=f"durable.{kind}_same", what=f"{what}: nothing changed, on disk"),
        Spec(name=f"durable.{kind}_bytes", what=f"{what}: bytes that the change took on disk", unit="B"),
        Spec(name=f"durable.{kind}_restore", what=f"{what}: restored into another process"),
    )
)


@benchmark("durable", *_SPECS)
def durable(scale: Scale) -> Iterator[Reading]:
    """Each kind of state in turn, at ``scale.state`` megabytes."""
    for kind in ("arrays", "mix"):
        state = state_of(kind, scale.state)
        gc.collect()
        gc.freeze()
        try:
            with directory() as place:
                yield from _ours(kind, state, place, scale.rounds)
                yield from _peers(kind, state, place / "peer", scale.rounds)
            if is_asked_for():
                yield from _kishu(kind, scale)
        finally:
            gc.unfreeze()


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """On a disk: the temporary directory may be memory."""
    place = Path(tempfile.mkdtemp(dir="/var/tmp" if os.access("/var/tmp", os.W_OK) else None))
    try:
        yield place
    finally:
        shutil.rmtree(place)


def _ours(kind: str, state: dict[str, Any], place: Path, rounds: int) -> Iterator[Reading]:
    with contextlib.closing(DiskStore(place / "store", NoKey())) as store:
        yield Reading(f"durable.{kind}_first", OURS, _save(store, state))
        for turn in range(rounds):
            change(state, turn)
            yield Reading(f"durable.{kind}_changed", OURS, _save(store, state))
            yield Reading(f"durable.{kind}_bytes", OURS, store.checkpoints()[0].added)
            yield Reading(f"durable.{kind}_same", OURS, _save(store, state))
        for _ in range(min(rounds, 3)):
            yield Reading(f"durable.{kind}_restore", OURS, _restore(store))


def _save(store: DiskStore, state: dict[str, Any]) -> float:
    """Seconds from the fork of the writer until it is durable."""
    host, guest = socket.socketpair()
    begun = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        _write(guest, host, state)
    guest.close()
    kept = asyncio.run(receive_checkpoint(host, store, SaveOrder(key="benchmark")))
    taken = time.perf_counter() - begun
    os.waitpid(pid, 0)
    if kept.skipped or len(kept.names) != len(state):
        raise RuntimeError(f"not all was saved: {kept.skipped}")
    return taken


def _write(guest: socket.socket, host: socket.socket, state: dict[str, Any]) -> None:
    status = 1
    try:
        gc.disable()
        host.close()
        save(Channel(guest, wire.decode_to_writer), state)
        status = 0
    finally:
        os._exit(status)


def _restore(store: DiskStore) -> float:
    """Into a child that has imported the libraries, as a pristine branch has, and none of the state."""
    host, guest = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _read(guest, host)
    guest.close()
    begun = time.perf_counter()
    restored = asyncio.run(send_checkpoint(host, store, store.checkpoints()[0].id))
    taken = time.perf_counter() - begun
    os.waitpid(pid, 0)
    if restored.failed:
        raise RuntimeError(f"not all was restored: {restored.failed}")
    return taken


def _read(guest: socket.socket, host: socket.socket) -> None:
    status = 1
    try:
        from kernel_runtime.guest.checkpoint_load import load

        gc.disable()
        host.close()
        load(Channel(guest, wire.decode_to_loader), {})
        status = 0
    finally:
        os._exit(status)


def _peers(kind: str, state: dict[str, Any], file: Path, rounds: int) -> Iterator[Reading]:
    import cloudpickle
    import dill

    dumps: dict[str, Callable[..., None]] = {"cloudpickle": cloudpickle.dump, "dill": dill.dump}
    for turn in range(min(rounds, 3)):
        for name, dump in dumps.items():
            change(state, turn)
            begun = time.perf_counter()
            with file.open("wb") as out:
                dump(state, out, protocol=5)
                out.flush()
                os.fsync(out.fileno())
            yield Reading(f"durable.{kind}_changed", name, time.perf_counter() - begun)
            yield Reading(f"durable.{kind}_bytes", name, file.stat().st_size)
            begun = time.perf_counter()
            with file.open("rb") as source:
                pickle.load(source)
            yield Reading(f"durable.{kind}_restore", name, time.perf_counter() - begun)


_BY_SIZE = (
    ("changed", "1 % of a mix changed, on disk", "s"),
    ("bytes", "bytes that the change took on disk", "B"),
    ("restore", "restored into another process", "s"),
)


@benchmark(
    "durable_sizes",
    *(
        Spec(name=f"durable.{name}.{size}", what=f"{what}, {size}", unit=unit)
        for name, what, unit in _BY_SIZE
        for size in SIZES
    ),
)
def durable_sizes(scale: Scale) -> Iterator[Reading]:
    """The mix at each size; beside others, and with the first checkpoint, it is in ``durable``."""
    for label, size in sizes(scale, "durable", _PILE):
        state = state_of("mix", max(1, size // _MB))
        gc.collect()
        gc.freeze()
        try:
            with directory() as place:
                for reading in _ours("mix", state, place, 1):
                    name = reading.figure.removeprefix("durable.").removeprefix("mix_")
                    if name in {known for known, *_ in _BY_SIZE}:
                        yield Reading(f"durable.{name}.{label}", OURS, reading.value)
        finally:
            gc.unfreeze()
            del state


def _kishu(kind: str, scale: Scale) -> Iterator[Reading]:
    """Cells of a notebook under kishu, which takes a checkpoint after each; once: at 1 GB each takes minutes."""
    turns = 1 if scale.state * _MB > OFTEN else min(scale.rounds, 3)
    with notebook() as watched:
        watched.run("from benchmarks.states import change, state_of")
        seconds, _ = watched.run(f"globals().update(state_of({kind!r}, {scale.state}))")
        yield Reading(f"durable.{kind}_first", KISHU, seconds)
        watched.run(f"names = list(state_of({kind!r}, 1))")
        for turn in range(turns):
            code = f"change({{name: globals()[name] for name in names}}, {turn})"
            seconds, added = watched.run(code)
            yield Reading(f"durable.{kind}_changed", KISHU, seconds)
            yield Reading(f"durable.{kind}_bytes", KISHU, added)
            yield Reading(f"durable.{kind}_same", KISHU, watched.run("1 + 1")[0])
        yield Reading(f"durable.{kind}_restore", KISHU, watched.back(2, "a0[1]"))
