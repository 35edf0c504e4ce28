"""The first thing that a front does: the process of a zygote."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from kernel_runtime import wire
from kernel_runtime.guest.channel import Channel
from kernel_runtime.workers.launch import BARE, Launch

if TYPE_CHECKING:
    from pathlib import Path


def test_a_terminals_interrupt_does_not_reach_it_before_it_can_ignore_one(tmp_path: Path) -> None:
    launch = Launch(list(BARE), str(tmp_path))
    try:
        assert os.getpgid(launch.pid) == launch.pid != os.getpgid(0)
    finally:
        launch.end()


def test_a_front_that_goes_without_reading_has_hung_up() -> None:
    """One with a setting that is none, say: it opens no guest, and does not look whether its zygote is there."""
    ours, theirs = socket.socketpair()
    zygote = Channel(theirs, wire.decode_to_zygote)
    zygote.send(wire.Booted(preloaded=[]))
    ours.close()
    assert zygote.receive() is None
    zygote.close()
