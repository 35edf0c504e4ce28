"""What a run leaves out is said, with the reason, and is never a figure."""

from __future__ import annotations

import contextlib
import json
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as program
from benchmarks import kishu, sizes
from benchmarks.registry import ABSENT
from benchmarks.scale import FULL, QUICK, TINY
from benchmarks.sizes import SIZES
from benchmarks.suite import branching, fifty


@pytest.fixture(autouse=True)
def nothing_left_out(monkeypatch):
    ABSENT.clear()
    monkeypatch.delenv(kishu.PYTHON, raising=False)
    monkeypatch.delenv(kishu.MOST, raising=False)
    monkeypatch.setattr(kishu, "_taken", {})
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


@pytest.fixture
def patient_kishu(monkeypatch):
    """A minute and a half for each state, by a clock of its own."""
    clock = iter(range(0, 9000, 90))
    monkeypatch.setattr(branching, "_under_kishu", lambda size: [("pause", float(size))])
    monkeypatch.setattr(branching.time, "perf_counter", lambda: float(next(clock)))


def beside(turn):
    return [
        reading.figure for label, size in SIZES.items() for reading in branching._beside(label, size, turn)
    ]


@pytest.mark.usefixtures("patient_kishu")
def test_where_kishu_is_left_out_it_is_told_how_long_it_took_with_less():
    assert beside(0) == ["branching.pause.10MB", "branching.pause.100MB"]
    told = "it took 1.5 minutes at 100MB; --kishu-most {0} measures it once"
    assert sorted(ABSENT.items()) == [
        (f"kishu in branching at {size}", told.format(size)) for size in ("1GB", "4GB")
    ]


@pytest.mark.usefixtures("patient_kishu")
def test_a_large_state_is_shown_to_kishu_once_when_asked_for(monkeypatch):
    monkeypatch.setenv(kishu.MOST, str(SIZES["1GB"]))
    assert beside(0)[-1] == "branching.pause.1GB"
    assert beside(1)[-1] == "branching.pause.100MB"
    assert list(ABSENT) == ["kishu in branching at 4GB"]


def test_what_a_run_took_most_of_its_time_for_is_told():
    took = {name: 60.0 * minutes for minutes, name in enumerate("abcdefg")}
    assert program._durations(took) == "Took 21.0 minutes: g 6.0, f 5.0, e 4.0, d 3.0, c 2.0, …"
    assert program._durations({"a": 30.0}) == "Took 0.5 minutes: a 0.5"


def test_fifty_snapshots_need_room(monkeypatch):
    memory = SimpleNamespace(available=1 << 30)
    monkeypatch.setattr(fifty, "psutil", SimpleNamespace(virtual_memory=lambda: memory))
    monkeypatch.setattr(fifty, "stand", contextlib.nullcontext)
    assert list(fifty.fifty(FULL)) == []
    assert list(ABSENT) == ["fifty: same", "fifty: churn_1", "fifty: churn_10"]
    assert set(ABSENT.values()) == {"needs 5 GB of free memory"}
