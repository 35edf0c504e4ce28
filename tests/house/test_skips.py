"""The hook of tests/conftest.py: on CI a skip that nobody foresaw is a failure."""

from __future__ import annotations

import subprocess
import sys

import pytest

SUITE = """
import pytest

@pytest.mark.skip(reason="no chromium here")
def test_unforeseen(): ...

def test_in_the_middle():
    pytest.skip("no chromium here, either")

@pytest.mark.skip(reason="needs an aarch64 host")
def test_foreseen(): ...
"""


@pytest.mark.parametrize(("ci", "outcome"), [("true", "1 failed, 1 skipped, 1 error"), ("", "3 skipped")])
def test_a_skip_is_a_failure_on_ci_unless_its_reason_is_listed(root, tmp_path, ci, outcome):
    (tmp_path / "conftest.py").write_text((root / "tests/conftest.py").read_text())
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:nbval",
        "-c",
        "/dev/null",
        "--rootdir",
        tmp_path,
    ]
    environment = {"PATH": "/usr/bin:/bin", "CI": ci}
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True, timeout=60, env=environment)
    assert outcome in done.stdout, done.stdout + done.stderr
