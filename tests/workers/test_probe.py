"""What the host offers: found out by doing, kept, and never believed from somebody else's hand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from kernel_runtime.domain.level import Rung
from kernel_runtime.sandbox.rungs import Host
from kernel_runtime.workers import probe

if TYPE_CHECKING:
    from pathlib import Path

FOUND = Host(missing={Rung.NAMESPACES: {"net": "no"}, Rung.LANDLOCK: {}}, abi=7, cgroups="v1", held=("pids",))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    probe.host.cache_clear()
    yield tmp_path / "kernel-runtime" / "host.json"
    probe.host.cache_clear()


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often it was found out."""
    times: list[int] = []
    monkeypatch.setattr(probe, "probe", lambda: times.append(1) or FOUND)
    return times


def test_this_host_is_found_out_by_doing() -> None:
    found = probe.probe()
    assert set(found.missing) == set(Rung)
    assert "it was not tried" not in str(found)
    assert found.strongest is Rung.NAMESPACES, found.missing
    assert found.cgroups in ("v1", "v2 root", "v2 delegated", "hybrid", "none")
    assert (found.cgroups == "none") <= (found.held == ())


def test_it_is_asked_once_and_then_remembered(cache: Path, probed: list[int]) -> None:
    assert probe.host() == FOUND
    probe.host.cache_clear()
    assert probe.host() == FOUND
    assert probed == [1]
    assert cache.stat().st_mode & 0o777 == 0o600
    assert probe.refresh() == FOUND
    assert probed == [1, 1]


def test_other_circumstances_ask_again(
    cache: Path, probed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    probe.host()
    probe.host.cache_clear()
    setting = cache.parent / "setting"
    setting.write_text("0")
    monkeypatch.setattr(probe, "_SETTINGS", (*probe._SETTINGS, str(setting)))
    probe.host()
    probe.host.cache_clear()
    setting.write_text("1")
    probe.host()
    assert probed == [1, 1, 1]


def spoil_mode(cache: Path) -> None:
    cache.chmod(0o666)


def spoil_link(cache: Path) -> None:
    cache.rename(cache.with_name("elsewhere"))
    cache.symlink_to("elsewhere")


def spoil_text(cache: Path) -> None:
    cache.write_bytes(b"{")


def spoil_kind(cache: Path) -> None:
    cache.unlink()
    os.mkfifo(cache, 0o600)


def spoil_key(cache: Path) -> None:
    cache.write_bytes(msgspec.json.encode(probe._Remembered("another boot", FOUND)))


def spoil_owner(cache: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root")
    os.chown(cache, 1234, 1234)


@pytest.mark.parametrize("spoil", [spoil_mode, spoil_link, spoil_text, spoil_kind, spoil_key, spoil_owner])
def test_what_cannot_be_trusted_is_not(spoil: object, cache: Path, probed: list[int]) -> None:
    probe.host()
    probe.host.cache_clear()
    spoil(cache)
    assert probe.host() == FOUND
    assert probed == [1, 1]


def test_a_cache_that_cannot_be_written_stops_nothing(cache: Path, probed: list[int]) -> None:
    cache.parent.mkdir()
    cache.parent.chmod(0o777)
    assert probe.host() == FOUND
    assert not cache.exists(), "others could put theirs in its place"
