"""What the host says about huge pages is what its guests may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernel_runtime.sandbox import pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    pages.are_huge_allowed.cache_clear()
    yield
    pages.are_huge_allowed.cache_clear()


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        ("[always] madvise never\n", True),
        ("always [madvise] never\n", True),
        ("always madvise [never]\n", False),
        (None, False),
    ],
)
def test_never_and_unknown_are_no(
    said: str | None, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "enabled"
    if said is not None:
        file.write_text(said)
    monkeypatch.setattr(pages, "ENABLED", file)
    assert pages.are_huge_allowed() is allowed
