"""What a run leaves out is said, with the reason, and is never a figure."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as program
from benchmarks import kishu, sizes
from benchmarks.registry import ABSENT
from benchmarks.scale import FULL, QUICK, TINY


@pytest.fixture(autouse=True)
def nothing_left_out(monkeypatch):
    ABSENT.clear()
    monkeypatch.delenv(kishu.PYTHON, raising=False)
    yield
    ABSENT.clear()


def free(monkeypatch, gigabytes):
    memory = SimpleNamespace(available=gigabytes << 30)
    monkeypatch.setattr(sizes, "psutil", SimpleNamespace(virtual_memory=lambda: memory))


def test_large_states_belong_to_full_runs_on_machines_with_the_room(monkeypatch):
    free(monkeypatch, 64)
    assert [label for label, _ in sizes.sizes(FULL, "a", 3.0)] == ["10MB", "100MB", "1GB", "4GB"]
    assert not ABSENT
    assert [label for label, _ in sizes.sizes(QUICK, "a", 3.0)] == ["10MB", "100MB", "1GB"]
    assert ABSENT == {"a at 4GB": "measured in full runs only"}
    free(monkeypatch, 2)
    assert [label for label, _ in sizes.sizes(FULL, "b", 3.0)] == ["10MB", "100MB"]
    assert ABSENT["b at 4GB"] == "needs 12 GB of free memory"
    assert len(list(sizes.sizes(TINY, "c", 3.0))) == 4


def test_why_kishu_cannot_be_had():
    with pytest.raises(kishu.NotToBeHad, match=r"could not be imported: .*no_such_module"):
        kishu._attempt([sys.executable, "-c", "import no_such_module"], "be imported")


def test_a_run_without_the_kishu_it_was_asked_for_fails_and_says_why(monkeypatch, tmp_path):
    def prepare():
        raise kishu.NotToBeHad("kishu could not be installed: [no network]")

    monkeypatch.setattr(kishu, "prepare", prepare)
    out = tmp_path / "figures.json"
    arguments = ["--tiny", "--only", "decide", "--json", str(out)]
    done = CliRunner().invoke(program.main, [*arguments, "--kishu"])
    assert done.exit_code == 1
    assert "kishu (kishu could not be installed: [no network])" in done.output
    assert json.loads(out.read_text())["absent"] == {"kishu": "kishu could not be installed: [no network]"}
    ABSENT.clear()
    assert CliRunner().invoke(program.main, arguments).exit_code == 0, "not asked for"
