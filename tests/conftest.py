"""What holds for every test: on CI, a skip is a failure unless its reason is listed here."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

# A busy machine is no reason to fail: time is measured in benchmarks, never in a test.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("patient", _PATIENT)
settings.register_profile("long", _PATIENT, max_examples=20_000)  # make fuzz
settings.load_profile(os.environ.get("KERNEL_RUNTIME_HYPOTHESIS", "patient"))

ROOT = Path(__file__).resolve().parents[1]

#: Warm zygotes and ready guests are tested where they are the point; elsewhere they only take time.
os.environ.setdefault("KERNEL_RUNTIME_WARM", "0")
os.environ.setdefault("KERNEL_RUNTIME_READY", "0")

#: Nothing that a test keeps lands among what the person who runs it has kept. Each module gets its own, below.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="kernel-runtime-state-")

#: Why a test may be skipped even where everything can be installed.
KNOWN_REASONS = (
    r"needs an? \w+ host",  # another machine type, e.g. "needs an aarch64 host"
    r"needs (an? )?ordinary user",  # runs in the other half of CI
    r"needs root",
    r"needs Landlock ABI \d+",  # an older host kernel
    r"needs cgroup v[12]",
    r"needs a memory control group",
    r"came with Python 3\.\d+",
    r"needs a host with a network device",
    r"needs a kernel with ",  # attacks on what this one was built without
)


def pytest_configure() -> None:
    """A job in the background is deaf to Ctrl-C, and so would be all that tests press it on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_known(reason: str) -> bool:
    """Whether ``reason`` is one that CI accepts."""
    return any(re.search(known, reason) for known in KNOWN_REASONS)


def on_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    longrepr = report.longrepr
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


def _no_silent_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip that nobody foresaw into a failure: a suite that tests nothing must not be green."""
    if not on_ci() or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = _reason(report)
    if not is_known(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped on CI for a reason that tests/conftest.py does not list: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _no_silent_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _no_silent_skip(report)
    return report


def unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """Without coverage in the processes that get it: it makes a start up to twice as long, and what
    whole programs run has been measured by the tests of its rooms."""
    return {name: value for name, value in environment.items() if not name.startswith("COV")}


@pytest.fixture(scope="module", autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No module meets what another has kept or left running, whichever of them one process runs; and what it
    leaves open is found out there, not in whichever test is collected in later."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
    _end_runtimes()
    gc.collect()


def _end_runtimes() -> None:
    """Those that blocking sessions of this process share."""
    blocking = sys.modules.get("kernel_runtime.client.blocking")
    if blocking is not None and blocking._portal.cache_info().currsize:
        blocking.in_the_loop(blocking.close_runtimes())


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT
