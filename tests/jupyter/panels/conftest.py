"""Tests of panels run ipywidgets in this process, as the front does; what they change is put back."""

from __future__ import annotations

import sys

import comm
import pytest


@pytest.fixture(autouse=True)
def own_comms(monkeypatch):
    """``comm`` belongs to the test's stage for as long as the test runs."""
    _close_widgets()  # of others, which the stage does not know
    monkeypatch.setattr(comm, "create_comm", comm.create_comm)
    monkeypatch.setattr(comm, "get_comm_manager", comm.get_comm_manager)
    yield
    _close_widgets()


def _close_widgets():
    if "ipywidgets" in sys.modules:
        sys.modules["ipywidgets"].Widget.close_all()
