"""Each benchmark runs, with tiny counts, and what is written has the documented form."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from benchmarks import machine, profiles, suite  # noqa: F401 — they register what is tested
from benchmarks.bars import bars_of
from benchmarks.registry import BENCHMARKS, PROFILES
from tests.cases import each
from tests.conftest import unmeasured

KEYS = {"schema", "taken", "scale", "machine", "figures", "failed", "absent"}
FIGURE_KEYS = {"name", "what", "unit", "subjects", "ratios", "bars"}
SUBJECT_KEYS = {"median", "least", "most", "count", "values"}


def run(root, *arguments):
    command = [sys.executable, "-m", "benchmarks", "--tiny", *arguments]
    environment = {**unmeasured(os.environ), "COLUMNS": "160"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=280)


#: The others are slow.
QUICK = "start"


@pytest.mark.parametrize("name", each({name: name for name in BENCHMARKS}, lambda name: name != QUICK))
def test_a_benchmark_yields_every_figure_it_promises(root, tmp_path, name):
    out = tmp_path / "new" / "figures.json"
    done = run(root, "--only", name, "--json", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(out.read_text())
    assert document.keys() == KEYS
    assert document["failed"] == {}
    assert [f["name"] for f in document["figures"]] == [spec.name for spec in BENCHMARKS[name].figures]
    for figure in document["figures"]:
        check(figure)
        assert figure["name"] in done.stdout.replace("\n", "")


def check(figure):
    assert figure.keys() == FIGURE_KEYS
    assert "kernel_runtime" in figure["subjects"]
    for subject in figure["subjects"].values():
        assert subject.keys() == SUBJECT_KEYS
        assert subject["least"] <= subject["median"] <= subject["most"]
        assert subject["count"] == len(subject["values"])
    peers = {name for name, subject in figure["subjects"].items() if all(subject["values"])} - {
        "kernel_runtime"
    }
    assert figure["ratios"].keys() == peers
    assert len(figure["bars"]) == len(bars_of(figure["name"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_names_its_steps(root, name):
    done = run(root, "--profile", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert PROFILES[name].title in done.stdout


def test_what_is_said_of_the_machine_names_neither_hosts_nor_paths():
    text = json.dumps(machine.describe())
    assert os.uname().nodename not in text
    assert not re.search(r'"/', text)


def test_every_figure_and_profile_is_documented(root):
    page = (root / "docs/reference/benchmarks.md").read_text()
    figures = [spec.name for benchmark in BENCHMARKS.values() for spec in benchmark.figures]
    named = [*figures, *BENCHMARKS, *PROFILES]
    assert [name for name in named if f"`{name}`" not in page] == []
