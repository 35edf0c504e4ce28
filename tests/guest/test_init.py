"""Pid 1 where there is no process to be had."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from kernel_runtime.guest import init


def _full() -> NoReturn:
    raise BlockingIOError


def test_it_goes_on_where_another_branch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", _full)
    monkeypatch.setattr(init, "_ROOM_SECONDS", 0.01)
    first = object.__new__(init.Init)
    first._branches = {}
    assert first._forked(beside=True) is None
    with pytest.raises(BlockingIOError):
        first._forked(beside=False)
